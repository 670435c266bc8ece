use skep_types::{
    MountType, Network, NodeAvailability, NodeState, PREDEFINED_LABEL, PublishMode, Task,
};

use super::constraint::{self, normal_arch};
use super::generic;
use super::nodes::NodeInfo;
use crate::allocator::{Room, no_address};

/// Why a node cannot take a task, in the order of the checks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure<'t> {
    NotReady,
    Resources,
    Plugin,
    Constraint,
    Platform,
    HostPort,
    MaxReplicas,
    /// This network has none left for the task there.
    Addresses(&'t Network),
}

impl Failure<'_> {
    /// The place among the checks.
    pub fn order(self) -> u8 {
        match self {
            Self::NotReady => 0,
            Self::Resources => 1,
            Self::Plugin => 2,
            Self::Constraint => 3,
            Self::Platform => 4,
            Self::HostPort => 5,
            Self::MaxReplicas => 6,
            Self::Addresses(_) => 7,
        }
    }

    /// What the task's status says when `count` nodes fail this way.
    pub fn text(self, count: usize) -> String {
        let nodes = if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
        match self {
            Self::NotReady => format!("{nodes} not available for new tasks"),
            Self::Resources => format!("insufficient resources on {nodes}"),
            Self::Plugin => format!("missing plugin on {nodes}"),
            Self::Constraint => format!("scheduling constraints not satisfied on {nodes}"),
            Self::Platform => format!("unsupported platform on {nodes}"),
            Self::HostPort => format!("host-mode port already in use on {nodes}"),
            Self::MaxReplicas => "max replicas per node limit exceed".to_owned(),
            Self::Addresses(network) => no_address(network).to_string(),
        }
    }
}

/// The first check that the node fails; `None` if it can take the task.
pub(crate) fn first_failure<'t>(
    node: &NodeInfo,
    room: &Room<'_>,
    task: &'t Task,
) -> Option<Failure<'t>> {
    if !is_ready(node) {
        Some(Failure::NotReady)
    } else if !has_resources(node, task) {
        Some(Failure::Resources)
    } else if !has_plugins(node, task) {
        Some(Failure::Plugin)
    } else if !fits_constraints(node, task) {
        Some(Failure::Constraint)
    } else if !fits_platform(node, task) {
        Some(Failure::Platform)
    } else if !has_host_ports(node, task) {
        Some(Failure::HostPort)
    } else if !below_max_replicas(node, task) {
        Some(Failure::MaxReplicas)
    } else {
        room.lacking(&node.node, task).map(Failure::Addresses)
    }
}

/// The checks whose answer can change as tasks are placed.
pub(crate) fn still_fits(node: &NodeInfo, room: &Room<'_>, task: &Task) -> bool {
    has_resources(node, task)
        && has_host_ports(node, task)
        && below_max_replicas(node, task)
        && room.lacking(&node.node, task).is_none()
}

fn is_ready(node: &NodeInfo) -> bool {
    node.node.status.state == NodeState::Ready
        && node.node.spec.availability == NodeAvailability::Active
}

fn has_resources(node: &NodeInfo, task: &Task) -> bool {
    let reserved = task.spec.resources.as_ref().and_then(|r| r.reservations.as_ref());
    reserved.is_none_or(|wanted| {
        wanted.nano_cpus <= node.free_cpus()
            && wanted.memory_bytes <= node.free_memory()
            && generic::fits(&node.generic_free, &wanted.generic_resources)
    })
}

fn has_plugins(node: &NodeInfo, task: &Task) -> bool {
    // A node that says nothing about its engine may have everything.
    let Some(engine) = &node.node.description.engine else { return true };
    let has = |kind: &str, name: &str| {
        let latest = format!("{name}:latest");
        engine.plugins.iter().any(|p| p.kind == kind && (p.name == name || p.name == latest))
    };
    let networks = task.networks_attachments.iter().all(|attachment| {
        attachment.network.spec.annotations.labels.contains_key(PREDEFINED_LABEL)
            || has("Network", &attachment.network.driver_state.name)
    });
    let container = task.spec.container_spec.as_ref();
    let volumes = container.iter().flat_map(|c| &c.mounts).all(|mount| {
        let options = mount.volume_options.as_ref().and_then(|o| o.driver_config.as_ref());
        let driver = options.map_or("", |driver| driver.name.as_str());
        mount.kind != MountType::Volume || driver.is_empty() || has("Volume", driver)
    });
    let log = task.log_driver.as_ref().map_or("", |driver| driver.name.as_str());
    networks && volumes && (matches!(log, "" | "none") || has("Log", log))
}

fn fits_constraints(node: &NodeInfo, task: &Task) -> bool {
    let placement = task.spec.placement.as_ref();
    placement.is_none_or(|placement| constraint::all_fit(&placement.constraints, &node.node))
}

fn fits_platform(node: &NodeInfo, task: &Task) -> bool {
    let wanted = task.spec.placement.as_ref().map_or(&[][..], |placement| &placement.platforms);
    let has = &node.node.description.platform;
    wanted.is_empty()
        || wanted.iter().any(|platform| {
            (platform.os.is_empty() || platform.os == has.os)
                && (platform.architecture.is_empty()
                    || normal_arch(&platform.architecture) == normal_arch(&has.architecture))
        })
}

fn has_host_ports(node: &NodeInfo, task: &Task) -> bool {
    task.endpoint.iter().flat_map(|endpoint| &endpoint.ports).all(|port| {
        port.publish_mode != PublishMode::Host
            || port.published_port == 0
            || !node.host_ports.contains(&(port.protocol, port.published_port))
    })
}

fn below_max_replicas(node: &NodeInfo, task: &Task) -> bool {
    let max = task.spec.placement.as_ref().map_or(0, |placement| placement.max_replicas);
    max == 0 || node.tasks_of(&task.service_id) < max
}
