use skep_types::check::{self, PoolFault};
use skep_types::defaults::{ADDRESS_POOL, DATA_PATH_PORTS};
use skep_types::{Cidr, HostRoute};

use crate::NodeError;

/// Checks `--data-path-port`; 0 means the default.
pub(crate) fn check_data_path_port(port: u32) -> Result<(), NodeError> {
    if port == 0 || DATA_PATH_PORTS.contains(&port) {
        return Ok(());
    }
    Err(NodeError::Invalid(format!(
        "invalid argument \"{port}\": Datapath port number should be between 1024 and 49151"
    )))
}

/// Checks `--default-addr-pool` and `--default-addr-pool-mask-length`; answers the pools in
/// canonical form and the prefix length (24 when not given).
pub(crate) fn check_pools(
    pools: &[String],
    subnet_size: u32,
) -> Result<(Vec<String>, u32), NodeError> {
    let (pools, size) = check::swarm_pools(pools, subnet_size).map_err(refused)?;
    Ok((pools.iter().map(Cidr::to_string).collect(), size))
}

fn refused(fault: PoolFault) -> NodeError {
    NodeError::Invalid(fault.to_string())
}

/// Refuses pools (canonical; none for the default) of which this host's routes leave no piece: the
/// swarm's first network, the ingress network, would get no subnet.
pub(crate) fn check_pool_routes(
    pools: &[String],
    subnet_size: u32,
    routes: &[HostRoute],
) -> Result<(), NodeError> {
    let default = [ADDRESS_POOL.to_owned()];
    let pools = if pools.is_empty() { &default } else { pools };
    let size = u8::try_from(subnet_size).unwrap_or(u8::MAX);
    let mut first = None;
    for pool in pools {
        let pool = check::pool_text(pool).map_err(refused)?;
        // A pool smaller than its pieces is refused elsewhere.
        for piece in (0..).map_while(|number| pool.subnet(size, number)) {
            match routes.iter().find(|route| route.reserves(piece.addr(), size)) {
                None => return Ok(()),
                Some(route) => first = first.or(Some(route)),
            }
        }
    }
    let Some(route) = first else { return Ok(()) };
    Err(NodeError::Invalid(format!(
        "the swarm's networks would get no subnet from the address pool {}, which lies in what this \
         host reaches elsewhere ({route}): choose another with --default-addr-pool",
        pools.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::RouteKind;

    #[test]
    fn a_pool_that_leads_elsewhere_as_a_whole_is_refused() {
        let (routed, connected) = (RouteKind::Routed, RouteKind::Connected);
        let route = |destination: &str, prefix: u8, kind| HostRoute {
            destination: destination.parse().unwrap(),
            prefix,
            interface: "eth1".to_owned(),
            kind,
        };
        let all = [route("10.0.0.0", 8, connected)];
        let vpn = route("10.0.0.0", 8, routed);
        let halves = [route("10.20.0.0", 17, connected), route("10.20.128.0", 17, connected)];
        // Pools, size, routes; whether there is a piece.
        let cases: [(&[&str], u32, &[HostRoute], bool); 10] = [
            (&[], 24, &[], true),
            (&[], 24, &[vpn], true),
            (&[], 24, &all, false),
            (&["10.20.0.0/16"], 24, &all, false),
            (&["10.20.0.0/16", "172.30.0.0/16"], 24, &all, true),
            (&["10.20.0.0/16"], 24, &halves, false),
            (&["10.20.0.0/16"], 24, &halves[..1], true),
            (&["10.20.0.0/24"], 24, &[route("10.20.0.7", 32, routed)], false),
            (&["10.20.0.0/24"], 29, &[route("10.20.0.7", 32, routed)], true),
            (&["10.20.0.0/24"], 24, &[route("10.20.0.53", 32, RouteKind::NameServer)], false),
        ];
        for (pools, size, routes, allowed) in cases {
            let texts: Vec<String> = pools.iter().map(|t| (*t).to_owned()).collect();
            let found = check_pool_routes(&texts, size, routes).map_err(|e| e.to_string());
            assert_eq!(found.is_ok(), allowed, "{pools:?} {size} {routes:?}");
            if let Err(text) = found {
                assert!(
                    text.contains(&routes[0].to_string()) && text.contains("--default-addr-pool"),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn data_path_ports_are_bounded() {
        for ok in [0, 1024, 4789, 49151] {
            assert!(check_data_path_port(ok).is_ok(), "{ok}");
        }
        for bad in [1, 1023, 49152, 70000] {
            assert!(check_data_path_port(bad).is_err(), "{bad}");
        }
    }
}
