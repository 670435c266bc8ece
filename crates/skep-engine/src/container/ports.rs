//! Published and exposed ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bollard_stubs::models::{PortBinding as ApiBinding, PortMap, PortSummary, PortSummaryTypeEnum};
use skep_net::{PortBinding, PortSpec};
use skep_types::Protocol;

use crate::error::{EngineError, Result};

/// Reads `port[/protocol]`.
///
/// # Errors
/// `Invalid` with Docker's texts.
pub fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.parse().map_err(|_| {
        EngineError::Invalid(format!("invalid port specification: {text:?}: invalid protocol"))
    })?;
    match number.parse::<u16>() {
        Ok(port) if port > 0 => Ok((port, protocol)),
        _ => Err(EngineError::Invalid(format!("invalid port specification: {text:?}"))),
    }
}

/// Reads `port`, `first-last` or nothing (any port).
fn parse_host_ports(text: &str) -> Result<(u16, u16)> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let bad = || EngineError::Invalid(format!("invalid port specification: {text:?}"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) =
        (first.parse::<u16>().map_err(|_| bad())?, last.parse::<u16>().map_err(|_| bad())?);
    if first > last || (first == 0 && last != 0) {
        return Err(bad());
    }
    Ok((first, last))
}

/// What is to be published: `-p`, and with `all` (`-P`) every exposed port that `-p` does not name.
///
/// # Errors
/// `Invalid` for malformed ports and addresses; IPv6 addresses are refused.
pub fn specs(bindings: &PortMap, exposed: &[String], all: bool) -> Result<Vec<PortSpec>> {
    let mut specs = Vec::new();
    // Ordered, so that containers get ports in the same order each time.
    let sorted: BTreeMap<_, _> = bindings.iter().collect();
    let mut named = Vec::new();
    for (port, hosts) in sorted {
        let (container_port, protocol) = parse_port(port)?;
        named.push((container_port, protocol));
        let hosts = hosts.clone().unwrap_or_default();
        let one = [ApiBinding::default()];
        for host in if hosts.is_empty() { &one[..] } else { &hosts } {
            let text = host.host_ip.as_deref().unwrap_or("");
            let host_ip = match text {
                "" => None,
                // A dual-stack wildcard is what clients mean by it.
                "::" => None,
                text => match text.parse::<IpAddr>() {
                    Ok(IpAddr::V4(ip)) => Some(ip),
                    Ok(IpAddr::V6(_)) => {
                        return Err(EngineError::Invalid(format!(
                            "invalid host address {text}: only IPv4 is served"
                        )));
                    }
                    Err(_) => {
                        return Err(EngineError::Invalid(format!("invalid IP address: {text}")));
                    }
                },
            };
            let host_ports = parse_host_ports(host.host_port.as_deref().unwrap_or(""))?;
            specs.push(PortSpec { protocol, container_port, host_ip, host_ports });
        }
    }
    if all {
        for port in exposed {
            let (container_port, protocol) = parse_port(port)?;
            if !named.contains(&(container_port, protocol)) {
                specs.push(PortSpec {
                    protocol,
                    container_port,
                    host_ip: None,
                    host_ports: (0, 0),
                });
            }
        }
    }
    Ok(specs)
}

/// `NetworkSettings.Ports`: bindings, and exposed ports without any as null.
pub fn settings(bound: &[PortBinding], exposed: &[String]) -> PortMap {
    let mut map: PortMap = exposed.iter().map(|port| (with_protocol(port), None)).collect();
    for binding in bound {
        map.entry(format!("{}/{}", binding.container_port, binding.protocol))
            .or_insert(None)
            .get_or_insert_default()
            .push(ApiBinding {
                host_ip: Some(binding.host_ip.to_string()),
                host_port: Some(binding.host_port.to_string()),
            });
    }
    map
}

/// `Ports` of a listing.
pub fn summary(bound: &[PortBinding], exposed: &[String]) -> Vec<PortSummary> {
    let mut list: Vec<PortSummary> = bound
        .iter()
        .map(|b| PortSummary {
            ip: Some(b.host_ip.to_string()),
            private_port: b.container_port,
            public_port: Some(b.host_port),
            typ: Some(kind(b.protocol)),
        })
        .collect();
    for (port, protocol) in exposed.iter().filter_map(|e| parse_port(e).ok()) {
        if !bound.iter().any(|b| (b.container_port, b.protocol) == (port, protocol)) {
            list.push(PortSummary {
                ip: None,
                private_port: port,
                public_port: None,
                typ: Some(kind(protocol)),
            });
        }
    }
    list.sort_by_key(|p| (p.private_port, p.public_port));
    list
}

