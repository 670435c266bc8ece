use skep_control::{admission, list};
use skep_types::{Bytes64, Config, ConfigSpec, Secret, SecretSpec, Version};

use super::{Control, ControlError, Filter, Result, reference};

/// Secrets; their data never leaves the manager by this API.
impl Control {
    pub async fn list_secrets(&self, filter: &Filter) -> Result<Vec<Secret>> {
        let store = self.read()?;
        let found = list::secrets(&store, filter);
        Ok(found.iter().map(|secret| without_data(secret)).collect())
    }

    pub async fn get_secret(&self, reference: &str) -> Result<Secret> {
        let store = self.read()?;
        Ok(without_data(reference::secret(&store, reference)?))
    }

    pub async fn create_secret(&self, spec: SecretSpec) -> Result<Secret> {
        let created =
            self.change(|store, now, rng| Ok(admission::create_secret(store, spec, now, rng)?));
        let (store, id) = created.await?;
        let secret = store.secret(&id);
        Ok(without_data(secret.ok_or_else(|| ControlError::not_found("secret", id.as_str()))?))
    }

    /// Only labels can change.
    pub async fn update_secret(
        &self,
        reference: &str,
        version: Version,
        spec: SecretSpec,
    ) -> Result<Secret> {
        let reference = reference.to_owned();
        let updated = self.change(move |store, now, _| {
            let id = reference::secret(store, &reference)?.id.clone();
            let actions = admission::update_secret(store, &id, version, spec, now)?;
            Ok((id, actions))
        });
        let (store, id) = updated.await?;
        let secret = store.secret(&id);
        Ok(without_data(secret.ok_or_else(|| ControlError::not_found("secret", id.as_str()))?))
    }

    pub async fn remove_secret(&self, reference: &str) -> Result<()> {
        let reference = reference.to_owned();
        let removed = self.change(move |store, now, _| {
            let id = reference::secret(store, &reference)?.id.clone();
            Ok(((), admission::remove_secret(store, &id, now)?))
        });
        removed.await.map(|_| ())
    }
}

fn without_data(secret: &Secret) -> Secret {
    let mut secret = secret.clone();
    secret.spec.data = Bytes64::default();
    secret
}

/// Configs.
impl Control {
    pub async fn list_configs(&self, filter: &Filter) -> Result<Vec<Config>> {
        let store = self.read()?;
        let found = list::configs(&store, filter);
        Ok(found.iter().map(|config| Config::clone(config)).collect())
    }

    pub async fn get_config(&self, reference: &str) -> Result<Config> {
        let store = self.read()?;
        Ok(Config::clone(reference::config(&store, reference)?))
    }

    pub async fn create_config(&self, spec: ConfigSpec) -> Result<Config> {
        let created =
            self.change(|store, now, rng| Ok(admission::create_config(store, spec, now, rng)?));
        let (store, id) = created.await?;
        let config = store.config(&id);
        Ok(Config::clone(config.ok_or_else(|| ControlError::not_found("config", id.as_str()))?))
    }

    /// Only labels can change.
    pub async fn update_config(
        &self,
        reference: &str,
        version: Version,
        spec: ConfigSpec,
    ) -> Result<Config> {
        let reference = reference.to_owned();
        let updated = self.change(move |store, now, _| {
            let id = reference::config(store, &reference)?.id.clone();
            let actions = admission::update_config(store, &id, version, spec, now)?;
            Ok((id, actions))
        });
        let (store, id) = updated.await?;
        let config = store.config(&id);
        Ok(Config::clone(config.ok_or_else(|| ControlError::not_found("config", id.as_str()))?))
    }

    pub async fn remove_config(&self, reference: &str) -> Result<()> {
        let reference = reference.to_owned();
        let removed = self.change(move |store, now, _| {
            let id = reference::config(store, &reference)?.id.clone();
            Ok(((), admission::remove_config(store, &id, now)?))
        });
        removed.await.map(|_| ())
    }
}
