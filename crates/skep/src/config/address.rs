use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::ConfigError;

/// Docker's socket.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where the Engine API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// Sockets handed over by the service manager: all, or the one with this descriptor number or name.
    Activated(Option<String>),
}

impl ListenAddress {
    /// Reads `unix://PATH`, `tcp://[HOST]:[PORT]` (2376 with TLS, 2375 without) or `fd://[WHICH]`.
    pub fn parse(text: &str, tls: bool) -> Result<Self, ConfigError> {
        let refuse = |reason: &str| ConfigError::Value {
            what: "host",
            value: text.to_owned(),
            reason: reason.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix://") {
            let path = if path.is_empty() { DEFAULT_SOCKET } else { path };
            if !path.starts_with('/') {
                return Err(refuse("a unix socket needs an absolute path"));
            }
            return Ok(Self::Unix(path.into()));
        }
        if let Some(which) = text.strip_prefix("fd://") {
            let which = Some(which).filter(|which| !matches!(*which, "" | "*"));
            return Ok(Self::Activated(which.map(str::to_owned)));
        }
        let Some(rest) = text.strip_prefix("tcp://") else {
            return Err(refuse("use unix://PATH, tcp://HOST:PORT or fd://"));
        };
        let rest = rest.trim_end_matches('/');
        let default_port = if tls { 2376 } else { 2375 };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = if port.is_empty() {
                    default_port
                } else {
                    port.parse().map_err(|_| refuse("no such port"))?
                };
                (host, port)
            }
            _ => (rest, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let ip: IpAddr = match host {
            "" => Ipv4Addr::UNSPECIFIED.into(),
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => host.parse().map_err(|_| refuse("the host must be an address"))?,
        };
        let address = SocketAddr::new(ip, port);
        if !tls && !ip.is_loopback() {
            return Err(ConfigError::OpenTcp { address });
        }
        Ok(Self::Tcp(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_dockers() {
        let table = [
            ("unix:///run/x.sock", false, "Unix(\"/run/x.sock\")"),
            ("unix://", false, "Unix(\"/var/run/docker.sock\")"),
            ("tcp://127.0.0.1", false, "Tcp(127.0.0.1:2375)"),
            ("tcp://localhost:1", false, "Tcp(127.0.0.1:1)"),
            ("tcp://0.0.0.0", true, "Tcp(0.0.0.0:2376)"),
            ("tcp://[::1]:99", false, "Tcp([::1]:99)"),
            ("fd://", false, "Activated(None)"),
            ("fd://*", true, "Activated(None)"),
            ("fd://4", false, "Activated(Some(\"4\"))"),
        ];
        for (text, tls, expected) in table {
            assert_eq!(
                format!("{:?}", ListenAddress::parse(text, tls).unwrap()),
                expected,
                "{text}"
            );
        }
        for bad in ["http://x", "unix://rel", "tcp://127.0.0.1:99999", "tcp://name.example:1"] {
            assert!(ListenAddress::parse(bad, false).is_err(), "{bad}");
        }
    }
}
