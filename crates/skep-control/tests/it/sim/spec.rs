use skep_types::{
    Annotations, ContainerSpec, EndpointSpec, GlobalService, Nanos, NetworkAttachmentConfig,
    NetworkSpec, Node, NodeDescription, NodeId, NodeState, NodeStatus, Placement, PortConfig,
    ReplicatedService, Resources, RestartPolicy, ServiceMode, ServiceSpec, TaskSpec,
};

pub fn named(name: &str) -> Annotations {
    Annotations { name: name.to_owned(), ..Annotations::default() }
}

pub fn node(id: &NodeId, hostname: &str) -> Node {
    Node {
        id: id.clone(),
        description: NodeDescription {
            hostname: hostname.to_owned(),
            resources: Resources {
                nano_cpus: 4_000_000_000,
                memory_bytes: 4 << 30,
                ..Resources::default()
            },
            ..NodeDescription::default()
        },
        status: NodeStatus { state: NodeState::Ready, ..NodeStatus::default() },
        ..Node::default()
    }
}

pub fn replicated(name: &str, replicas: u64) -> ServiceSpec {
    ServiceSpec {
        annotations: named(name),
        task_template: TaskSpec {
            container_spec: Some(ContainerSpec {
                image: "web:1".to_owned(),
                ..ContainerSpec::default()
            }),
            ..TaskSpec::default()
        },
        mode: ServiceMode::Replicated(ReplicatedService { replicas: Some(replicas) }),
        ..ServiceSpec::default()
    }
}

pub fn global(name: &str) -> ServiceSpec {
    ServiceSpec { mode: ServiceMode::Global(GlobalService {}), ..replicated(name, 0) }
}

pub fn image(spec: &mut ServiceSpec) -> &mut String {
    &mut spec.task_template.container_spec.as_mut().unwrap().image
}

pub fn restart(spec: &mut ServiceSpec) -> &mut RestartPolicy {
    spec.task_template.restart_policy.get_or_insert_default()
}

pub fn placement(spec: &mut ServiceSpec) -> &mut Placement {
    spec.task_template.placement.get_or_insert_default()
}

pub fn no_delay(spec: &mut ServiceSpec) {
    restart(spec).delay = Some(Nanos(0));
}

pub fn port(target: u32, published: u32) -> PortConfig {
    PortConfig { target_port: target, published_port: published, ..PortConfig::default() }
}

pub fn publish(spec: &mut ServiceSpec, ports: Vec<PortConfig>) {
    spec.endpoint_spec.get_or_insert_with(EndpointSpec::default).ports = ports;
}

pub fn on_network(spec: &mut ServiceSpec, network: &str) {
    spec.task_template.networks.push(NetworkAttachmentConfig {
        target: network.to_owned(),
        ..NetworkAttachmentConfig::default()
    });
}

pub fn network(name: &str) -> NetworkSpec {
    NetworkSpec { annotations: named(name), ..NetworkSpec::default() }
}
