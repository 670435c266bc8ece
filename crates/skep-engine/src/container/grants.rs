//! Places on networks that are not this host's own: asked for before a container is connected, given
//! back once it is off the network.
//!
//! The record keeps what was granted, so that a daemon that comes after this one knows. What a crash
//! takes with it the provider finds out by [`Engine::keeps_network_grant`].

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use skep_net::{EndpointSpec, NetError, SandboxId, Scope};
use tokio::sync::watch;

use super::attachment::Attachment;
use super::cell::Container;
use super::record::Record;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::provider::{NetworkGrant, NetworkProvider, NetworkWish};

/// How long a container that its restart policy starts waits for the provider of its networks. It is
/// set soon after the engine's start, if ever.
const PROVIDER_LIMIT: Duration = Duration::from_secs(30);

impl Engine {
    /// Says who gives places on networks that are not this host's own. To be called once, soon after
    /// the start; containers that need it before fail, or wait if they are started by policy.
    pub fn set_network_provider(&self, provider: Arc<dyn NetworkProvider>) {
        self.inner.provider.send_replace(Some(provider));
    }

    /// Whether a container is using a grant, or may be just about to. What it does not keep now it
    /// will never use.
    pub fn keeps_network_grant(&self, container: &str, grant: &str) -> bool {
        self.inner.containers.find_any(container).is_ok_and(|c| {
            // Of a damaged one nobody knows.
            c.is_damaged()
                || c.live(|l| l.attaching)
                || c.read(|r| r.state.grants.iter().any(|g| g.id == grant))
        })
    }

    /// Changes whenever [`Engine::keeps_network_grant`] may have another answer.
    pub fn network_grants(&self) -> watch::Receiver<u64> {
        self.inner.grants.subscribe()
    }

    /// Takes a container off the network of a grant that the provider has withdrawn. Nothing happens
    /// if the container does not keep it (any more).
    ///
    /// # Errors
    /// When the kernel says no; it can be repeated.
    pub async fn withdraw_network_grant(&self, container: &str, grant: &str) -> Result<()> {
        match self.inner.containers.find(container) {
            Ok(c) => self.withdraw(&c, |g| g.id == grant).await,
            Err(_) => Ok(()),
        }
    }

    /// Takes all containers off all networks that were granted to them, as when the provider has
    /// ceased to be. All are tried; the first failure is returned, and it can be repeated.
    ///
    /// # Errors
    /// When the kernel says no.
    pub async fn withdraw_network_grants(&self) -> Result<()> {
        let all = self.inner.containers.all();
        join_all(all.iter().map(|c| self.withdraw(c, |_| true))).await.into_iter().collect()
    }

