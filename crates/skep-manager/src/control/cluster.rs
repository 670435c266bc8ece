use skep_control::{Store, admission};
use skep_types::{Bytes64, Cluster, ErrorKind, JoinTokens, TlsInfo};

use super::{ClusterUpdate, Control, ControlError, Result};

impl Control {
    /// The swarm; signing keys, network keys, unlock keys and join tokens are left out.
    pub async fn cluster(&self) -> Result<Cluster> {
        let store = self.read()?;
        Ok(without_secrets(find(&store)?.clone()))
    }

    /// # Errors
    /// Besides those of admission: a root certificate or key that cannot be used.
    pub async fn update_cluster(&self, update: ClusterUpdate) -> Result<Cluster> {
        let updated = self.change(move |store, now, rng| {
            let root = crate::ca::changed_root(find(store)?, &update.spec.ca_config, now)?;
            let rotation = admission::KeyRotation {
                worker_join_token: update.rotate_worker_token,
                manager_join_token: update.rotate_manager_token,
                manager_unlock_key: update.rotate_manager_unlock_key,
            };
            let (version, spec) = (update.version, update.spec);
            Ok(((), admission::update_cluster(store, version, spec, rotation, root, now, rng)?))
        });
        let (store, ()) = updated.await?;
        Ok(without_secrets(find(&store)?.clone()))
    }

    pub async fn join_tokens(&self) -> Result<JoinTokens> {
        let store = self.read()?;
        Ok(find(&store)?.root_ca.join_tokens.clone())
    }

    /// The root that nodes trust, and who signs their certificates now: the next root while one is on its
    /// way. `None` if that cannot be read.
    pub async fn tls_info(&self) -> Result<Option<TlsInfo>> {
        let store = self.read()?;
        Ok(crate::ca::tls_info(&find(&store)?.root_ca))
    }

    /// `SWMKEY-1-…`, or empty when managers are not locked.
    pub async fn unlock_key(&self) -> Result<String> {
        let store = self.read()?;
        let key = find(&store)?.unlock_keys.first();
        Ok(key.map_or_else(String::new, |key| skep_pki::format_unlock_key(&key.key.0)))
    }
}

fn find(store: &Store) -> Result<&Cluster> {
    let missing = || ControlError::new(ErrorKind::NotFound, "cluster not found");
    store.cluster().map(AsRef::as_ref).ok_or_else(missing)
}

fn without_secrets(mut cluster: Cluster) -> Cluster {
    cluster.root_ca.ca_key = Bytes64::default();
    if let Some(rotation) = &mut cluster.root_ca.root_rotation {
        rotation.ca_key = Bytes64::default();
    }
    cluster.root_ca.join_tokens = JoinTokens::default();
    cluster.network_bootstrap_keys.clear();
    cluster.unlock_keys.clear();
    cluster.spec.ca_config.signing_ca_key.clear();
    cluster
}
