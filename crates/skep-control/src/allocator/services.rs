use std::sync::Arc;

use skep_types::{Endpoint, Network, NetworkId, ResolutionMode, Service, ServiceId, VirtualIp};

use super::networks::needs_allocation;
use super::ports::is_mesh;
use super::{AllocError, Allocator};
use crate::admission::{is_predefined, networks_of};
use crate::{Draft, Store};

impl Allocator {
    /// Makes a service's endpoint what its spec asks for. Virtual addresses and ports that still fit
    /// are kept; whatever does not is free by that.
    pub(super) fn allocate_endpoint(
        &mut self,
        draft: &mut Draft,
        id: &ServiceId,
    ) -> Result<(), AllocError> {
        let Some(service) = draft.service(id).cloned() else { return Ok(()) };
        let spec = service.spec.endpoint_spec.clone().unwrap_or_default();
        let ports = self.ports(draft, &service, &spec.ports)?;
        let mut virtual_ips = Vec::new();
        if spec.mode == ResolutionMode::Vip {
            for network in networks(draft, &service)? {
                if is_predefined(&network) {
                    continue;
                }
                if needs_allocation(&network) {
                    return Err(not_allocated(draft, &network));
                }
                let kept = (service.endpoint.virtual_ips.iter())
                    .find(|vip| vip.network_id == network.id && !vip.addr.is_empty());
                let vip = match kept {
                    Some(vip) => vip.clone(),
                    None => VirtualIp {
                        network_id: network.id.clone(),
                        addr: self.next_address(draft, &network)?,
                    },
                };
                virtual_ips.push(vip);
            }
        }
        let endpoint = Endpoint { spec, ports, virtual_ips };
        if endpoint != service.endpoint {
            draft.service_mut(id, |service| service.endpoint = endpoint);
        }
        Ok(())
    }
}

/// The networks a service's tasks are on: the ingress network first, if it publishes through the
/// mesh, then the user's.
pub(super) fn networks(store: &Store, service: &Service) -> Result<Vec<Arc<Network>>, AllocError> {
    let ports = service.spec.endpoint_spec.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
    let mut list = Vec::new();
    if ports.iter().any(is_mesh) {
        list.push(Arc::clone(store.ingress_network().ok_or(AllocError::NoIngress)?));
    }
    for config in networks_of(&service.spec) {
        let network = store
            .network(&NetworkId::from(config.target.as_str()))
            .ok_or_else(|| AllocError::NetworkMissing(config.target.clone()))?;
        list.push(Arc::clone(network));
    }
    Ok(list)
}

/// Whether the endpoint is what the spec asks for, with everything filled in.
pub(super) fn check_endpoint(
    store: &Store,
    service: &Service,
    networks: &[Arc<Network>],
) -> Result<(), AllocError> {
    let wanted = service.spec.endpoint_spec.clone().unwrap_or_default();
    let endpoint = &service.endpoint;
    let overlays = networks.iter().filter(|network| !is_predefined(network));
    let has_vip = |network: &Arc<Network>| {
        endpoint.virtual_ips.iter().any(|vip| vip.network_id == network.id)
    };
    let vips_fit = wanted.mode == ResolutionMode::Dnsrr || overlays.clone().all(has_vip);
    if wanted == endpoint.spec && endpoint.ports.len() == wanted.ports.len() && vips_fit {
        return Ok(());
    }
    match overlays.into_iter().find(|network| needs_allocation(network)) {
        Some(network) => Err(not_allocated(store, network)),
        None => Err(AllocError::EndpointPending),
    }
}

/// Why a network has nothing yet: networks are tried before anything that needs them.
pub(super) fn not_allocated(store: &Store, network: &Network) -> AllocError {
    let name = network.spec.annotations.name.clone();
    let configs = network.spec.ipam.as_ref().map_or(&[][..], |ipam| &ipam.configs);
    match configs.iter().find(|config| !config.subnet.is_empty()) {
        Some(config) => AllocError::SubnetInUse(name, config.subnet.clone()),
        None if store.cluster().is_some() => AllocError::NoSubnet(name),
        None => AllocError::NetworkNotAllocated(name),
    }
}