fn kind(protocol: Protocol) -> PortSummaryTypeEnum {
    match protocol {
        Protocol::Tcp => PortSummaryTypeEnum::TCP,
        Protocol::Udp => PortSummaryTypeEnum::UDP,
        Protocol::Sctp => PortSummaryTypeEnum::SCTP,
    }
}

/// `80` as `80/tcp`; what has a protocol stays.
pub fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

/// Whether a filter value (`80`, `80/udp`, `8000-8080/tcp`) names the port.
pub fn filter_matches(filter: &str, port: u16, protocol: Protocol) -> Option<bool> {
    let (range, wanted) = filter.split_once('/').unwrap_or((filter, ""));
    let (first, last) = parse_host_ports(range).ok().filter(|r| *r != (0, 0))?;
    // As Docker: none means TCP, any case will do, and no port has an unknown one.
    let wanted = if wanted.is_empty() { Ok(Protocol::Tcp) } else { wanted.parse() };
    Some((first..=last).contains(&port) && wanted == Ok(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn map(entries: &[(&str, &str, &str)]) -> PortMap {
        let mut map = PortMap::new();
        for (port, ip, host) in entries {
            map.entry((*port).to_owned()).or_insert(None).get_or_insert_default().push(
                ApiBinding { host_ip: Some((*ip).to_owned()), host_port: Some((*host).to_owned()) },
            );
        }
        map
    }

    #[test]
    fn publishing() {
        let specs_of = |entries: &[_], exposed: &[&str], all| {
            specs(&map(entries), &exposed.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), all)
        };
        let one = &specs_of(&[("80/tcp", "127.0.0.1", "8080")], &[], false).unwrap()[0];
        assert_eq!(
            (one.container_port, one.host_ports, one.protocol),
            (80, (8080, 8080), Protocol::Tcp)
        );
        assert_eq!(one.host_ip, Some(Ipv4Addr::LOCALHOST));
        assert_eq!(
            specs_of(&[("53/udp", "", "5300-5310")], &[], false).unwrap()[0].host_ports,
            (5300, 5310)
        );
        assert_eq!(specs_of(&[("80", "", "")], &[], false).unwrap()[0].host_ports, (0, 0));
        let all = specs_of(&[("80/tcp", "", "8080")], &["80/tcp", "443/tcp"], true).unwrap();
        assert_eq!(all.iter().map(|s| s.container_port).collect::<Vec<_>>(), [80, 443]);
        for bad in [
            ("70000/tcp", "", ""),
            ("0/tcp", "", ""),
            ("80/foo", "", ""),
            ("80/tcp", "x", ""),
            ("80/tcp", "", "x"),
            ("80/tcp", "", "90-80"),
            ("80/tcp", "", "70000"),
            ("80/tcp", "::1", "80"),
        ] {
            assert!(specs_of(&[bad], &[], false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shapes() {
        let bound = [PortBinding {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_ip: Ipv4Addr::UNSPECIFIED,
            host_port: 8080,
        }];
        let exposed = ["80/tcp".to_owned(), "443".to_owned()];
        let map = settings(&bound, &exposed);
        assert_eq!(map["443/tcp"], None);
        assert_eq!(map["80/tcp"].as_ref().unwrap()[0].host_port.as_deref(), Some("8080"));
        let list = summary(&bound, &exposed);
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].private_port, list[0].public_port), (80, Some(8080)));
    }

    #[test]
    fn filters() {
        assert_eq!(filter_matches("80", 80, Protocol::Tcp), Some(true));
        assert_eq!(filter_matches("80/udp", 80, Protocol::Tcp), Some(false));
        assert_eq!(filter_matches("80/UDP", 80, Protocol::Udp), Some(true));
        assert_eq!(filter_matches("80/", 80, Protocol::Tcp), Some(true));
        assert_eq!(filter_matches("80/other", 80, Protocol::Tcp), Some(false));
        assert_eq!(filter_matches("8000-8100/tcp", 8080, Protocol::Tcp), Some(true));
        assert_eq!(filter_matches("x", 80, Protocol::Tcp), None);
    }
}
