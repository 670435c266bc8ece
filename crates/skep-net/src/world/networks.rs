//! Making, finding and removing networks.

use super::{GATEWAY_NETWORK, World};
use crate::cidr::Cidr;
use crate::error::{NetError, Result};
use crate::ids::NetworkId;
use crate::model::{
    Driver, IpamSpec, Network, NetworkCreate, OverlayNetwork, Scope, Subnet, option_keys,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// An interface name holds 15 characters.
const INTERFACE_NAME_MAX: usize = 15;

impl World {
    /// Adds one of the networks that are always there, unless its name exists.
    /// A bridge takes its subnet from `address`, or from the pools without one.
    pub fn ensure_predefined(
        &mut self,
        id: NetworkId,
        now_unix_nanos: i64,
        name: &str,
        driver: Driver,
        options: BTreeMap<String, String>,
        address: Option<Cidr>,
    ) -> Result<()> {
        if self.networks.values().any(|n| n.name == name) {
            return Ok(());
        }
        let subnets = match (driver, address) {
            (Driver::Host | Driver::Null | Driver::Overlay, _) => Vec::new(),
            (Driver::Bridge, Some(address)) => vec![Subnet {
                subnet: address.network(),
                ip_range: None,
                gateway: Some(address.addr()),
                auxiliary: BTreeMap::new(),
            }],
            (Driver::Bridge, None) => vec![self.next_subnet()?],
        };
        let mut options = options;
        self.yield_bridge_name(&id, &mut options);
        let network = Network {
            id: id.clone(),
            name: name.to_owned(),
            created_unix_nanos: now_unix_nanos,
            driver,
            scope: Scope::Local,
            subnets,
            ipam_options: BTreeMap::new(),
            internal: false,
            attachable: false,
            ingress: false,
            options,
            labels: BTreeMap::new(),
        };
        self.networks.insert(id, network);
        Ok(())
    }

    /// Takes over the daemon's settings for the network named `bridge`, which may
    /// have changed since it was made. A new address only while nothing is on it.
    pub fn configure_default_bridge(
        &mut self,
        options: BTreeMap<String, String>,
        address: Option<Cidr>,
    ) {
        let Some(id) = self.networks.values().find(|n| n.is_default_bridge()).map(|n| n.id.clone())
        else {
            return;
        };
        let empty = self.endpoints_on(&id).next().is_none();
        let mut options = options;
        if !empty && !self.networks[&id].options.contains_key(option_keys::BRIDGE_NAME) {
            // Containers stay on the bridge that they are on, though the name has become free.
            options.remove(option_keys::BRIDGE_NAME);
        }
        self.yield_bridge_name(&id, &mut options);
        if let Some(network) = self.networks.get_mut(&id) {
            network.options = options;
            if let (Some(address), true) = (address, empty) {
                network.subnets = vec![Subnet {
                    subnet: address.network(),
                    ip_range: None,
                    gateway: Some(address.addr()),
                    auxiliary: BTreeMap::new(),
                }];
            }
        }
    }

    /// Makes `docker_gwbridge` unless it is there.
    pub fn ensure_gateway_network(&mut self, id: NetworkId, now_unix_nanos: i64) -> Result<()> {
        let options = BTreeMap::from([
            (option_keys::BRIDGE_NAME.to_owned(), GATEWAY_NETWORK.to_owned()),
            (option_keys::ICC.to_owned(), "false".to_owned()),
            (option_keys::MASQUERADE.to_owned(), "true".to_owned()),
        ]);
        self.ensure_predefined(id, now_unix_nanos, GATEWAY_NETWORK, Driver::Bridge, options, None)
    }

    /// Makes a local network.
    pub fn create_network(
        &mut self,
        id: NetworkId,
        now_unix_nanos: i64,
        request: NetworkCreate,
    ) -> Result<Network> {
        let invalid =
            |what, value: &str, why| NetError::Invalid { what, value: value.to_owned(), why };
        let name = request.name.as_str();
        check_name(name)?;
        if matches!(name, "bridge" | "host" | "none" | "default" | "container" | "nat") {
            return Err(NetError::NetworkNameReserved(name.to_owned()));
        }
        if self.networks.values().any(|n| n.name == name)
            || self.running.overlays.values().any(|n| n.name == name)
        {
            return Err(NetError::NetworkNameTaken(name.to_owned()));
        }
        match request.driver.as_str() {
            "" | "bridge" | "default" => {}
            "host" | "null" => {
                return Err(invalid(
                    "driver",
                    &request.driver,
                    "only one instance of this network is allowed",
                ));
            }
            "overlay" => {
                return Err(invalid(
                    "driver",
                    "overlay",
                    "overlay networks are made by a swarm manager",
                ));
            }
            other => return Err(invalid("driver", other, "no such network driver on this host")),
        }
        if request.enable_ipv6 {
            return Err(invalid("EnableIPv6", "true", "only IPv4 networks are served"));
        }
        self.check_options(&id, &request.options)?;
        let subnets = if request.ipam.iter().all(|s| s.subnet.is_none()) {
            match request.ipam.first() {
                Some(IpamSpec { gateway: Some(gateway), .. }) => {
                    let gateway = gateway.to_string();
                    return Err(invalid("gateway", &gateway, "it needs a subnet"));
                }
                Some(IpamSpec { ip_range: Some(range), .. }) => {
                    return Err(invalid("ip-range", &range.to_string(), "it needs a subnet"));
                }
                _ => vec![self.next_subnet()?],
            }
        } else {
            let mut subnets: Vec<Subnet> = Vec::new();
            for spec in &request.ipam {
                let subnet = check_subnet(spec)?;
                self.check_overlap(&subnet.subnet)?;
                self.check_routes(&subnet.subnet, request.options.get(option_keys::BRIDGE_NAME))?;
                if let Some(other) = subnets.iter().find(|s| s.subnet.overlaps(&subnet.subnet)) {
                    return Err(NetError::PoolOverlaps {
                        pool: subnet.subnet,
                        other: other.subnet.to_string(),
                    });
                }
                subnets.push(subnet);
            }
            subnets
        };
        let network = Network {
            id: id.clone(),
            name: request.name,
            created_unix_nanos: now_unix_nanos,
            driver: Driver::Bridge,
            scope: Scope::Local,
            subnets,
            ipam_options: request.ipam_options,
            internal: request.internal,
            attachable: request.attachable,
            ingress: false,
            options: request.options,
            labels: request.labels,
        };
        self.networks.insert(id, network.clone());
        Ok(network)
    }

    fn check_options(&self, id: &NetworkId, options: &BTreeMap<String, String>) -> Result<()> {
        let invalid =
            |what, value: &str, why| NetError::Invalid { what, value: value.to_owned(), why };
        for key in [option_keys::ICC, option_keys::MASQUERADE] {
            if let Some(value) = options.get(key)
                && !matches!(
                    value.to_ascii_lowercase().as_str(),
                    "true" | "false" | "1" | "0" | "t" | "f"
                )
            {
                return Err(invalid(
                    "driver option",
                    &format!("{key}={value}"),
                    "must be true or false",
                ));
            }
        }
        if let Some(mtu) = options.get(option_keys::MTU)
            && !mtu.parse::<u16>().is_ok_and(|m| m >= 68)
        {
            return Err(invalid(
                "driver option",
                &format!("{}={mtu}", option_keys::MTU),
                "must be 68 to 65535",
            ));
        }
        if let Some(address) = options.get(option_keys::HOST_BINDING)
            && address.parse::<Ipv4Addr>().is_err()
        {
            return Err(invalid(
                "driver option",
                address,
                "host_binding_ipv4 must be an IPv4 address",
            ));
        }
        if let Some(bridge) = options.get(option_keys::BRIDGE_NAME) {
            if bridge.len() > INTERFACE_NAME_MAX
                || bridge.contains(['/', ' ', '"', ':'])
                || bridge == "."
                || bridge == ".."
            {
                return Err(invalid(
                    "bridge name",
                    bridge,
                    "not an interface name of at most 15 characters",
                ));
            }
            let taken = self
                .networks
                .values()
                .any(|n| n.id != *id && n.driver == Driver::Bridge && n.bridge_name() == *bridge);
            if taken && !bridge.is_empty() {
                return Err(invalid("bridge name", bridge, "another network uses this bridge"));
            }
        }
        Ok(())
    }

    /// The next free subnet of the pools, first address as gateway: one that no route of the host
    /// touches, or else one that none reserves.
    pub(super) fn next_subnet(&self) -> Result<Subnet> {
        let routes = &self.facts.host_routes;
        let touched = |s: &Cidr| routes.iter().any(|r| r.touches(s.addr(), s.prefix()));
        let reserved = |s: &Cidr| routes.iter().any(|r| r.reserves(s.addr(), s.prefix()));
        let subnet = self
            .free_subnet(touched)
            .or_else(|| self.free_subnet(reserved))
            .ok_or(NetError::PoolsExhausted)?;
        let gateway = Ipv4Addr::from(subnet.first().saturating_add(1));
        Ok(Subnet { subnet, ip_range: None, gateway: Some(gateway), auxiliary: BTreeMap::new() })
    }

    fn free_subnet(&self, avoid: impl Fn(&Cidr) -> bool) -> Option<Cidr> {
        let mut pieces = (self.facts.pools.iter())
            .flat_map(|pool| (0..).map_while(|n| pool.base.subnet(pool.size, n)));
        pieces.find(|subnet| !avoid(subnet) && self.check_overlap(subnet).is_ok())
    }

    fn check_overlap(&self, subnet: &Cidr) -> Result<()> {
        let local =
            self.networks.values().flat_map(|n| n.subnets.iter().map(move |s| (&n.name, s.subnet)));
        let overlay = self
            .running
            .overlays
            .values()
            .flat_map(|n| n.subnets.iter().map(move |s| (&n.name, s.subnet)));
        match local.chain(overlay).find(|(_, other)| other.overlaps(subnet)) {
            Some((name, other)) => Err(NetError::PoolOverlaps {
                pool: *subnet,
                other: format!("{other} of network {name}"),
            }),
            None => Ok(()),
        }
    }

    /// Id, name or unambiguous id prefix, in this order.
    pub fn find_network(&self, reference: &str) -> Result<Network> {
        let not_found = || NetError::NetworkNotFound(reference.to_owned());
        let all = self.all_networks();
        if reference.is_empty() {
            return Err(not_found());
        }
        if let Some(network) = all.iter().find(|n| n.id.as_str() == reference) {
            return Ok(network.clone());
        }
        let alias = if reference == "default" { "bridge" } else { reference };
        if let Some(network) = all.iter().find(|n| n.name == alias) {
            return Ok(network.clone());
        }
        let mut matching = all.iter().filter(|n| n.id.as_str().starts_with(reference));
        match (matching.next(), matching.count()) {
            (Some(network), 0) => Ok(network.clone()),
            (Some(_), more) => {
                Err(NetError::NetworkAmbiguous { prefix: reference.to_owned(), matches: more + 1 })
            }
            (None, _) => Err(not_found()),
        }
    }

    /// Local networks and overlays, by name.
    pub fn all_networks(&self) -> Vec<Network> {
        let mut all: Vec<Network> = self.networks.values().cloned().collect();
        all.extend(self.running.overlays.values().map(OverlayNetwork::as_network));
        all.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        all
    }

    /// Removes a local network.
    pub fn remove_network(&mut self, reference: &str) -> Result<Network> {
        let network = self.find_network(reference)?;
        if network.scope == Scope::Swarm {
            return Err(NetError::NetworkOfSwarm(network.name));
        }
        if network.is_predefined() {
            return Err(NetError::NetworkPredefined(network.name));
        }
        let mut holders: Vec<String> = self
            .endpoints_on(&network.id)
            .map(|(s, e)| format!("name:{:?} id:{:?}", s.spec.container_name, e.id.short(12)))
            .collect();
        if network.name == GATEWAY_NETWORK && self.running.cluster.is_some() {
            holders.push(format!("name:{:?}", "gateway_ingress-sbox"));
        }
        if !holders.is_empty() {
            return Err(NetError::NetworkInUse { name: network.name, holders: holders.join(", ") });
        }
        self.networks.remove(&network.id);
        Ok(network)
    }

    /// What of `docker network prune` may go: no endpoints, not always there.
    pub fn prunable(&self) -> Vec<Network> {
        self.networks
            .values()
            .filter(|n| {
                !n.is_predefined()
                    && n.name != GATEWAY_NETWORK
                    && self.endpoints_on(&n.id).next().is_none()
            })
            .cloned()
            .collect()
    }
}

impl OverlayNetwork {
    /// As the API shows it.
    pub fn as_network(&self) -> Network {
        let mut options = self.options.clone();
        let ids: Vec<String> = self.subnets.iter().map(|s| s.vni.to_string()).collect();
        options.insert(option_keys::VXLAN_IDS.to_owned(), ids.join(","));
        Network {
            id: self.id.clone(),
            name: self.name.clone(),
            created_unix_nanos: self.created_unix_nanos,
            driver: Driver::Overlay,
            scope: Scope::Swarm,
            subnets: self
                .subnets
                .iter()
                .map(|s| Subnet {
                    subnet: s.subnet,
                    ip_range: None,
                    gateway: Some(s.gateway),
                    auxiliary: BTreeMap::new(),
                })
                .collect(),
            ipam_options: BTreeMap::new(),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            options,
            labels: self.labels.clone(),
        }
    }
}

/// Letters, digits, `_`, `.`, `-`, beginning with a letter or digit.
fn check_name(name: &str) -> Result<()> {
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if good {
        return Ok(());
    }
    Err(NetError::Invalid {
        what: "network name",
        value: name.to_owned(),
        why: "must begin with a letter or digit and hold only letters, digits, '_', '.' and '-'",
    })
}

fn check_subnet(spec: &IpamSpec) -> Result<Subnet> {
    let invalid = |what, value: String, why| NetError::Invalid { what, value, why };
    let Some(subnet) = spec.subnet else {
        return Err(invalid(
            "ipam config",
            String::new(),
            "every entry needs a subnet when one has it",
        ));
    };
    let network = subnet.network();
    if network != subnet {
        return Err(invalid("subnet", subnet.to_string(), "host bits are set"));
    }
    if !(8..=30).contains(&network.prefix()) {
        return Err(invalid("subnet", subnet.to_string(), "the prefix length must be 8 to 30"));
    }
    if let Some(why) = network.unusable() {
        return Err(invalid("subnet", subnet.to_string(), why));
    }
    if let Some(range) = spec.ip_range
        && (range.prefix() < network.prefix() || !network.contains(range.addr()))
    {
        return Err(invalid("ip-range", range.to_string(), "not inside the subnet"));
    }
    let gateway = spec.gateway.unwrap_or_else(|| Ipv4Addr::from(network.first() + 1));
    if !network.contains(gateway) {
        return Err(invalid("gateway", gateway.to_string(), "not inside the subnet"));
    }
    if let Some((_, outside)) = spec.auxiliary.iter().find(|(_, a)| !network.contains(**a)) {
        return Err(invalid("auxiliary address", outside.to_string(), "not inside the subnet"));
    }
    Ok(Subnet {
        subnet: network,
        ip_range: spec.ip_range.map(|r| r.network()),
        gateway: Some(gateway),
        auxiliary: spec.auxiliary.clone(),
    })
}
