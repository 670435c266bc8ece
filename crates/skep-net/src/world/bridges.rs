//! Names and subnets of the bridges that are always there, beside whoever else wants them.
//!
//! Docker's daemon uses a bridge called `docker0` or `docker_gwbridge` as its own, whoever made it. So such a
//! name is used only as long as nobody else has it, and not for a new bridge where Docker is installed. A
//! network without its name is like any other: its bridge is called after its id.

use super::World;
use crate::error::Result;
use crate::ids::NetworkId;
use crate::model::{Network, option_keys};
use std::collections::BTreeMap;

/// Who else wants the name of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Something of that name is there, without our mark.
    Held,
    /// Docker is installed and will use what it finds.
    Expected,
}

impl World {
    /// Takes the name out of the options of a network that may not have it. Containers that are on the
    /// bridge keep it from being renamed, but not from being another's.
    pub(super) fn yield_bridge_name(&self, id: &NetworkId, options: &mut BTreeMap<String, String>) {
        let Some(name) = options.get(option_keys::BRIDGE_NAME) else { return };
        let yields = match self.facts.claims.get(name) {
            None => false,
            Some(Claim::Held) => true,
            Some(Claim::Expected) => self.is_empty(id),
        };
        if yields {
            options.remove(option_keys::BRIDGE_NAME);
        }
    }

    /// Looks at a predefined bridge network after a start: somebody else may meanwhile have taken its
    /// bridge's name, or a subnet that the pools had given it. A subnet changes only while nobody has an
    /// address in it; a collision that stays is told as one.
    pub fn review_predefined(&mut self, name: &str, address_is_configured: bool) -> Result<()> {
        let Some(network) = self.networks.values().find(|n| n.name == name) else { return Ok(()) };
        let mut network: Network = network.clone();
        self.yield_bridge_name(&network.id, &mut network.options);
        let routes = &self.facts.host_routes;
        let taken = (network.subnets.iter())
            .any(|s| routes.iter().any(|r| r.reserves(s.subnet.addr(), s.subnet.prefix())));
        if taken && !address_is_configured && self.is_empty(&network.id) {
            network.subnets = vec![self.next_subnet()?];
        }
        self.networks.insert(network.id.clone(), network);
        Ok(())
    }

    fn is_empty(&self, id: &NetworkId) -> bool {
        let mesh = self.running.mesh_gateway.is_some()
            && self.gateway_network().is_some_and(|n| n.id == *id);
        !mesh && self.endpoints_on(id).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tests::world;

    fn names(world: &World) -> Vec<(String, String)> {
        let bridges = world.networks.values().map(|n| (n.name.clone(), n.bridge_name()));
        bridges.filter(|(name, _)| name == "docker_gwbridge").collect()
    }

    #[test]
    fn a_name_that_is_anothers_is_not_taken() {
        for claim in [Claim::Held, Claim::Expected] {
            let mut world = world();
            world.facts.claims.insert("docker_gwbridge".to_owned(), claim);
            world.ensure_gateway_network("9".repeat(64).into(), 0).unwrap();
            let expected = ("docker_gwbridge".to_owned(), "br-999999999999".to_owned());
            assert_eq!(names(&world), [expected], "{claim:?}");
        }
    }

    #[test]
    fn a_name_that_is_lost_is_given_up_at_the_next_start() {
        for (claim, in_use, keeps) in [
            (Claim::Held, true, false),
            (Claim::Held, false, false),
            (Claim::Expected, true, true),
            (Claim::Expected, false, false),
        ] {
            let mut world = world();
            world.ensure_gateway_network("9".repeat(64).into(), 0).unwrap();
            world.running.mesh_gateway = in_use.then(|| "e".repeat(64).into());
            world.facts.claims.insert("docker_gwbridge".to_owned(), claim);
            world.review_predefined("docker_gwbridge", false).unwrap();
            let bridge = if keeps { "docker_gwbridge" } else { "br-999999999999" };
            assert_eq!(names(&world)[0].1, bridge, "{claim:?} {in_use}");
        }
    }

    #[test]
    fn a_subnet_that_another_took_is_left_to_it() {
        let mut world = world();
        world.ensure_gateway_network("9".repeat(64).into(), 0).unwrap();
        let subnet = |world: &World| world.gateway_network().unwrap().subnets[0].subnet;
        let before = subnet(&world);
        world.facts.host_routes.push(skep_types::HostRoute {
            destination: before.addr(),
            prefix: before.prefix(),
            interface: "docker0".to_owned(),
            kind: skep_types::RouteKind::Connected,
        });
        world.review_predefined("docker_gwbridge", true).unwrap();
        assert_eq!(subnet(&world), before, "as configured");
        world.review_predefined("docker_gwbridge", false).unwrap();
        assert_ne!(subnet(&world), before);
    }
}
