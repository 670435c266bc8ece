//! Ports of the routing mesh that something else on this host holds: said where users look.

use std::collections::BTreeMap;

use bollard_stubs::models::{EventMessageScopeEnum as Scope, EventMessageTypeEnum as EventType};
use skep_engine::Engine;
use skep_net::{BlockedPort, BlockedPorts};
use skep_types::{PublishMode, Task};
use tokio_util::sync::CancellationToken;

/// What a service's event says when a port of its is blocked on this host.
const BLOCKED: &str = "port-blocked";
/// What it says when the port answers after all, or is not published any more.
const UNBLOCKED: &str = "port-unblocked";

/// What blocked ports mean for one task, for its status; empty if none is its own.
pub fn trouble(task: &Task, blocked: &BlockedPorts) -> String {
    let ports = task.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    let own = ports.filter(|port| port.publish_mode == PublishMode::Ingress).filter_map(|port| {
        let (&(protocol, number), blocked) = blocked.iter().find(|((protocol, number), _)| {
            u32::from(*number) == port.published_port && protocol.as_str() == port.protocol.as_str()
        })?;
        let reason = &blocked.reason;
        Some(format!("published port {number}/{protocol} is not served by this host: {reason}"))
    });
    own.collect::<Vec<_>>().join("; ")
}

/// Publishes an event for each port that becomes blocked or free, until the end.
pub async fn announce(engine: Engine, end: CancellationToken) {
    let mut blocked = engine.net().blocked_ports();
    let mut told = BTreeMap::new();
    loop {
        let now = blocked.borrow_and_update().clone();
        for (action, key, port) in news(&told, &now) {
            let attributes = vec![
                ("name".to_owned(), port.service_name.clone()),
                ("port".to_owned(), format!("{}/{}", key.1, key.0)),
                ("reason".to_owned(), port.reason.clone()),
            ];
            let id = port.service.as_str();
            engine.publish_event(EventType::SERVICE, action, id, attributes, Scope::LOCAL);
        }
        told = now;
        tokio::select! {
            () = end.cancelled() => return,
            changed = blocked.changed() => if changed.is_err() { return },
        }
    }
}

type Key = (skep_types::Protocol, u16);

/// Free ports come first: another service may have taken over the port.
fn news<'a>(
    before: &'a BlockedPorts,
    now: &'a BlockedPorts,
) -> impl Iterator<Item = (&'static str, Key, &'a BlockedPort)> {
    let same = |a: &BlockedPort, b: Option<&BlockedPort>| b.is_some_and(|b| a.service == b.service);
    let gone = before.iter().filter(move |(key, port)| !same(port, now.get(key)));
    let come = now.iter().filter(move |(key, port)| !same(port, before.get(key)));
    gone.map(|(key, port)| (UNBLOCKED, *key, port))
        .chain(come.map(|(key, port)| (BLOCKED, *key, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::{Endpoint, PortConfig};

    fn blocked(port: u16, service: &str) -> BlockedPorts {
        let port_of = BlockedPort {
            service: service.into(),
            service_name: service.to_owned(),
            reason: "held by nginx".to_owned(),
        };
        BTreeMap::from([((skep_types::Protocol::Tcp, port), port_of)])
    }

    #[test]
    fn a_task_tells_of_its_own_mesh_ports() {
        for (mode, published, want) in [
            (
                PublishMode::Ingress,
                80,
                "published port 80/tcp is not served by this host: held by nginx",
            ),
            (PublishMode::Ingress, 81, ""),
            (PublishMode::Host, 80, ""),
        ] {
            let port = PortConfig {
                target_port: 8000,
                published_port: published,
                publish_mode: mode,
                ..Default::default()
            };
            let endpoint = Endpoint { ports: vec![port], ..Default::default() };
            let task = Task { endpoint: Some(endpoint), ..Default::default() };
            assert_eq!(trouble(&task, &blocked(80, "web")), want);
        }
    }

    #[test]
    fn news_are_what_changed() {
        let said = |before: &BlockedPorts, now: &BlockedPorts| {
            news(before, now)
                .map(|(action, key, port)| format!("{action} {} {}", key.1, port.service_name))
                .collect::<Vec<_>>()
        };
        let (none, a, b) = (BlockedPorts::new(), blocked(80, "a"), blocked(80, "b"));
        assert_eq!(said(&none, &a), ["port-blocked 80 a"]);
        assert_eq!(said(&a, &none), ["port-unblocked 80 a"]);
        assert_eq!(said(&a, &b), ["port-unblocked 80 a", "port-blocked 80 b"]);
        assert_eq!(said(&a, &a), Vec::<String>::new());
    }
}
