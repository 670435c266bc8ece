//! Sandboxes: make, attach, detach, rename, adopt, remove.

use super::swarm::senders;
use super::{Net, first_error, new_id, now_unix_nanos};
use crate::cidr::Cidr;
use crate::dns::Sockets;
use crate::error::{NetError, Result};
use crate::ids::{EndpointId, SandboxId};
use crate::model::{
    EndpointInfo, EndpointSpec, SandboxAdoption, SandboxInfo, SandboxMode, SandboxSpec,
};
use crate::name_files;
use crate::plan::NsName;
use crate::state::{State, lock};
use crate::world::{Rotation, Sandbox, World};
use skep_sys::netns::NetNs;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::spawn_blocking;

impl Net {
    /// Makes a sandbox: namespace with loopback up, name files written. On failure
    /// nothing is left but, maybe, name files.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxInfo> {
        let id = spec.id.clone();
        let gateway = self.host_gateway();
        name_files::create(&spec, gateway)?;
        self.shared().change(|state| state.world.create_sandbox(spec))?;
        let made = match self.converge_stored([NsName::Sandbox(id.clone())]).await {
            Ok(()) => self.write_names(&id, &[]),
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            self.forget(&id)?;
            self.undo([NsName::Sandbox(id)]).await;
            return Err(error);
        }
        self.sandbox(&id)
    }

    /// The sandbox of a container, if it has one, and the name that the container has there.
    pub fn sandbox_of(&self, container: &str) -> Option<(SandboxId, String)> {
        self.shared().read(|world| {
            let mut all = world.running.sandboxes.iter();
            let (id, found) = all.find(|(_, s)| s.spec.container_id == container)?;
            Some((id.clone(), found.spec.container_name.clone()))
        })
    }

    /// A sandbox as it is.
    pub fn sandbox(&self, id: &SandboxId) -> Result<SandboxInfo> {
        let pins = self.shared().config.exec_root.join("netns");
        self.shared().read(|world| {
            let sandbox = find(world, id)?;
            let endpoints = sandbox.endpoints.iter().filter(|e| !e.hidden);
            Ok(SandboxInfo {
                id: id.clone(),
                key: key(&pins, sandbox),
                endpoints: endpoints.map(|e| world.endpoint_info(sandbox, e)).collect(),
                ports: sandbox.ports.clone(),
                embedded_dns: sandbox.wants_dns(world),
            })
        })
    }

    /// Attaches a sandbox to networks, in this order, all or none. Interfaces are
    /// numbered in the same order; where an overlay is among them, an endpoint on
    /// `docker_gwbridge` follows as the last. Published ports are bound when the
    /// first endpoint with a way in appears. A failure leaves everything as it was.
    pub async fn connect(
        &self,
        sandbox: &SandboxId,
        endpoints: Vec<EndpointSpec>,
    ) -> Result<Vec<EndpointInfo>> {
        let id = sandbox;
        let (before, made) = self.shared().change(|state| {
            let before = find(&state.world, id)?.clone();
            let made = state.world.connect(id, endpoints, now_unix_nanos(), &mut new_id)?;
            if let Err(error) = follow_gateway(state, id) {
                state.world.running.sandboxes.insert(id.clone(), before);
                return Err(error);
            }
            Ok((before, made))
        })?;
        let done = match self.serve_names(id).await {
            Ok(()) => self.converge_stored(self.concerned(id, &before)).await,
            Err(error) => Err(error),
        };
        let done = done.and_then(|()| self.write_names(id, &addresses(&before)));
        if let Err(error) = done {
            self.take_back(id, &made).await;
            return Err(error);
        }
        self.shared().read(|world| {
            let sandbox = find(world, id)?;
            let made = made.iter().filter_map(|m| sandbox.endpoints.iter().find(|e| e.id == *m));
            Ok(made.map(|e| world.endpoint_info(sandbox, e)).collect())
        })
    }

    /// Detaches a sandbox from one network (id, name or prefix). It is off the network whatever fails afterwards: what
    /// the kernel refused is tried again.
    pub async fn disconnect(&self, sandbox: &SandboxId, network: &str) -> Result<()> {
        let id = sandbox;
        let before = self.shared().change(|state| {
            let before = find(&state.world, id)?.clone();
            let changed = state
                .world
                .disconnect(id, network, now_unix_nanos(), &mut new_id)
                .and_then(|()| follow_gateway(state, id));
            if let Err(error) = changed {
                state.world.running.sandboxes.insert(id.clone(), before);
                return Err(error);
            }
            Ok(before)
        })?;
        self.follow(id, &before).await
    }

    /// Undoes a connection of which a later step failed. What else became of the sandbox meanwhile stays.
    async fn take_back(&self, id: &SandboxId, made: &[EndpointId]) {
        let taken = self.shared().change(|state| {
            let connected = find(&state.world, id)?.clone();
            state.world.take_endpoints(id, made, now_unix_nanos(), &mut new_id)?;
            follow_gateway(state, id)?;
            Ok(connected)
        });
        let undone = match taken {
            Ok(connected) => self.follow(id, &connected).await,
            Err(error) => Err(error),
        };
        match undone {
            // All of it went with the sandbox meanwhile, or now.
            Ok(()) | Err(NetError::SandboxNotFound(_)) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "undoing a failed change");
            }
        }
    }

    /// What follows once a sandbox is off networks on which it was `before`: each step, whatever becomes of the others.
    /// Fails with the first that could not be done.
    async fn follow(&self, id: &SandboxId, before: &Sandbox) -> Result<()> {
        let served = self.serve_names(id).await;
        let applied = self.converge(self.concerned(id, before)).await;
        let written = self.write_names(id, &addresses(before));
        served.and(applied).and(written)
    }

    /// Removes a sandbox with its endpoints, ports and namespace. An unknown one is
    /// not an error.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        let Some(before) = self.forget(id)? else { return Ok(()) };
        let own = self.concerned(id, &before);
        let mut names = own.clone();
        if before.rotation == Rotation::In {
            // It ended unannounced, and nobody is to be sent to it any more.
            self.shared().read(|world| {
                let networks = before.endpoints.iter().map(|e| &e.network);
                names.extend(networks.flat_map(|network| senders(world, network)));
            });
        }
        // Somebody else's namespace that is broken is no reason not to remove this one.
        let results = self.bring(names).await?;
        first_error(results.into_iter().filter(|(name, _)| own.contains(name)))
    }

    /// Takes note of a container's new name.
    pub async fn rename(&self, id: &SandboxId, name: &str) -> Result<()> {
        let before = self.set_name(id, name)?;
        // Nothing in the kernel knows names, but the new one must be stored.
        let stored = self.converge_stored([]).await;
        if stored.is_err() {
            self.set_name(id, &before)?;
        }
        stored
    }

    /// The name that it had.
    fn set_name(&self, id: &SandboxId, name: &str) -> Result<String> {
        self.shared().change(|state| {
            let missing = || NetError::SandboxNotFound(id.to_string());
            let sandbox = state.world.sandbox_mut(id).ok_or_else(missing)?;
            Ok(std::mem::replace(&mut sandbox.spec.container_name, name.to_owned()))
        })
    }

    /// Duplicates of the resolver's sockets in a sandbox, for a process that
    /// outlives the daemon to hold. Empty where names are not resolved.
    pub fn dns_sockets(&self, id: &SandboxId) -> Result<Vec<(String, OwnedFd)>> {
        self.shared().read(|world| find(world, id).map(|_| ()))?;
        self.inner.resolver.duplicates(id)
    }

    /// Tells which sandboxes of an earlier daemon are still in use. Those get their
    /// resolver back; all others are removed. To be called once after start.
    /// Returns the ids that were asked for but are not known (to be made anew).
    pub async fn adopt(&self, in_use: Vec<SandboxAdoption>) -> Result<Vec<SandboxId>> {
        let wanted: BTreeSet<SandboxId> = in_use.iter().map(|a| a.id.clone()).collect();
        let known: BTreeSet<SandboxId> =
            self.shared().read(|w| w.running.sandboxes.keys().cloned().collect());
        for id in known.difference(&wanted) {
            self.forget(id)?;
        }
        let unknown = wanted.difference(&known).cloned().collect();
        let all = || known.iter().cloned().map(NsName::Sandbox).chain([NsName::Host]).collect();
        // Sockets are opened inside, which the loop's first round may not have come to.
        self.bring(all()).await?;
        for adoption in in_use.into_iter().filter(|a| known.contains(&a.id)) {
            let id = adoption.id.clone();
            if let Err(error) = self.adopt_names(adoption).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(sandbox = %id, error, "names are not resolved in a sandbox");
            }
        }
        // One that is broken is that container's trouble, and logged.
        self.bring(all()).await?;
        Ok(unknown)
    }

    /// Goes on resolving names in a sandbox of an earlier daemon.
    async fn adopt_names(&self, adoption: SandboxAdoption) -> Result<()> {
        let id = adoption.id;
        if let Some(sockets) = Sockets::take_back(adoption.dns_sockets) {
            let expected = self.shared().read(|w| w.sandbox(&id).and_then(|s| s.dns_ports));
            // Others than the rules lead to would never be asked.
            if expected.is_some() && sockets.ports().ok() == expected {
                self.inner.resolver.serve(&id, self.handle(&id).ok(), sockets)?;
            }
        }
        self.serve_names(&id).await
    }

    /// Opens the resolver's sockets for a sandbox that needs them and has none, and
    /// closes those of one that needs none any more.
    async fn serve_names(&self, id: &SandboxId) -> Result<()> {
        let wanted = self.shared().read(|world| find(world, id).map(|s| s.wants_dns(world)))?;
        if !wanted {
            self.inner.resolver.stop(id);
            return self.set_dns_ports(id, None);
        }
        if self.inner.resolver.serves(id) {
            return Ok(());
        }
        let ns = self.handle(id)?;
        let (handle, sandbox) = (Arc::clone(&ns), id.clone());
        let sockets = spawn_blocking(move || Sockets::open(&handle, &sandbox))
            .await
            .map_err(|_| NetError::Closed)??;
        let ports = sockets
            .ports()
            .map_err(|source| NetError::DnsSocket { sandbox: id.to_string(), source })?;
        self.inner.resolver.serve(id, Some(ns), sockets)?;
        self.set_dns_ports(id, Some(ports))
    }

    /// A sandbox's namespace, which is open once the loop came to it.
    fn handle(&self, id: &SandboxId) -> Result<Arc<NetNs>> {
        let name = NsName::Sandbox(id.clone());
        let handle = lock(&self.shared().handles).get(&name).cloned();
        handle.ok_or_else(|| NetError::SandboxNotFound(id.to_string()))
    }

    fn set_dns_ports(&self, id: &SandboxId, ports: Option<(u16, u16)>) -> Result<()> {
        self.shared().change(|state| {
            if let Some(sandbox) = state.world.sandbox_mut(id) {
                sandbox.dns_ports = ports;
            }
            Ok(())
        })
    }

    /// Brings the name files up to date.
    fn write_names(&self, id: &SandboxId, before: &[Cidr]) -> Result<()> {
        let (sandbox, now, embedded) = self.shared().read(|world| {
            let sandbox = find(world, id)?;
            let ingress = world.ingress().map(|n| n.id.clone());
            let named = sandbox
                .endpoints
                .iter()
                .filter(|e| !e.hidden && Some(&e.network) != ingress.as_ref());
            let now: Vec<Cidr> = named.map(|e| e.address).collect();
            Ok::<_, NetError>((sandbox.clone(), now, sandbox.wants_dns(world)))
        })?;
        let config = &self.shared().config;
        if sandbox.spec.mode == SandboxMode::Isolated {
            name_files::own_addresses(&sandbox.spec, before, &now)?;
        }
        let text =
            name_files::resolv_conf(&sandbox.spec, &config.resolv_conf, &config.dns, embedded)?;
        let written = name_files::update_resolv_conf(&sandbox.spec, &sandbox.resolv_conf, text)?;
        if written == sandbox.resolv_conf {
            return Ok(());
        }
        self.shared().change(|state| {
            if let Some(sandbox) = state.world.sandbox_mut(id) {
                sandbox.resolv_conf = written;
            }
            Ok(())
        })
    }

    /// Takes a sandbox out of the world.
    fn forget(&self, id: &SandboxId) -> Result<Option<Arc<Sandbox>>> {
        self.inner.resolver.stop(id);
        self.shared().change(|state| {
            state.ports.release(id);
            Ok(state.world.running.sandboxes.remove(id))
        })
    }

    /// The namespaces that a change to a sandbox touches: its own, those its cables
    /// end in, whatever came or went with its overlays, and the mesh, whose turns it
    /// may have been in.
    fn concerned(&self, id: &SandboxId, before: &Sandbox) -> BTreeSet<NsName> {
        let mut names = BTreeSet::from([NsName::Sandbox(id.clone()), NsName::Host]);
        self.shared().read(|world| {
            let now = world.sandbox(id).into_iter().flat_map(|s| &s.endpoints);
            for endpoint in before.endpoints.iter().chain(now) {
                if world.running.overlays.contains_key(&endpoint.network) {
                    names.insert(NsName::Overlay(endpoint.network.clone()));
                    names.insert(NsName::Balancer(endpoint.network.clone()));
                    names.insert(NsName::Ingress);
                }
            }
        });
        names
    }

    fn host_gateway(&self) -> Option<Ipv4Addr> {
        self.shared().config.host_gateway.or_else(|| {
            self.shared().read(|world| {
                let bridge = world.networks.values().find(|n| n.is_default_bridge())?;
                bridge.subnets.first()?.gateway
            })
        })
    }
}