    async fn withdraw(
        &self,
        c: &Arc<Container>,
        which: impl Fn(&NetworkGrant) -> bool,
    ) -> Result<()> {
        if !c.read(|r| r.state.grants.iter().any(&which)) {
            return Ok(());
        }
        let _op = c.op.lock().await;
        let record = c.record();
        for grant in record.state.grants.iter().filter(|g| which(g)) {
            let network = self.inner.net.network(&grant.network).ok();
            if let Some(sandbox) = record.state.sandbox.clone() {
                match self.inner.net.disconnect(&SandboxId::new(sandbox), &grant.network).await {
                    Ok(()) => {
                        let name = network.as_ref().map_or(grant.network.as_str(), |n| &n.name);
                        self.network_event(
                            "disconnect",
                            &grant.network,
                            name,
                            network.as_ref(),
                            &c.id,
                        );
                    }
                    Err(
                        NetError::NotConnected { .. }
                        | NetError::NetworkNotFound(_)
                        | NetError::SandboxNotFound(_),
                    ) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let place =
                self.position(&record, &grant.network).map(|at| record.attachments[at].clone());
            c.change(|r| {
                r.state.grants.retain(|g| g.id != grant.id);
                r.attachments.retain(|a| Some(a) != place.as_ref());
            });
            tracing::info!(
                container = c.id,
                network = grant.network,
                "a container's network was withdrawn"
            );
        }
        self.grants_changed();
        c.save_or_warn().await;
        Ok(())
    }

    /// What the network room is to be asked for, with places on other networks granted first. Those
    /// are in the record then, also after a failure; [`Engine::release_grants`] gives back what came
    /// to no use.
    pub(crate) async fn endpoint_specs(
        &self,
        c: &Arc<Container>,
        attachments: &[Attachment],
    ) -> Result<Vec<EndpointSpec>> {
        let mut specs = Vec::with_capacity(attachments.len());
        for attachment in attachments {
            let spec = attachment.spec()?;
            specs.push(if self.is_own(attachment)? { spec } else { self.granted(c, spec).await? });
        }
        Ok(specs)
    }

    /// Whether a place on the network needs nobody's grant: it is this host's own network, or a swarm
    /// has made the container and brought the address along.
    fn is_own(&self, attachment: &Attachment) -> Result<bool> {
        if attachment.service.is_some() {
            return Ok(true);
        }
        match self.inner.net.network(&attachment.network) {
            Ok(network) => Ok(network.scope == Scope::Local),
            Err(NetError::NetworkNotFound(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn granted(&self, c: &Arc<Container>, mut spec: EndpointSpec) -> Result<EndpointSpec> {
        let provider = self.inner.provider.borrow().clone();
        let Some(provider) = provider else {
            return Err(NetError::NetworkNotFound(spec.network).into());
        };
        let wish = NetworkWish {
            network: spec.network.clone(),
            container: c.id.clone(),
            address: spec.ipv4,
        };
        c.live(|l| l.attaching = true);
        let granted = provider.attach(&wish).await;
        if let Ok(grant) = &granted {
            c.change(|r| r.state.grants.push(grant.clone()));
        }
        c.live(|l| l.attaching = false);
        self.grants_changed();
        let grant = granted?;
        // A daemon that comes after this one must know before the container uses it.
        c.save().await?;
        tracing::info!(container = c.id, network = spec.network, address = %grant.address, "a place on a network was granted");
        spec.network = grant.network;
        spec.ipv4 = Some(grant.address);
        Ok(spec)
    }

    /// Gives back the grants of networks that the container is not (any more) on. The record is saved
    /// by whoever changed the container.
    pub(crate) async fn release_grants(&self, c: &Arc<Container>) {
        if c.read(|r| r.state.grants.is_empty()) {
            return;
        }
        let endpoints = self.endpoints(&c.record());
        let released = c.change(|r| {
            let (kept, released) = std::mem::take(&mut r.state.grants)
                .into_iter()
                .partition(|g| endpoints.iter().any(|e| e.network_id.as_str() == g.network));
            r.state.grants = kept;
            released
        });
        self.grants_changed();
        // Without one, the next one finds out by itself that nobody keeps them.
        let Some(provider) = self.inner.provider.borrow().clone() else { return };
        let released: Vec<NetworkGrant> = released;
        join_all(released.iter().map(|grant| provider.detach(grant))).await;
    }

    /// Makes the names of a container known on the networks that were granted to it. Tasks come into
    /// rotation when whoever runs them finds them healthy.
    pub(crate) async fn announce_names(
        &self,
        c: &Arc<Container>,
        sandbox: &SandboxId,
    ) -> Result<()> {
        if c.read(|r| r.state.grants.is_empty()) {
            return Ok(());
        }
        self.inner.net.enable_service(sandbox).await.map_err(EngineError::from)
    }

    /// Waits for the provider of a container's networks, if it has such.
    pub(crate) async fn networks_at_hand(&self, record: &Record) {
        let own = |a: &Attachment| self.is_own(a).unwrap_or(true);
        if record.attachments.iter().all(own) {
            return;
        }
        let mut provider = self.inner.provider.subscribe();
        if tokio::time::timeout(PROVIDER_LIMIT, provider.wait_for(Option::is_some)).await.is_err() {
            tracing::warn!(container = record.id, "nobody provides a container's networks");
        }
    }

    /// Whether a network that this host does not know may exist all the same.
    pub(crate) fn has_other_networks(&self) -> bool {
        self.inner.provider.borrow().as_ref().is_some_and(|p| p.has_networks())
    }

    /// Forgets the grants of a container that does not run, without telling: after a crash.
    pub(crate) fn forget_grants(&self, c: &Container) {
        if c.read(|r| !r.state.grants.is_empty()) {
            c.change(|r| r.state.grants.clear());
            self.grants_changed();
        }
    }

    fn grants_changed(&self) {
        self.inner.grants.send_modify(|count| *count = count.wrapping_add(1));
    }
}
