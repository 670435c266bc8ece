use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{AddressError, DEFAULT_PORT, Link};

/// Answers address questions for one host at one moment.
pub(crate) struct Resolver {
    links: Vec<Link>,
}

impl Resolver {
    pub fn new(links: Vec<Link>) -> Self {
        Self { links }
    }

    /// Whether one of the host's links has this address.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.links.iter().any(|link| link.addresses.contains(&ip))
    }

    /// `--listen-addr`: address or interface with optional port; empty is `0.0.0.0:2377`.
    pub fn listen(&self, text: &str) -> Result<SocketAddr, AddressError> {
        if text.is_empty() {
            return Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), DEFAULT_PORT));
        }
        let (host, port) = split_port(text).ok_or(AddressError::BadListen)?;
        let ip = self.host(host)?.ok_or(AddressError::BadListen)?;
        Ok(SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT)))
    }

    /// `--advertise-addr`: address or interface with optional port, else `default` (without port),
    /// else the listen address if it is one, else the host's only address. The port defaults to the
    /// one listened on.
    pub fn advertise(
        &self,
        text: &str,
        default: &str,
        listen: SocketAddr,
    ) -> Result<SocketAddr, AddressError> {
        if !text.is_empty() {
            let (host, port) = split_port(text).ok_or(AddressError::BadAdvertise)?;
            let ip = self.host(host)?.ok_or(AddressError::BadAdvertise)?;
            if ip.is_unspecified() {
                return Err(AddressError::BadAdvertise);
            }
            return Ok(SocketAddr::new(ip, port.unwrap_or(listen.port())));
        }
        if !default.is_empty() {
            let ip = self.host(default)?.ok_or(AddressError::BadDefaultAdvertise)?;
            if ip.is_unspecified() {
                return Err(AddressError::BadDefaultAdvertise);
            }
            return Ok(SocketAddr::new(ip, listen.port()));
        }
        if !listen.ip().is_unspecified() {
            return Ok(listen);
        }
        Ok(SocketAddr::new(self.only_address()?, listen.port()))
    }

    /// `--data-path-addr`: address or interface; empty is "as advertised".
    pub fn data_path(&self, text: &str) -> Result<Option<IpAddr>, AddressError> {
        if text.is_empty() {
            return Ok(None);
        }
        match self.host(text)? {
            Some(ip) if !ip.is_unspecified() => Ok(Some(ip)),
            _ => Err(AddressError::BadDataPath),
        }
    }

    /// Checks that a member's packets would reach this host: it must have the address it listens on and
    /// the one that VXLAN packets come to, which is the advertised one if `data_path` is `None`. An
    /// advertised address alone may be another host's that passes packets on.
    pub fn check_ours(
        &self,
        listen: SocketAddr,
        advertise: SocketAddr,
        data_path: Option<IpAddr>,
    ) -> Result<(), AddressError> {
        if !listen.ip().is_unspecified() && !self.has(listen.ip()) {
            return Err(AddressError::NotOurs { role: "listen", ip: listen.ip() });
        }
        let tunnels = data_path.unwrap_or(advertise.ip());
        if tunnels.is_ipv6() {
            return Err(AddressError::DataPathV6(tunnels));
        }
        match data_path {
            Some(ip) if !self.has(ip) => Err(AddressError::NotOurs { role: "data path", ip }),
            None if !self.has(advertise.ip()) => {
                Err(AddressError::AdvertiseNotOurs(advertise.ip()))
            }
            _ => Ok(()),
        }
    }

    /// An address in text, or the one address of the interface of that name; `None` is neither.
    fn host(&self, text: &str) -> Result<Option<IpAddr>, AddressError> {
        if let Some(link) = self.links.iter().find(|link| link.name == text) {
            return link_address(link).map(Some);
        }
        Ok(text.trim_start_matches('[').trim_end_matches(']').parse().ok())
    }

    /// The host's address, if it is clear which one: the only IPv4 address, or without any IPv4
    /// address the only IPv6 one, on links that are up, not loopback and not made by this daemon.
    fn only_address(&self) -> Result<IpAddr, AddressError> {
        let usable = || self.links.iter().filter(|link| link.up && !link.loopback && !link.ours);
        for wants_v4 in [true, false] {
            let mut of_family = usable().flat_map(|link| {
                let addresses = link.addresses.iter().copied();
                addresses
                    .filter(|ip| ip.is_ipv4() == wants_v4 && is_global(ip))
                    .map(move |ip| (link, ip))
            });
            match (of_family.next(), of_family.next()) {
                (None, _) => {}
                (Some((_, ip)), None) => return Ok(ip),
                (Some(first), Some(second)) => return Err(many(first, second)),
            }
        }
        Err(AddressError::NoAddress)
    }
}

