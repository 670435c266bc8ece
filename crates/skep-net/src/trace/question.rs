//! What was asked: where a packet starts and what it is for.

use super::report::OriginKind;
use super::scene::{KnownPort, Scene};
use crate::error::NetError;
use crate::ids::SandboxId;
use crate::world::Sandbox;
use skep_types::Protocol;
use std::net::Ipv4Addr;

/// A request for a trace, as it comes in.
#[derive(Debug, Clone, Default)]
pub struct TraceQuery {
    /// `service`, `service:port`, `host:port`, `address:port`, `:port` or `port`, with
    /// `/udp` or `/sctp` behind it where TCP is not meant.
    pub target: String,
    /// Empty or `outside`; `host` or this host's name; or a container's name or id.
    pub from: String,
    /// This host's name.
    pub host_name: String,
    /// Services as the managers know them; `None` on a host that is no manager.
    pub services: Option<Vec<super::scene::KnownService>>,
    /// Addresses and names of the swarm's hosts, as far as known.
    pub nodes: std::collections::BTreeMap<std::net::IpAddr, String>,
}

/// Where the packet starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Outside,
    Host,
    Container(SandboxId),
}

/// What it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// An address.
    Address(Ipv4Addr),
    /// Whatever the container's resolver says.
    Name(String),
    /// Any address of this host.
    Here,
    /// Nothing that this host knows.
    Nobody,
    /// A port that a service does not publish; the ones it does.
    NotPublished(String, Vec<KnownPort>),
}

/// A question that can be walked.
#[derive(Debug, Clone)]
pub struct Question {
    pub target: String,
    pub start: Start,
    pub goal: Goal,
    pub protocol: Protocol,
    pub port: u16,
    pub service: Option<String>,
}

impl Question {
    /// Reads a request with what is known.
    ///
    /// Fails when it makes no sense, names another host or no container.
    pub fn read(query: &TraceQuery, scene: &Scene<'_>) -> Result<Self, NetError> {
        let start = start(query, scene)?;
        let (rest, protocol) = match query.target.rsplit_once('/') {
            Some((rest, protocol)) => match protocol.parse() {
                Ok(protocol) => (rest, Some(protocol)),
                Err(_) => return Err(invalid(query, "the protocol is none of tcp, udp and sctp")),
            },
            None => (query.target.as_str(), None),
        };
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) => {
                ("", Some(rest))
            }
            None => (rest, None),
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(invalid(query, "the port is not a number from 1 to 65535")),
        };
        if name.is_empty() && port.is_none() {
            return Err(invalid(query, "say a service, or a host and a port"));
        }
        let service = service_of(name, protocol, port, scene);
        let ports = service.as_ref().map(|s| ports_of(s, scene)).unwrap_or_default();
        let ports: Vec<KnownPort> =
            ports.into_iter().filter(|p| protocol.is_none_or(|want| want == p.protocol)).collect();
        let inside = matches!(start, Start::Container(_));
        let mut question = Self {
            target: query.target.clone(),
            start,
            goal: Goal::Nobody,
            protocol: protocol.unwrap_or(Protocol::Tcp),
            port: port.unwrap_or_default(),
            service,
        };
        if inside {
            question.inside(query, name, port, &ports)?;
        } else {
            question.outside(query, name, port, &ports)?;
        }
        if question.port == 0 && !matches!(question.goal, Goal::Nobody | Goal::NotPublished(..)) {
            return Err(invalid(query, "say which port, as in name:80"));
        }
        Ok(question)
    }

    /// From a container, names are the resolver's business and ports the tasks' own.
    fn inside(
        &mut self,
        query: &TraceQuery,
        name: &str,
        port: Option<u16>,
        ports: &[KnownPort],
    ) -> Result<(), NetError> {
        self.goal = match name.parse() {
            Ok(address) => Goal::Address(address),
            Err(_) if name == "localhost" => Goal::Address(Ipv4Addr::LOCALHOST),
            Err(_) if name.is_empty() => return Err(invalid(query, "say a name or an address")),
            Err(_) => Goal::Name(name.to_owned()),
        };
        if port.is_none() {
            match ports.first() {
                Some(first) => {
                    self.port = first.target;
                    self.protocol = first.protocol;
                }
                None => return Err(invalid(query, "say which port of it, as in name:80")),
            }
        }
        Ok(())
    }

    /// From elsewhere, a service is its published ports.
    fn outside(
        &mut self,
        query: &TraceQuery,
        name: &str,
        port: Option<u16>,
        ports: &[KnownPort],
    ) -> Result<(), NetError> {
        if name.is_empty() || name == "localhost" || name.eq_ignore_ascii_case(&query.host_name) {
            self.goal = Goal::Here;
        } else if let Ok(address) = name.parse::<Ipv4Addr>() {
            self.goal = Goal::Address(address);
        } else if let Some(service) = &self.service {
            let wanted = match port {
                Some(port) => ports.iter().find(|p| p.published == port),
                None => ports.first(),
            };
            match wanted {
                Some(found) => {
                    self.port = found.published;
                    self.protocol = found.protocol;
                    self.goal = Goal::Here;
                }
                None => self.goal = Goal::NotPublished(service.clone(), ports.to_vec()),
            }
        } else if query.nodes.values().any(|node| node.eq_ignore_ascii_case(name)) {
            return Err(elsewhere(query, name));
        }
        Ok(())
    }
}

