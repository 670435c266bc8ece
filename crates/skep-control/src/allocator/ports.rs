use std::collections::BTreeSet;

use skep_types::{PortConfig, Protocol, PublishMode, Service, ServiceId};

use super::{AllocError, Allocator};
use crate::Store;

/// Ports given when the user names none.
const AUTOMATIC: std::ops::RangeInclusive<u32> = 30000..=32767;

impl Allocator {
    /// The service's ports with all published ones of the mesh filled in. A port chosen before for the
    /// same entry is kept.
    pub(super) fn ports(
        &mut self,
        store: &Store,
        service: &Service,
        wanted: &[PortConfig],
    ) -> Result<Vec<PortConfig>, AllocError> {
        let mut taken: BTreeSet<(Protocol, u32)> = BTreeSet::new();
        for port in wanted.iter().filter(|port| is_mesh(port) && port.published_port != 0) {
            check_free(store, &service.id, port)?;
            taken.insert((port.protocol, port.published_port));
        }
        let mut ports = Vec::with_capacity(wanted.len());
        for port in wanted {
            let mut port = port.clone();
            if is_mesh(&port) && port.published_port == 0 {
                let kept = service.endpoint.ports.iter().find(|old| {
                    same_entry(old, &port)
                        && old.published_port != 0
                        && !taken.contains(&(old.protocol, old.published_port))
                        && check_free(store, &service.id, old).is_ok()
                });
                port.published_port = match kept {
                    Some(old) => old.published_port,
                    None => self.next_port(store, port.protocol, &service.id, &taken)?,
                };
                taken.insert((port.protocol, port.published_port));
            }
            ports.push(port);
        }
        Ok(ports)
    }

    fn next_port(
        &mut self,
        store: &Store,
        protocol: Protocol,
        id: &ServiceId,
        taken: &BTreeSet<(Protocol, u32)>,
    ) -> Result<u32, AllocError> {
        let (first, end) = (*AUTOMATIC.start(), *AUTOMATIC.end());
        let highest = || {
            let ports = store
                .ingress_ports()
                .filter(|(p, port, _)| *p == protocol && AUTOMATIC.contains(port));
            ports.map(|(_, port, _)| port).max()
        };
        let last = self.last_port.get(&protocol).copied().or_else(highest);
        let start = last.filter(|last| *last < end).map_or(first, |last| last + 1);
        let free = |port: &u32| {
            let owner = store.ingress_port_owner(protocol, *port);
            owner.is_none_or(|owner| owner.id == *id) && !taken.contains(&(protocol, *port))
        };
        let port =
            (start..=end).chain(first..start).find(free).ok_or(AllocError::NoPort(protocol))?;
        self.last_port.insert(protocol, port);
        Ok(port)
    }
}

pub(super) fn is_mesh(port: &PortConfig) -> bool {
    port.publish_mode == PublishMode::Ingress
}

fn same_entry(a: &PortConfig, b: &PortConfig) -> bool {
    (&a.name, a.protocol, a.target_port, a.publish_mode)
        == (&b.name, b.protocol, b.target_port, b.publish_mode)
}

fn check_free(store: &Store, id: &ServiceId, port: &PortConfig) -> Result<(), AllocError> {
    match store.ingress_port_owner(port.protocol, port.published_port) {
        Some(owner) if owner.id != *id => {
            Err(AllocError::PortInUse(port.published_port, owner.spec.annotations.name.clone()))
        }
        _ => Ok(()),
    }
}
