//! Subnets against what the host reaches anyhow.

use super::{GATEWAY_NETWORK, World};
use crate::cidr::Cidr;
use crate::error::{NetError, Result};
use crate::model::{Driver, Network};
use skep_types::{HostRoute, RouteKind};
use std::collections::BTreeSet;

impl World {
    /// Names of our own bridges.
    pub fn bridge_names(&self) -> BTreeSet<String> {
        let bridges = self.networks.values().filter(|n| n.driver == Driver::Bridge);
        bridges.map(|n| n.bridge_name()).collect()
    }

    /// Refuses a local network's subnet that a route of the host forbids. Routes over a bridge that was
    /// there before, and that the network is asked to use, are the network's.
    pub fn check_routes(&self, subnet: &Cidr, bridge: Option<&String>) -> Result<()> {
        let others = |route: &&HostRoute| bridge.is_none_or(|bridge| route.interface != *bridge);
        check(subnet, self.facts.host_routes.iter().filter(others))
    }

    /// Refuses an overlay's subnet for the same reasons, and one that overlaps `docker_gwbridge`.
    pub fn check_overlay(&self, subnet: &Cidr) -> Result<()> {
        check(subnet, self.routes_beside_overlays().iter())
    }

    /// What else than an overlay a task's namespace may lead to: the host's routes and
    /// `docker_gwbridge`.
    pub fn routes_beside_overlays(&self) -> Vec<HostRoute> {
        let mut routes = self.facts.host_routes.clone();
        let gateways = self.networks.values().filter(|n| n.name == GATEWAY_NETWORK);
        for subnet in gateways.flat_map(|n| &n.subnets) {
            routes.push(HostRoute {
                destination: subnet.subnet.network().addr(),
                prefix: subnet.subnet.prefix(),
                interface: GATEWAY_NETWORK.to_owned(),
                kind: RouteKind::Connected,
            });
        }
        routes
    }

    /// Which networks here and routes of the host keep something from each other, for people: chosen
    /// by hand, by a manager with other routes, or made before the route.
    pub fn collisions(&self) -> Vec<String> {
        let local =
            self.networks.values().map(|n| (n, &self.facts.host_routes, local_text as Text));
        let beside = self.routes_beside_overlays();
        let overlays: Vec<Network> = (self.running.overlays.values())
            .filter(|network| self.overlay_in_use(network))
            .map(|network| network.as_network())
            .collect();
        let overlays = overlays.iter().map(|n| (n, &beside, overlay_text as Text));
        let mut found = Vec::new();
        for (network, routes, text) in local.chain(overlays) {
            for subnet in &network.subnets {
                let s = subnet.subnet.network();
                let touching = routes.iter().filter(|r| r.touches(s.addr(), s.prefix()));
                let hidden = touching.filter(|route| !self.serves_names(network, route));
                found.extend(hidden.map(|route| text(&network.name, &s, route)));
            }
        }
        found
    }

    /// Whether the route is a name server that belongs in the local network: it listens at the gateway,
    /// which is the host, or is a container.
    fn serves_names(&self, network: &Network, server: &HostRoute) -> bool {
        let at = server.destination;
        server.kind == RouteKind::NameServer
            && network.driver == Driver::Bridge
            && (network.subnets.iter().any(|s| s.gateway == Some(at))
                || self.endpoints_on(&network.id).any(|(_, e)| e.address.addr() == at))
    }
}

type Text = fn(&str, &Cidr, &HostRoute) -> String;

fn local_text(name: &str, subnet: &Cidr, route: &HostRoute) -> String {
    format!(
        "network {name} ({subnet}) and {route} overlap: addresses in both are reached on one side \
         only; give one of the two another place"
    )
}

fn overlay_text(name: &str, subnet: &Cidr, route: &HostRoute) -> String {
    format!(
        "overlay network {name} ({subnet}) hides {route} from its containers: addresses in both are \
         the network's for them; give one of the two another place"
    )
}

fn check<'r>(subnet: &Cidr, mut routes: impl Iterator<Item = &'r HostRoute>) -> Result<()> {
    let network = subnet.network();
    match routes.find(|route| route.forbids(network.addr(), network.prefix())) {
        Some(route) => Err(NetError::PoolRouted { pool: network, route: route.clone() }),
        None => Ok(()),
    }
}