fn find<'a>(world: &'a World, id: &SandboxId) -> Result<&'a Arc<Sandbox>> {
    world.sandbox(id).ok_or_else(|| NetError::SandboxNotFound(id.to_string()))
}

fn key(pins: &Path, sandbox: &Sandbox) -> PathBuf {
    match sandbox.spec.mode {
        SandboxMode::Host => pins.join(crate::apply::HOST_PIN),
        SandboxMode::Isolated => pins.join(sandbox.spec.id.short(12)),
    }
}

fn addresses(sandbox: &Sandbox) -> Vec<Cidr> {
    sandbox.endpoints.iter().map(|e| e.address).collect()
}

/// Binds a sandbox's ports once it has a way in, and lets go of them when it has
/// none any more. The first port's network may say where to bind by default.
fn follow_gateway(state: &mut State, id: &SandboxId) -> Result<()> {
    let sandbox = find(&state.world, id)?;
    let binding = sandbox.gateway(&state.world).map(|(endpoint, _)| {
        let network = state.world.networks.get(&endpoint.network);
        let own = network.and_then(|n| n.options.get(crate::model::option_keys::HOST_BINDING));
        own.and_then(|v| v.parse().ok()).unwrap_or(state.world.facts.default_binding)
    });
    let ports = match binding {
        Some(default) if sandbox.ports.is_empty() && !sandbox.spec.ports.is_empty() => {
            let spec = sandbox.spec.clone();
            state.ports.publish(id, &spec.container_name, &spec.ports, default)?
        }
        Some(_) => return Ok(()),
        None => {
            state.ports.release(id);
            Vec::new()
        }
    };
    if let Some(sandbox) = state.world.sandbox_mut(id) {
        sandbox.ports = ports;
    }
    Ok(())
}
