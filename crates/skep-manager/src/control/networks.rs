use skep_control::{admission, list};
use skep_types::{Network, NetworkSpec};

use super::{Control, ControlError, Filter, Result, reference};

impl Control {
    /// Swarm networks in the order of ids, the predefined `bridge` and `host` included (label
    /// [`skep_types::PREDEFINED_LABEL`]).
    pub async fn list_networks(&self, filter: &Filter) -> Result<Vec<Network>> {
        let store = self.read()?;
        let found = list::networks(&store, filter);
        Ok(found.iter().map(|network| Network::clone(network)).collect())
    }

    pub async fn get_network(&self, reference: &str) -> Result<Network> {
        let store = self.read()?;
        Ok(Network::clone(reference::network(&store, reference)?))
    }

    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Network> {
        let created =
            self.change(|store, now, rng| Ok(admission::create_network(store, spec, now, rng)?));
        let (store, id) = created.await?;
        let network = store.network(&id);
        let network = network.ok_or_else(|| ControlError::not_found("network", id.as_str()))?;
        Ok(Network::clone(network))
    }

    pub async fn remove_network(&self, reference: &str) -> Result<()> {
        let reference = reference.to_owned();
        let removed = self.change(move |store, now, _| {
            let id = reference::network(store, &reference)?.id.clone();
            Ok(((), admission::remove_network(store, &id, now)?))
        });
        removed.await.map(|_| ())
    }
}
