//! A container's network while it runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_stubs::models::{EventMessageScopeEnum as Scope, EventMessageTypeEnum as Type};
use skep_container::Handle;
use skep_net::{DnsOptions, EndpointInfo, ExtraHost, Network, SandboxId, SandboxMode, SandboxSpec};
use skep_types::check;

use super::cell::Container;
use super::ports;
use super::record::Record;
use crate::engine::Engine;
use crate::error::Result;
use crate::util;

impl Engine {
    /// Makes the sandbox of a container about to run, with its name files; no interfaces yet.
    pub(crate) async fn make_sandbox(
        &self,
        c: &Arc<Container>,
        record: &Record,
    ) -> Result<(SandboxId, PathBuf)> {
        let spec = sandbox_spec(c, record)?;
        let id = spec.id.clone();
        // Remembered first, so that a failure from here on removes it.
        c.change(|r| r.state.sandbox = Some(id.as_str().to_owned()));
        let info = self.inner.net.create_sandbox(spec).await?;
        Ok((id, info.key))
    }

    /// Attaches the sandbox to all networks of the container.
    pub(crate) async fn connect_all(
        &self,
        c: &Arc<Container>,
        sandbox: Option<&SandboxId>,
        record: &Record,
    ) -> Result<()> {
        let Some(sandbox) = sandbox else { return Ok(()) };
        // The networks `host` and `none` are what a sandbox is, not what it is attached to.
        let specs = match record.network_mode() {
            "host" | "none" => Vec::new(),
            _ => self.endpoint_specs(c, &record.attachments).await?,
        };
        if specs.is_empty() {
            return Ok(());
        }
        let endpoints = self.inner.net.connect(sandbox, specs).await?;
        self.announce_names(c, sandbox).await?;
        for endpoint in &endpoints {
            self.network_event(
                "connect",
                endpoint.network_id.as_str(),
                &endpoint.network_name,
                None,
                &record.id,
            );
        }
        Ok(())
    }

    /// Removes the sandbox of a container that does not run (any more).
    pub(crate) async fn drop_network(&self, c: &Arc<Container>, record: &Record) {
        if let Some(sandbox) = c.change(|r| r.state.sandbox.take()) {
            self.drop_sandbox(c, record, SandboxId::new(sandbox)).await;
        }
        self.release_grants(c).await;
    }

    async fn drop_sandbox(&self, c: &Arc<Container>, record: &Record, sandbox: SandboxId) {
        let endpoints = self.inner.net.sandbox(&sandbox).map(|s| s.endpoints).unwrap_or_default();
        if let Err(error) = self.inner.net.remove_sandbox(&sandbox).await {
            tracing::warn!(
                container = c.id,
                error = &error as &dyn std::error::Error,
                "could not remove a container's network"
            );
        }
        for endpoint in endpoints {
            self.network_event(
                "disconnect",
                endpoint.network_id.as_str(),
                &endpoint.network_name,
                None,
                &record.id,
            );
        }
    }

    /// Gives the resolver's sockets to the shim, so that a daemon that comes after this one takes
    /// them over without losing a query.
    pub(crate) fn hold_resolver(
        &self,
        c: &Arc<Container>,
        handle: &Handle,
        sandbox: Option<SandboxId>,
    ) {
        let Some(sandbox) = sandbox else { return };
        let (net, handle, id) = (self.inner.net.clone(), handle.clone(), c.id.clone());
        tokio::spawn(async move {
            let sockets = match net.dns_sockets(&sandbox) {
                Ok(sockets) if sockets.is_empty() => return,
                Ok(sockets) => sockets.into_iter().collect::<BTreeMap<_, _>>(),
                // It has ended already.
                Err(skep_net::NetError::SandboxNotFound(_)) => return,
                Err(error) => {
                    tracing::warn!(
                        container = id,
                        error = &error as &dyn std::error::Error,
                        "no resolver sockets to hold"
                    );
                    return;
                }
            };
            match handle.hold_fds(sockets).await {
                Ok(()) | Err(skep_container::ControlError::Gone { .. }) => {}
                Err(error) => {
                    tracing::warn!(
                        container = id,
                        error = &error as &dyn std::error::Error,
                        "the shim does not hold the resolver's sockets"
                    );
                }
            }
        });
    }

    /// Endpoints of a running container as they are; empty otherwise.
    pub(crate) fn endpoints(&self, record: &Record) -> Vec<EndpointInfo> {
        self.sandbox_info(record).map(|s| s.endpoints).unwrap_or_default()
    }

    /// The sandbox of a running container as it is.
    pub(crate) fn sandbox_info(&self, record: &Record) -> Option<skep_net::SandboxInfo> {
        let id = record.state.sandbox.as_ref()?;
        self.inner.net.sandbox(&SandboxId::new(id.clone())).ok()
    }

    /// The sandbox in the network room while the container runs, damaged or not.
    ///
    /// # Errors
    /// `NoSuchContainer`.
    pub fn container_sandbox(&self, container: &str) -> Result<Option<SandboxId>> {
        let c = self.inner.containers.find_any(container)?;
        Ok(c.read(|r| r.state.sandbox.clone()).map(SandboxId::new))
    }

    pub(crate) fn network_event(
        &self,
        action: &str,
        id: &str,
        name: &str,
        network: Option<&Network>,
        container: &str,
    ) {
        let kind = network
            .map(|n| n.driver.as_str())
            .or_else(|| self.inner.net.network(id).ok().map(|n| n.driver.as_str()))
            .unwrap_or("bridge");
        let mut attributes: std::collections::HashMap<String, String> =
            [("name".to_owned(), name.to_owned()), ("type".to_owned(), kind.to_owned())].into();
        if !container.is_empty() {
            attributes.insert("container".to_owned(), container.to_owned());
        }
        self.inner.events.publish(Type::NETWORK, action, id, attributes, Scope::LOCAL);
    }
}

fn sandbox_spec(c: &Arc<Container>, record: &Record) -> Result<SandboxSpec> {
    let host = &record.host_config;
    let servers = host.dns.iter().flatten().map(|server| check::nameserver(server));
    let extra_hosts =
        host.extra_hosts.iter().flatten().map(|entry| {
            check::extra_host(entry).map(|(name, address)| ExtraHost { name, address })
        });
    let exposed = record.exposed();
    let bindings = host.port_bindings.clone().unwrap_or_default();
    let of_host = record.network_mode() == "host";
    Ok(SandboxSpec {
        id: SandboxId::new(util::random_id()),
        container_id: record.id.clone(),
        container_name: record.name.clone(),
        hostname: record.config.hostname.clone().unwrap_or_default(),
        domainname: record.config.domainname.clone().unwrap_or_default(),
        mode: if of_host { SandboxMode::Host } else { SandboxMode::Isolated },
        dns: DnsOptions {
            servers: servers.collect::<Result<_, _>>()?,
            search: host.dns_search.clone().unwrap_or_default(),
            options: host.dns_options.clone().unwrap_or_default(),
        },
        extra_hosts: extra_hosts.collect::<Result<_, _>>()?,
        files_dir: c.dir.clone(),
        // Ports mean nothing in the host's namespace.
        ports: if of_host {
            Vec::new()
        } else {
            ports::specs(&bindings, &exposed, host.publish_all_ports.unwrap_or(false))?
        },
    })
}