fn many(first: (&Link, IpAddr), second: (&Link, IpAddr)) -> AddressError {
    if first.0.name == second.0.name {
        AddressError::ManyOnOne { link: first.0.name.clone(), first: first.1, second: second.1 }
    } else {
        AddressError::ManyOnSeveral {
            first: first.1,
            first_link: first.0.name.clone(),
            second: second.1,
            second_link: second.0.name.clone(),
        }
    }
}

/// The address of a link: its only IPv4 address, else its only IPv6 one.
fn link_address(link: &Link) -> Result<IpAddr, AddressError> {
    for (family, wants_v4) in [("IPv4", true), ("IPv6", false)] {
        let mut of_family =
            link.addresses.iter().filter(|ip| ip.is_ipv4() == wants_v4 && !is_link_local(ip));
        match (of_family.next(), of_family.next()) {
            (None, _) => {}
            (Some(ip), None) => return Ok(*ip),
            (Some(&first), Some(&second)) => {
                return Err(AddressError::LinkWithMany {
                    link: link.name.clone(),
                    family,
                    first,
                    second,
                });
            }
        }
    }
    Err(AddressError::LinkWithoutAddress(link.name.clone()))
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_global(ip: &IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !is_link_local(ip)
}

/// Splits `host:port`, `[v6]:port`, `host` or a bare IPv6 address; `None` for a port that is not one.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if text.parse::<IpAddr>().is_ok() {
        return Some((text, None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None if after.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match text.rsplit_once(':') {
        None => Some((text, None)),
        // `eth0:` is as good as `eth0`.
        Some((host, "")) => Some((host, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, addresses: &[&str]) -> Link {
        Link {
            name: name.to_owned(),
            up: true,
            loopback: name == "lo",
            ours: name.starts_with("docker"),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }
    }

    fn listen() -> SocketAddr {
        "0.0.0.0:2377".parse().unwrap()
    }

    fn text<T: std::fmt::Debug>(result: Result<T, AddressError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn the_only_address_is_advertised() {
        let resolver = Resolver::new(vec![
            link("docker0", &["172.17.0.1"]),
            link("eth0", &["192.0.2.7", "2001:db8::7", "fe80::1"]),
            link("lo", &["127.0.0.1", "::1"]),
        ]);
        let addr = resolver.advertise("", "", listen()).unwrap();
        assert_eq!(addr.to_string(), "192.0.2.7:2377");
    }

    #[test]
    fn several_addresses_are_listed() {
        let resolver =
            Resolver::new(vec![link("eth0", &["192.0.2.7"]), link("eth1", &["198.51.100.7"])]);
        assert_eq!(
            text(resolver.advertise("", "", listen())),
            "could not choose an IP address to advertise since this system has multiple addresses \
             on different interfaces (192.0.2.7 on eth0 and 198.51.100.7 on eth1)"
        );
        let resolver = Resolver::new(vec![link("eth0", &["192.0.2.7", "192.0.2.8"])]);
        assert_eq!(
            text(resolver.advertise("", "", listen())),
            "could not choose an IP address to advertise since this system has multiple addresses \
             on interface eth0 (192.0.2.7 and 192.0.2.8)"
        );
        assert_eq!(
            text(resolver.advertise("eth0", "", listen())),
            "interface eth0 has more than one IPv4 address (192.0.2.7 and 192.0.2.8)"
        );
    }

    #[test]
    fn names_addresses_and_ports_are_taken() {
        let resolver =
            Resolver::new(vec![link("eth0", &["192.0.2.7"]), link("eth1", &["198.51.100.7"])]);
        for (given, want) in [
            ("eth1", "198.51.100.7:2377"),
            ("eth1:4000", "198.51.100.7:4000"),
            ("203.0.113.9", "203.0.113.9:2377"),
            ("203.0.113.9:99", "203.0.113.9:99"),
            ("2001:db8::1", "[2001:db8::1]:2377"),
            ("[2001:db8::1]:7", "[2001:db8::1]:7"),
        ] {
            let addr = resolver.advertise(given, "", listen()).unwrap();
            assert_eq!(addr.to_string(), want, "{given}");
        }
        assert_eq!(resolver.advertise("", "eth0", listen()).unwrap().to_string(), "192.0.2.7:2377");
        for bad in ["0.0.0.0", "nosuch0", "eth0:port", "eth0:70000", "[::1"] {
            assert_eq!(
                resolver.advertise(bad, "", listen()),
                Err(AddressError::BadAdvertise),
                "{bad}"
            );
        }
        assert_eq!(resolver.listen("nosuch0"), Err(AddressError::BadListen));
        assert_eq!(resolver.listen("eth0").unwrap().to_string(), "192.0.2.7:2377");
        assert_eq!(resolver.data_path("192.0.2.7:80"), Err(AddressError::BadDataPath));
    }

    #[test]
    fn packets_must_reach_this_host() {
        let resolver = Resolver::new(vec![link("eth0", &["192.0.2.7"])]);
        let check = |listen: &str, advertise: &str, data_path: Option<&str>| {
            let data_path = data_path.map(|ip| ip.parse().unwrap());
            resolver.check_ours(listen.parse().unwrap(), advertise.parse().unwrap(), data_path)
        };
        assert_eq!(check("0.0.0.0:2377", "192.0.2.7:2377", None), Ok(()));
        assert_eq!(check("192.0.2.7:2377", "203.0.113.9:2377", Some("192.0.2.7")), Ok(()));
        assert_eq!(
            text(check("0.0.0.0:2377", "203.0.113.9:2377", None)),
            "advertise address 203.0.113.9 is not an address of this host; if it is translated to one, \
             name that one with --data-path-addr"
        );
        assert_eq!(
            text(check("192.0.2.8:2377", "192.0.2.7:2377", None)),
            "listen address 192.0.2.8 is not an address of this host"
        );
        assert_eq!(
            text(check("0.0.0.0:2377", "192.0.2.7:2377", Some("192.0.2.9"))),
            "data path address 192.0.2.9 is not an address of this host"
        );
        let refused = "data path address 2001:db8::7 is an IPv6 address, over which overlay networks cannot be \
                       carried; name an IPv4 address of this host with --data-path-addr";
        let resolver = Resolver::new(vec![link("eth0", &["192.0.2.7", "2001:db8::7"])]);
        let check = |advertise: &str, data_path: Option<&str>| {
            let data_path = data_path.map(|ip| ip.parse().unwrap());
            resolver.check_ours(listen(), advertise.parse().unwrap(), data_path)
        };
        assert_eq!(text(check("192.0.2.7:2377", Some("2001:db8::7"))), refused);
        assert_eq!(text(check("[2001:db8::7]:2377", None)), refused);
        assert_eq!(check("[2001:db8::7]:2377", Some("192.0.2.7")), Ok(()));
    }

    #[test]
    fn a_host_without_addresses_says_so() {
        let resolver = Resolver::new(vec![link("lo", &["127.0.0.1"])]);
        assert_eq!(resolver.advertise("", "", listen()), Err(AddressError::NoAddress));
        let resolver = Resolver::new(vec![link("eth0", &["2001:db8::7"])]);
        assert_eq!(resolver.advertise("", "", listen()).unwrap().to_string(), "[2001:db8::7]:2377");
    }
}
