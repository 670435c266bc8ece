//! Networks in the API's shapes; the work is the network room's.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bollard_stubs::models::{
    EndpointResource, EndpointSettings, EventMessageScopeEnum as Scope,
    EventMessageTypeEnum as Type, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkCreateResponse, NetworkDisconnectRequest, NetworkInspect, NetworkPruneResponse,
    NetworkSummary, PeerInfo,
};
use skep_net::{Cidr, IpamSpec, NetError, Network, NetworkCreate, SandboxId};
use time::OffsetDateTime;

use crate::container::{Attachment, Container, Phase, Record};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::filters::Filters;
use crate::util;
use crate::volume::api::label_filters;

impl Engine {
    /// Makes a local network.
    ///
    /// # Errors
    /// `Invalid`, `Conflict` for a name in use, `Forbidden` for predefined names and overlapping
    /// subnets; `NotFound` for drivers other than `bridge`.
    pub async fn network_create(
        &self,
        request: NetworkCreateRequest,
    ) -> Result<NetworkCreateResponse> {
        let driver = request.driver.clone().unwrap_or_default();
        if !matches!(driver.as_str(), "" | "bridge" | "host" | "null" | "none" | "overlay") {
            return Err(EngineError::NotFound(format!(
                "error looking up network plugin {driver}: plugin \"{driver}\" not found"
            )));
        }
        if request.config_only.unwrap_or(false)
            || request
                .config_from
                .as_ref()
                .is_some_and(|c| c.network.as_deref().is_some_and(|n| !n.is_empty()))
        {
            return Err(EngineError::NotImplemented(
                "configuration-only networks are not supported".into(),
            ));
        }
        if request.enable_ipv4 == Some(false) {
            return Err(EngineError::invalid("IPv4 cannot be disabled: only IPv4 is served"));
        }
        let ipam = request.ipam.clone().unwrap_or_default();
        if !matches!(ipam.driver.as_deref().unwrap_or(""), "" | "default") {
            let name = ipam.driver.unwrap_or_default();
            return Err(EngineError::NotFound(format!(
                "error looking up IPAM plugin {name}: plugin \"{name}\" not found"
            )));
        }
        let mut specs = Vec::new();
        for config in ipam.config.iter().flatten() {
            specs.extend(ipam_spec(config)?);
        }
        let network = self
            .inner
            .net
            .create_network(NetworkCreate {
                name: request.name,
                driver,
                ipam: specs,
                ipam_options: ipam.options.unwrap_or_default().into_iter().collect(),
                internal: request.internal.unwrap_or(false),
                attachable: request.attachable.unwrap_or(false),
                enable_ipv6: request.enable_ipv6.unwrap_or(false),
                options: request.options.unwrap_or_default().into_iter().collect(),
                labels: request.labels.unwrap_or_default().into_iter().collect(),
            })
            .await?;
        self.network_event("create", network.id.as_str(), &network.name, Some(&network), "");
        Ok(NetworkCreateResponse { id: network.id.as_str().to_owned(), warning: String::new() })
    }

    /// Networks by filter: `name id driver type scope label label! dangling`.
    ///
    /// # Errors
    /// `Invalid` for other filters and values.
    pub async fn network_list(&self, filters: &Filters) -> Result<Vec<NetworkSummary>> {
        filters
            .validate(&["name", "id", "driver", "type", "scope", "label", "label!", "dangling"])?;
        if let Some(bad) =
            filters.get("type").iter().find(|t| !matches!(t.as_str(), "builtin" | "custom"))
        {
            return Err(EngineError::Invalid(format!("invalid filter: 'type'='{bad}'")));
        }
        let dangling =
            if filters.has("dangling") { Some(filters.flag("dangling", false)?) } else { None };
        let used = self.networks_in_use();
        Ok(self
            .inner
            .net
            .networks()
            .iter()
            .filter(|n| {
                let kind = if n.is_predefined() { "builtin" } else { "custom" };
                let labels: HashMap<String, String> = n.labels.clone().into_iter().collect();
                filters.prefix("id", n.id.as_str())
                    && filters.fuzzy("name", &n.name)
                    && filters.exact("driver", n.driver.as_str())
                    && filters.exact("type", kind)
                    && filters.exact("scope", scope(n))
                    && label_filters(filters, &labels)
                    && dangling
                        .is_none_or(|d| !n.is_predefined() && d != used.contains(n.id.as_str()))
            })
            .map(summary)
            .collect())
    }

