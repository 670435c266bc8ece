//! Settings that change while the engine runs.

use std::sync::PoisonError;

use bollard_stubs::models::{EventMessageScopeEnum as Scope, EventMessageTypeEnum as Type};
use skep_image::RegistryConfig;

use crate::config::Reloadable;
use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// What holds at the moment.
    pub fn reloadable(&self) -> Reloadable {
        self.inner.reloadable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces what can be replaced, and says so with the event `daemon reload`. Transfers of images
    /// that are under way end as they began.
    ///
    /// # Errors
    /// For a registry or mirror that makes no sense; everything is as before then.
    pub fn reload(&self, new: Reloadable) -> Result<()> {
        self.inner.images.set_registries(&RegistryConfig {
            insecure_registries: new.insecure_registries.clone(),
            mirrors: new.registry_mirrors.clone(),
            certs_dir: None,
        })?;
        let json = |list: &[String]| serde_json::Value::from(list).to_string();
        let mut attributes = vec![
            ("name".to_owned(), self.host_name()),
            ("debug".to_owned(), new.debug.to_string()),
            ("labels".to_owned(), json(&new.labels)),
            ("insecure-registries".to_owned(), json(&new.insecure_registries)),
            ("registry-mirrors".to_owned(), json(&new.registry_mirrors)),
        ];
        attributes.sort();
        *self.inner.reloadable.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.publish_event(Type::DAEMON, "reload", &self.inner.id, attributes, Scope::LOCAL);
        Ok(())
    }
}
