use std::collections::BTreeSet;

use skep_types::{EndpointSpec, PortConfig, PublishMode, ResolutionMode, ServiceId};

use super::ControlError;
use crate::Store;

const PORTS: std::ops::RangeInclusive<u32> = 1..=65535;

/// Checks ports on their own and against each other.
pub(super) fn check(spec: &EndpointSpec) -> Result<(), ControlError> {
    let mut published = BTreeSet::new();
    for port in &spec.ports {
        if !PORTS.contains(&port.target_port) {
            return Err(ControlError::invalid(format!(
                "EndpointSpec: invalid target port {}: must be between 1 and 65535",
                port.target_port
            )));
        }
        if port.published_port != 0 && !PORTS.contains(&port.published_port) {
            return Err(ControlError::invalid(format!(
                "EndpointSpec: invalid published port {}: must be between 1 and 65535",
                port.published_port
            )));
        }
        if spec.mode == ResolutionMode::Dnsrr && port.publish_mode == PublishMode::Ingress {
            return Err(ControlError::invalid(
                "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
            ));
        }
        if port.published_port != 0
            && !published.insert((port.protocol, port.published_port, port.publish_mode))
        {
            return Err(ControlError::invalid(format!(
                "EndpointSpec: duplicate published ports provided: {}/{}",
                port.published_port, port.protocol
            )));
        }
    }
    Ok(())
}

/// Checks that no other service has the ports: the mesh's are taken on every host, so another
/// service's ports of hosts clash with them as well.
pub(super) fn check_conflicts(
    store: &Store,
    id: Option<&ServiceId>,
    spec: &EndpointSpec,
) -> Result<(), ControlError> {
    let wanted = spec.ports.iter().filter(|port| port.published_port != 0);
    for port in wanted {
        for service in store.services().filter(|service| Some(&service.id) != id) {
            let own = service.spec.endpoint_spec.iter().flat_map(|endpoint| &endpoint.ports);
            if own.chain(&service.endpoint.ports).any(|other| clash(port, other)) {
                return Err(ControlError::invalid(format!(
                    "port '{}' is already in use by service '{}' ({})",
                    port.published_port, service.spec.annotations.name, service.id
                )));
            }
        }
    }
    Ok(())
}

/// Two services may both have a port of their tasks' hosts; the scheduler keeps them apart.
fn clash(a: &PortConfig, b: &PortConfig) -> bool {
    a.protocol == b.protocol
        && a.published_port == b.published_port
        && (a.publish_mode == PublishMode::Ingress || b.publish_mode == PublishMode::Ingress)
}
