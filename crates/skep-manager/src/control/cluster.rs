use skep_control::{Store, admission};
use skep_types::{Bytes64, Cluster, JoinTokens};

use super::{ClusterUpdate, Control, ControlError, ControlErrorKind, Result};

impl Control {
    /// The swarm; signing keys, network keys, unlock keys and join tokens are left out.
    pub async fn cluster(&self) -> Result<Cluster> {
        let store = self.read()?;
        Ok(without_secrets(find(&store)?.clone()))
    }

    /// # Errors
    /// Besides those of admission: changing the root certificate is not possible yet.
    pub async fn update_cluster(&self, update: ClusterUpdate) -> Result<Cluster> {
        let updated = self.change(move |store, now, rng| {
            let old = &find(store)?.spec.ca_config;
            let new = &update.spec.ca_config;
            if new.force_rotate != old.force_rotate
                || new.signing_ca_cert != old.signing_ca_cert
                || new.signing_ca_key != old.signing_ca_key
                || new.external_cas != old.external_cas
            {
                return Err(ControlError::new(
                    ControlErrorKind::Unimplemented,
                    "changing the root certificate of a swarm is not supported yet",
                ));
            }
            let rotation = admission::KeyRotation {
                worker_join_token: update.rotate_worker_token,
                manager_join_token: update.rotate_manager_token,
                manager_unlock_key: update.rotate_manager_unlock_key,
            };
            let (version, spec) = (update.version, update.spec);
            Ok(((), admission::update_cluster(store, version, spec, rotation, None, now, rng)?))
        });
        let (store, ()) = updated.await?;
        Ok(without_secrets(find(&store)?.clone()))
    }

    pub async fn join_tokens(&self) -> Result<JoinTokens> {
        let store = self.read()?;
        Ok(find(&store)?.root_ca.join_tokens.clone())
    }

    /// `SWMKEY-1-…`, or empty when managers are not locked.
    pub async fn unlock_key(&self) -> Result<String> {
        let store = self.read()?;
        let key = find(&store)?.unlock_keys.first();
        Ok(key.map_or_else(String::new, |key| skep_pki::format_unlock_key(&key.key.0)))
    }
}

fn find(store: &Store) -> Result<&Cluster> {
    let missing = || ControlError::new(ControlErrorKind::NotFound, "cluster not found");
    store.cluster().map(AsRef::as_ref).ok_or_else(missing)
}

fn without_secrets(mut cluster: Cluster) -> Cluster {
    cluster.root_ca.ca_key = Bytes64::default();
    cluster.root_ca.root_rotation = None;
    cluster.root_ca.join_tokens = JoinTokens::default();
    cluster.network_bootstrap_keys.clear();
    cluster.unlock_keys.clear();
    cluster.spec.ca_config.signing_ca_key.clear();
    cluster
}