    /// A network with what is on it on this host.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn network_inspect(&self, network: &str, _verbose: bool) -> Result<NetworkInspect> {
        let found = self.inner.net.inspect(network)?;
        let n = &found.network;
        let containers = found
            .containers
            .iter()
            .map(|(id, c)| {
                let endpoint = EndpointResource {
                    name: Some(c.name.clone()),
                    endpoint_id: Some(c.endpoint.as_str().to_owned()),
                    mac_address: Some(c.mac.to_string()),
                    ipv4_address: Some(c.ipv4.to_string()),
                    ipv6_address: Some(String::new()),
                };
                (id.clone(), endpoint)
            })
            .collect();
        let peers: Vec<PeerInfo> = found
            .peers
            .iter()
            .map(|p| PeerInfo { name: Some(p.name.clone()), ip: Some(p.ip.to_string()) })
            .collect();
        let base = summary(n);
        Ok(NetworkInspect {
            name: base.name,
            id: base.id,
            created: base.created,
            scope: base.scope,
            driver: base.driver,
            enable_ipv4: base.enable_ipv4,
            enable_ipv6: base.enable_ipv6,
            ipam: base.ipam,
            internal: base.internal,
            attachable: base.attachable,
            ingress: base.ingress,
            config_from: base.config_from,
            config_only: base.config_only,
            options: base.options,
            labels: base.labels,
            peers: (!peers.is_empty()).then_some(peers),
            containers: Some(containers),
            services: None,
            status: None,
        })
    }

    /// Removes a local network.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` while endpoints are on it and for predefined ones.
    pub async fn network_remove(&self, network: &str) -> Result<()> {
        let removed = self.inner.net.remove_network(network).await?;
        self.network_event("destroy", removed.id.as_str(), &removed.name, Some(&removed), "");
        Ok(())
    }

    /// Puts a container on a network: at once if it runs, else when it starts.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` when it is on it already; `Invalid` settings.
    pub async fn network_connect(
        &self,
        network: &str,
        request: NetworkConnectRequest,
    ) -> Result<()> {
        // One that is not known here may be a swarm's; who has it is asked when the container needs it.
        let net = self.known_here(network)?;
        let name = net.as_ref().map_or(network, |net| &net.name);
        let c = self.inner.containers.find(&request.container)?;
        let _op = c.op.lock().await;
        let record = c.record();
        refuse_shared(&record)?;
        if matches!(record.state.phase, Phase::Removing | Phase::Dead) {
            return Err(EngineError::Conflict(format!("container {} is marked for removal", c.id)));
        }
        if self.place(&record, network, net.as_ref()).is_some() {
            return Err(EngineError::Forbidden(format!(
                "endpoint with name {} already exists in network {name}",
                record.name
            )));
        }
        let driver = net.as_ref().map(|net| net.driver);
        if matches!(driver, Some(skep_net::Driver::Host | skep_net::Driver::Null)) {
            return Err(EngineError::Invalid(format!(
                "container cannot be connected to network {name}: it shares no namespace with it"
            )));
        }
        let attachment = Attachment {
            network: name.to_owned(),
            settings: asked_for(request.endpoint_config.unwrap_or_default()),
            service: None,
        };
        attachment.spec()?;
        if let (true, Some(sandbox)) = (record.state.phase.is_running(), &record.state.sandbox) {
            let sandbox = SandboxId::new(sandbox.clone());
            if let Err(error) = self.connect_running(&c, &sandbox, &attachment).await {
                self.release_grants(&c).await;
                c.save_or_warn().await;
                return Err(error);
            }
        }
        c.change(|r| r.attachments.push(attachment.clone()));
        let saved = c.save_lasting().await;
        if saved.is_err() {
            c.change(|r| r.attachments.retain(|kept| *kept != attachment));
            if let (true, Some(sandbox)) = (record.state.phase.is_running(), &record.state.sandbox)
            {
                self.take_back_connection(&c, &SandboxId::new(sandbox.clone()), name).await;
                self.release_grants(&c).await;
            }
        }
        saved
    }

    /// Undoes a connection of which a later step failed.
    async fn take_back_connection(&self, c: &Container, sandbox: &SandboxId, network: &str) {
        match self.inner.net.disconnect(sandbox, network).await {
            Ok(()) => self.network_event("disconnect", network, network, None, &c.id),
            Err(error) => tracing::warn!(
                container = c.id,
                network,
                error = &error as &dyn std::error::Error,
                "could not take back a connection"
            ),
        }
    }

    async fn connect_running(
        &self,
        c: &Arc<Container>,
        sandbox: &SandboxId,
        attachment: &Attachment,
    ) -> Result<()> {
        let specs = self.endpoint_specs(c, std::slice::from_ref(attachment)).await?;
        let all = self.inner.net.connect(sandbox, specs).await?;
        for made in &all {
            self.network_event(
                "connect",
                made.network_id.as_str(),
                &made.network_name,
                None,
                &c.id,
            );
        }
        let announced = self.announce_names(c, sandbox).await;
        if announced.is_err() {
            for made in all {
                self.take_back_connection(c, sandbox, made.network_id.as_str()).await;
            }
        }
        announced
    }

    /// A network, if it is known on this host.
    ///
    /// # Errors
    /// `NotFound` for one that cannot be anywhere else either; `Invalid` for an ambiguous prefix.
    fn known_here(&self, network: &str) -> Result<Option<Network>> {
        match self.inner.net.network(network) {
            Ok(net) => Ok(Some(net)),
            Err(NetError::NetworkNotFound(_)) if self.has_other_networks() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` when it is not on it.
    pub async fn network_disconnect(
        &self,
        network: &str,
        request: NetworkDisconnectRequest,
    ) -> Result<()> {
        let net = self.known_here(network)?;
        let name = net.as_ref().map_or(network, |net| &net.name);
        let force = request.force.unwrap_or(false);
        let c = match self.inner.containers.find(&request.container) {
            Ok(c) => c,
            // What no longer exists is on no network.
            Err(EngineError::NoSuchContainer(_)) if force => return Ok(()),
            Err(error) => return Err(error),
        };
        let _op = c.op.lock().await;
        let record = c.record();
        if record.network_mode() == "host" && name == "host" {
            return Err(EngineError::Invalid(
                "container cannot be disconnected from host network or connected to host network"
                    .into(),
            ));
        }
        let place = self.place(&record, network, net.as_ref());
        match (&net, &record.state.sandbox) {
            (Some(net), Some(sandbox)) if record.state.phase.is_running() => {
                let sandbox = SandboxId::new(sandbox.clone());
                let is_on = || {
                    let endpoints = self.inner.net.sandbox(&sandbox).map(|s| s.endpoints);
                    endpoints.is_ok_and(|all| all.iter().any(|e| e.network_id == net.id))
                };
                let was_on = is_on();
                if let Err(error) = self.inner.net.disconnect(&sandbox, net.id.as_str()).await {
                    if !was_on || is_on() {
                        return Err(error.into());
                    }
                    // It is off the network for everybody; the kernel is made to follow, and the rest is not
                    // worth an answer which says that it is still on.
                    tracing::warn!(
                        container = c.id,
                        network = name,
                        error = &error as &dyn std::error::Error,
                        "not all that a disconnection takes could be done"
                    );
                }
                self.network_event("disconnect", net.id.as_str(), name, Some(net), &c.id);
            }
            _ if place.is_none() => {
                return Err(EngineError::Forbidden(format!(
                    "container {} is not connected to the network {name}",
                    record.id
                )));
            }
            _ => {}
        }
        if let Some(place) = place {
            c.change(|r| r.attachments.remove(place));
        }
        self.release_grants(&c).await;
        if c.save_lasting().await.is_err() {
            // It is off the network already.
            c.save_or_warn().await;
        }
        Ok(())
    }

    /// Removes networks nobody is on.
    ///
    /// # Errors
    /// `Invalid` for filters other than `label label! until`; `UsesUnknown` while a container is damaged.
    pub async fn network_prune(&self, filters: &Filters) -> Result<NetworkPruneResponse> {
        filters.validate(&["label", "label!", "until", "dangling"])?;
        let until = filters.until()?;
        self.all_uses_known()?;
        let used = self.networks_in_use();
        let owned = filters.clone();
        let removed = self
            .inner
            .net
            .prune_networks(move |n| {
                let labels: HashMap<String, String> = n.labels.clone().into_iter().collect();
                // Stopped containers keep theirs.
                !used.contains(n.id.as_str())
                    && label_filters(&owned, &labels)
                    && until.is_none_or(|until| created(n).is_none_or(|at| at <= until))
            })
            .await?;
        for network in &removed {
            self.network_event("destroy", network.id.as_str(), &network.name, Some(network), "");
        }
        self.inner.events.publish(
            Type::NETWORK,
            "prune",
            "",
            [("reclaimed".to_owned(), "0".to_owned())].into(),
            Scope::LOCAL,
        );
        Ok(NetworkPruneResponse {
            networks_deleted: Some(removed.into_iter().map(|n| n.name).collect()),
        })
    }

    /// Where in a container's list a network is that may not be known on this host.
    fn place(&self, record: &Record, reference: &str, net: Option<&Network>) -> Option<usize> {
        match net {
            Some(net) => self.position(record, net.id.as_str()),
            None => record.attachments.iter().position(|a| a.network == reference),
        }
    }

    /// Where in a container's list a network is.
    pub(crate) fn position(&self, record: &Record, id: &str) -> Option<usize> {
        record
            .attachments
            .iter()
            .position(|a| self.inner.net.network(&a.network).is_ok_and(|n| n.id.as_str() == id))
    }

    /// Ids of networks that containers, running or not, are to be on.
    fn networks_in_use(&self) -> std::collections::HashSet<String> {
        let mut used = std::collections::HashSet::new();
        for c in self.inner.containers.all() {
            for name in
                c.read(|r| r.attachments.iter().map(|a| a.network.clone()).collect::<Vec<_>>())
            {
                used.extend(self.inner.net.network(&name).ok().map(|n| n.id.as_str().to_owned()));
            }
        }
        used
    }
}

/// A container in another's or the host's namespace has no networks of its own.
fn refuse_shared(record: &Record) -> Result<()> {
    let mode = record.network_mode();
    if mode == "host" || mode.starts_with("container:") {
        return Err(EngineError::Invalid(
            "container sharing network namespace with another container or host cannot be connected to any other network".into(),
        ));
    }
    if mode == "none" {
        return Err(EngineError::Invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode".into(),
        ));
    }
    Ok(())
}

/// Only what a client may ask for; addresses found out earlier do not come back as wishes.
fn asked_for(settings: EndpointSettings) -> EndpointSettings {
    EndpointSettings {
        ipam_config: settings.ipam_config,
        links: settings.links,
        mac_address: settings.mac_address.filter(|m| !m.is_empty()),
        aliases: settings.aliases,
        driver_opts: settings.driver_opts,
        gw_priority: settings.gw_priority,
        ..EndpointSettings::default()
    }
}

fn ipam_spec(config: &IpamConfig) -> Result<Option<IpamSpec>> {
    let text = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    let cidr = |what: &str, text: Option<String>| {
        text.map(|t| {
            t.parse::<Cidr>().map_err(|_| {
                EngineError::Invalid(format!(
                    "invalid {what} {t}: not an IPv4 network in CIDR form"
                ))
            })
        })
        .transpose()
    };
    let address = |what: &str, text: Option<String>| {
        text.map(|t| {
            t.parse::<Ipv4Addr>().map_err(|_| {
                EngineError::Invalid(format!("invalid {what} {t}: not an IPv4 address"))
            })
        })
        .transpose()
    };
    let subnet = text(&config.subnet);
    // An IPv6 pool beside an IPv4 one is refused by `enable_ipv6`; alone it is malformed here.
    let mut auxiliary = std::collections::BTreeMap::new();
    for (name, value) in config.auxiliary_addresses.iter().flatten() {
        if let Some(value) = address("auxiliary address", Some(value.clone()))? {
            auxiliary.insert(name.clone(), value);
        }
    }
    let spec = IpamSpec {
        subnet: cidr("subnet", subnet)?,
        gateway: address("gateway address", text(&config.gateway))?,
        ip_range: cidr("ip range", text(&config.ip_range))?,
        auxiliary,
    };
    Ok((spec != IpamSpec::default()).then_some(spec))
}

fn created(network: &Network) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(network.created_unix_nanos)).ok()
}

fn scope(network: &Network) -> &'static str {
    match network.scope {
        skep_net::Scope::Local => "local",
        skep_net::Scope::Swarm => "swarm",
    }
}

/// What list and inspect have in common.
fn summary(network: &Network) -> NetworkSummary {
    let configs = network
        .subnets
        .iter()
        .map(|s| IpamConfig {
            subnet: Some(s.subnet.to_string()),
            ip_range: s.ip_range.map(|r| r.to_string()),
            gateway: s.gateway.map(|g| g.to_string()),
            auxiliary_addresses: (!s.auxiliary.is_empty())
                .then(|| s.auxiliary.iter().map(|(k, v)| (k.clone(), v.to_string())).collect()),
        })
        .collect();
    let options: HashMap<String, String> = network.ipam_options.clone().into_iter().collect();
    NetworkSummary {
        name: Some(network.name.clone()),
        id: Some(network.id.as_str().to_owned()),
        created: Some(created(network).map_or_else(|| util::ZERO_TIME.to_owned(), util::rfc3339)),
        scope: Some(scope(network).to_owned()),
        driver: Some(network.driver.as_str().to_owned()),
        enable_ipv4: Some(true),
        enable_ipv6: Some(false),
        ipam: Some(Ipam {
            driver: Some("default".to_owned()),
            config: Some(configs),
            options: (!options.is_empty()).then_some(options),
        }),
        internal: Some(network.internal),
        attachable: Some(network.attachable),
        ingress: Some(network.ingress),
        config_from: Some(bollard_stubs::models::ConfigReference { network: Some(String::new()) }),
        config_only: Some(false),
        options: Some(network.options.clone().into_iter().collect()),
        labels: Some(network.labels.clone().into_iter().collect()),
        peers: None,
    }
}
