use skep_types::{
    Network, NetworkId, NetworkSpec, PREDEFINED_LABEL, PublishMode, Service, ServiceSpec,
    TaskState, Timestamp, VXLAN_ID_LIST,
};

use super::{ControlError, names, subnets};
use crate::{Action, Draft, Rng, Store, new_id};

/// First and last VXLAN id a network may have.
pub(crate) const VNI_RANGE: std::ops::RangeInclusive<u32> = 4096..=16_777_215;

/// Driver option with a network's MTU in bytes.
const MTU: &str = "com.docker.network.driver.mtu";

/// # Errors
/// `InvalidArgument` for a bad name, driver or subnet; `AlreadyExists` if the name is taken or there is
/// an ingress network already.
pub fn create_network(
    store: &Store,
    mut spec: NetworkSpec,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> Result<(NetworkId, Vec<Action>), ControlError> {
    names::check_dns_name(&spec.annotations)?;
    let name = spec.annotations.name.clone();
    check_driver(store, &mut spec)?;
    if spec.annotations.labels.contains_key(PREDEFINED_LABEL) {
        return Err(ControlError::denied(format!(
            "label {PREDEFINED_LABEL} is for internally created predefined networks and cannot be \
             applied by users"
        )));
    }
    if spec.ingress {
        if spec.attachable {
            return Err(ControlError::invalid("ingress network cannot be attachable"));
        }
        if spec.internal {
            return Err(ControlError::invalid("ingress network cannot be internal"));
        }
        if let Some(present) = store.ingress_network() {
            return Err(ControlError::exists(format!(
                "ingress network ({}) is already present",
                present.spec.annotations.name
            )));
        }
    }
    if store.network_named(&name).is_some() {
        return Err(ControlError::exists(format!("network with name {name} already exists")));
    }
    if let Some(ipam) = &spec.ipam {
        subnets::check_ipam(store, ipam)?;
    }
    let id: NetworkId = new_id(rng);
    let mut draft = Draft::new(store, now);
    draft.put(Network { id: id.clone(), spec, ..Network::default() });
    Ok((id, draft.finish()))
}

/// # Errors
/// `NotFound`; `FailedPrecondition` while a service or running task uses it, and for ingress while a
/// service publishes ports through it; `PermissionDenied` for predefined networks.
pub fn remove_network(
    store: &Store,
    id: &NetworkId,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    let network = (store.network(id))
        .ok_or_else(|| ControlError::not_found(format!("network {id} not found")))?;
    let name = &network.spec.annotations.name;
    if is_predefined(network) {
        return Err(ControlError::denied(format!(
            "{name} is a pre-defined network and cannot be removed"
        )));
    }
    let publisher = store.services().find(|service| publishes(service));
    if let Some(service) = publisher.filter(|_| network.spec.ingress) {
        return Err(ControlError::precondition(format!(
            "ingress network cannot be removed because service {} depends on it",
            service.id
        )));
    }
    let user = store.services().find(|s| networks_of(&s.spec).any(|n| n.target == id.as_str()));
    if let Some(service) = user {
        return Err(ControlError::precondition(format!(
            "network {id} is in use by service {}",
            service.id
        )));
    }
    let task = store.tasks_on_network(id).find(|task| {
        // A removed service's tasks are as good as gone, even before the leader's next step says so.
        task.desired_state <= TaskState::Running
            && (task.service_id.is_empty() || store.service(&task.service_id).is_some())
    });
    if let Some(task) = task {
        return Err(ControlError::precondition(format!(
            "network {id} is in use by task {}",
            task.id
        )));
    }
    let mut draft = Draft::new(store, now);
    draft.remove(id.clone());
    Ok(draft.finish())
}

fn check_driver(store: &Store, spec: &mut NetworkSpec) -> Result<(), ControlError> {
    let driver = &mut spec.driver_configuration;
    if driver.name.is_empty() {
        "overlay".clone_into(&mut driver.name);
    }
    // To take the option and not encrypt would be worse than to say so.
    for option in ["encrypted", "dsr"] {
        if driver.options.contains_key(option) {
            return Err(ControlError::invalid(format!(
                "overlay network option {option:?} is not supported yet: leave it out"
            )));
        }
    }
    if driver.name != "overlay" {
        return Err(ControlError::invalid(format!(
            "driver {:?} cannot make networks of a swarm: only \"overlay\" can",
            driver.name
        )));
    }
    if spec.ipv6_enabled {
        return Err(ControlError::invalid("IPv6 is not supported on overlay networks"));
    }
    if !spec.config_from.is_empty() {
        return Err(ControlError::invalid(format!(
            "overlay networks cannot take their settings from {}",
            spec.config_from
        )));
    }
    if let Some(mtu) = driver.options.get(MTU)
        && !mtu.parse::<u16>().is_ok_and(|mtu| mtu >= 68)
    {
        return Err(ControlError::invalid(format!(
            "driver option: {MTU}={mtu}: must be 68 to 65535"
        )));
    }
    for text in driver.options.get(VXLAN_ID_LIST).iter().flat_map(|list| list.split(',')) {
        let vni = text.trim().parse::<u32>().ok().filter(|vni| VNI_RANGE.contains(vni));
        let Some(vni) = vni else {
            return Err(ControlError::invalid(format!(
                "invalid vxlan id {text}: must be between {} and {}",
                VNI_RANGE.start(),
                VNI_RANGE.end()
            )));
        };
        if store.vnis().any(|(used, _)| used == vni) {
            return Err(ControlError::invalid(format!("vxlan id {vni} is already in use")));
        }
    }
    Ok(())
}

/// Networks every host has by itself; nothing is allocated on them.
pub(crate) fn is_predefined(network: &Network) -> bool {
    network.spec.annotations.labels.contains_key(PREDEFINED_LABEL)
}

/// What a service is attached to by its user; `networks` of the service is the older place.
pub(crate) fn networks_of(
    spec: &ServiceSpec,
) -> impl Iterator<Item = &skep_types::NetworkAttachmentConfig> {
    let networks = if spec.task_template.networks.is_empty() {
        &spec.networks
    } else {
        &spec.task_template.networks
    };
    networks.iter()
}

/// Whether a service publishes ports through the mesh.
fn publishes(service: &Service) -> bool {
    service.spec.endpoint_spec.as_ref().is_some_and(|endpoint| {
        endpoint.ports.iter().any(|port| port.publish_mode == PublishMode::Ingress)
    })
}
