//! Where a registry is, and how it may be spoken to.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

use super::error::RegistryError;
use crate::{reference::DEFAULT_DOMAIN, settings::RegistryConfig};

/// Where Docker Hub really is.
const HUB: &str = "registry-1.docker.io";

/// One place to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Scheme and authority, without a slash at the end.
    pub(super) base: String,
    /// Its certificate is checked.
    pub(super) verify: bool,
    /// A mirror: gets no credentials and may lack what is asked for.
    pub(super) mirror: bool,
}

impl Endpoint {
    /// Passwords may travel to it.
    pub(super) fn is_private(&self) -> bool {
        self.base.starts_with("https://")
    }
}

/// The configured rules.
#[derive(Debug)]
pub(super) struct Rules {
    mirrors: Vec<Endpoint>,
    names: Vec<String>,
    blocks: Vec<IpNet>,
}

impl Rules {
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let mut rules = Self { mirrors: Vec::new(), names: Vec::new(), blocks: Vec::new() };
        for value in &config.insecure_registries {
            let bad = |reason| RegistryError::Setting { value: value.clone(), reason };
            if value.contains("://") {
                return Err(bad("use host[:port] or a CIDR block, without a scheme"));
            }
            match value.as_str() {
                "" => return Err(bad("it is empty")),
                block if block.contains('/') => {
                    rules.blocks.push(block.parse().map_err(|_| bad("no CIDR block"))?);
                }
                _ => rules.names.push(value.to_ascii_lowercase()),
            }
        }
        for value in &config.mirrors {
            let bad = |reason| RegistryError::Setting { value: value.clone(), reason };
            let uri: Uri = value.parse().map_err(|_| bad("no URL"))?;
            let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
                return Err(bad("use http://host[:port] or https://host[:port]"));
            };
            if !matches!(scheme, "http" | "https")
                || uri.query().is_some()
                || authority.as_str().contains('@')
            {
                return Err(bad("use http://host[:port] or https://host[:port]"));
            }
            let verify = !rules.is_insecure(authority.as_str(), &[]);
            rules.mirrors.push(Endpoint {
                base: value.trim_end_matches('/').into(),
                verify,
                mirror: true,
            });
        }
        Ok(rules)
    }

    /// Places to pull from, in order.
    pub(super) async fn for_pull(&self, domain: &str) -> Vec<Endpoint> {
        let mut all = if domain == DEFAULT_DOMAIN { self.mirrors.clone() } else { Vec::new() };
        all.extend(self.for_push(domain).await);
        all
    }

    /// Places to push to or log in at, in order.
    pub(super) async fn for_push(&self, domain: &str) -> Vec<Endpoint> {
        let host = if domain == DEFAULT_DOMAIN { HUB } else { domain };
        let mut addresses = Vec::new();
        if !self.blocks.is_empty() {
            let name = if host.contains(':') { host.to_owned() } else { format!("{host}:443") };
            match tokio::net::lookup_host(name).await {
                Ok(found) => addresses.extend(found.map(|address| address.ip())),
                Err(error) => tracing::debug!(host, %error, "cannot look the registry up"),
            }
        }
        let at =
            |scheme, verify| Endpoint { base: format!("{scheme}://{host}"), verify, mirror: false };
        if self.is_insecure(host, &addresses) {
            vec![at("https", false), at("http", false)]
        } else {
            vec![at("https", true)]
        }
    }

    pub(super) fn is_insecure(&self, authority: &str, addresses: &[IpAddr]) -> bool {
        let authority = authority.to_ascii_lowercase();
        let host = host_of(&authority);
        let literal: Option<IpAddr> = host.parse().ok();
        host == "localhost"
            || literal.is_some_and(|address| address.is_loopback())
            || self.names.iter().any(|name| *name == authority || *name == host)
            || literal
                .iter()
                .chain(addresses)
                .any(|address| self.blocks.iter().any(|block| block.contains(address)))
    }
}

/// Without port and brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(insecure: &[&str], mirrors: &[&str]) -> Result<Rules, RegistryError> {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Rules::new(&RegistryConfig {
            insecure_registries: owned(insecure),
            mirrors: owned(mirrors),
            certs_dir: None,
        })
    }

    #[test]
    fn who_is_insecure() {
        let rules = rules(&["10.0.0.0/8", "reg.lan:5000", "plain"], &[]).unwrap();
        for (authority, want) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.3.2.1:1", true),
            ("[::1]:5000", true),
            ("10.9.8.7:5000", true),
            ("11.9.8.7:5000", false),
            ("reg.lan:5000", true),
            ("reg.lan", false),
            ("plain:80", true),
            ("example.com", false),
        ] {
            assert_eq!(rules.is_insecure(authority, &[]), want, "{authority}");
        }
        assert!(rules.is_insecure("named.lan", &["10.1.1.1".parse().unwrap()]));
        for (block, authority, want) in [
            ("10.3.4.5/8", "10.9.8.7", true),
            ("0.0.0.0/0", "11.9.8.7", true),
            ("0.0.0.0/0", "[fd00::1]", false),
            ("fd00::/8", "[fd01::1]:5000", true),
            ("fd00::/8", "[fe80::1]", false),
            ("::/0", "[fe80::1]", true),
            ("11.9.8.7/32", "11.9.8.7:1", true),
            ("11.9.8.7/32", "11.9.8.8", false),
        ] {
            let rules = self::rules(&[block], &[]).unwrap();
            assert_eq!(rules.is_insecure(authority, &[]), want, "{block} {authority}");
        }
    }

    #[tokio::test]
    async fn order_of_places() {
        let rules = rules(&[], &["https://m.lan/", "http://127.0.0.1:1"]).unwrap();
        let bases =
            |all: Vec<Endpoint>| all.into_iter().map(|e| (e.base, e.verify)).collect::<Vec<_>>();
        let hub = ("https://registry-1.docker.io".to_owned(), true);
        assert_eq!(
            bases(rules.for_pull("docker.io").await),
            [
                ("https://m.lan".to_owned(), true),
                ("http://127.0.0.1:1".to_owned(), false),
                hub.clone()
            ]
        );
        assert_eq!(bases(rules.for_push("docker.io").await), [hub]);
        assert_eq!(
            bases(rules.for_pull("localhost:5000").await),
            [
                ("https://localhost:5000".to_owned(), false),
                ("http://localhost:5000".to_owned(), false)
            ]
        );
    }

    #[test]
    fn refusals() {
        for bad in ["http://a", "1.2.3.4/33", "::1/129", "a/b", ""] {
            assert!(rules(&[bad], &[]).is_err(), "{bad}");
        }
        for bad in ["a", "ftp://a", "https://u@a", "https://a?x"] {
            assert!(rules(&[], &[bad]).is_err(), "{bad}");
        }
    }
}