/// The service that is meant, by its name or by a port that it publishes.
fn service_of(
    name: &str,
    protocol: Option<Protocol>,
    port: Option<u16>,
    scene: &Scene<'_>,
) -> Option<String> {
    let lower = name.to_lowercase();
    let here = scene.services.by_network.values().flat_map(|s| s.values());
    if let Some(service) = here.map(|s| &s.name).find(|n| n.to_lowercase() == lower) {
        return Some(service.clone());
    }
    if let Some(service) = scene.known_service(name) {
        return Some(service.name.clone());
    }
    let key = (protocol.unwrap_or(Protocol::Tcp), port?);
    let mesh = scene.services.mesh.get(&key).map(|m| m.service.clone());
    // Only this host's ports are published ones.
    let on_host = name.is_empty() || name == "localhost" || name.parse::<Ipv4Addr>().is_ok();
    mesh.or_else(|| scene.publisher(key.0, key.1).map(|s| s.name.clone())).filter(|_| on_host)
}

/// Published ports of a service: what the managers say, else what its tasks say.
fn ports_of(service: &str, scene: &Scene<'_>) -> Vec<KnownPort> {
    if let Some(known) = scene.known_service(service) {
        return known.ports.clone();
    }
    let mut ports = Vec::new();
    for (_, record) in scene.world.records() {
        if record.service_name == service {
            for port in &record.ingress_ports {
                let port = KnownPort {
                    protocol: port.protocol,
                    target: port.target,
                    published: port.published,
                    host_mode: false,
                };
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
        }
    }
    ports
}

fn start(query: &TraceQuery, scene: &Scene<'_>) -> Result<Start, NetError> {
    let from = query.from.trim_start_matches('/');
    match from {
        "" | "outside" => return Ok(Start::Outside),
        "host" | "localhost" | "127.0.0.1" => return Ok(Start::Host),
        _ => {}
    }
    let sandboxes = || scene.world.running.sandboxes.values();
    let task = format!("{from}.");
    let ways: [&dyn Fn(&Sandbox) -> bool; 3] = [
        &|s| s.spec.container_name == from || s.spec.container_id == from,
        // `web.1` is the task in that slot, whose container has the task's id behind it.
        &|s| s.spec.container_name.starts_with(&task),
        &|s| s.spec.container_id.starts_with(from),
    ];
    for way in ways {
        let mut found = sandboxes().filter(|s| way(s));
        match (found.next(), found.next()) {
            (Some(one), None) if one.spec.mode == crate::model::SandboxMode::Host => {
                return Ok(Start::Host);
            }
            (Some(one), None) => return Ok(Start::Container(one.spec.id.clone())),
            (Some(_), Some(_)) => {
                return Err(NetError::Invalid {
                    what: "from",
                    value: from.to_owned(),
                    why: "several containers of this host are called so",
                });
            }
            (None, _) => {}
        }
    }
    let address = from.parse().ok();
    let own = scene.world.running.cluster.as_ref().map(|c| c.data_path_addr);
    if from.eq_ignore_ascii_case(&query.host_name) || (address.is_some() && address == own) {
        return Ok(Start::Host);
    }
    let node =
        query.nodes.iter().find(|(a, n)| n.eq_ignore_ascii_case(from) || Some(**a) == address);
    match node {
        Some((_, name)) => Err(elsewhere(query, name)),
        None => Err(NetError::TraceOrigin(from.to_owned())),
    }
}

fn elsewhere(query: &TraceQuery, host: &str) -> NetError {
    NetError::TraceElsewhere { target: query.target.clone(), host: host.to_owned() }
}

fn invalid(query: &TraceQuery, why: &'static str) -> NetError {
    NetError::Invalid { what: "target", value: query.target.clone(), why }
}

impl Start {
    /// Its kind, as told.
    pub fn kind(&self) -> OriginKind {
        match self {
            Self::Outside => OriginKind::Outside,
            Self::Host => OriginKind::Host,
            Self::Container(_) => OriginKind::Container,
        }
    }
}
