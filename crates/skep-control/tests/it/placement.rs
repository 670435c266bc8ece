use std::collections::BTreeMap;

use skep_control::{Constraint, ConstraintError};
use skep_types::{
    EngineDescription, Node, NodeAvailability, NodeRole, Placement, PlacementPreference, Platform,
    PluginDescription, PortConfig, PublishMode, ResourceRequirements, Resources, ServiceSpec,
    SpreadOver, TaskState,
};

use crate::sim::Sim;
use crate::sim::spec::{self, on_network, placement, port, publish, replicated};

#[test]
fn parsing() {
    let cases = [
        ("node.role==manager", None),
        ("node.role != manager", None),
        ("node.labels.a-b.c==x y", None),
        ("node.role", Some("constraint expected one operator from ==, !=")),
        ("node.role=manager", Some("constraint expected one operator from ==, !=")),
        ("1node==x", Some("key '1node' is invalid")),
        ("node.role==", Some("value '' is invalid")),
        ("node.role==a&b", Some("value 'a&b' is invalid")),
    ];
    for (text, error) in cases {
        let found = Constraint::parse(text).map_err(|e: ConstraintError| e.to_string());
        assert_eq!(found.err().as_deref(), error, "{text}");
    }
}

#[test]
fn matching() {
    let mut node = spec::node(&"abc".into(), "web1");
    node.role = NodeRole::Manager;
    node.status.addr = "192.0.2.7".into();
    node.description.platform = Platform { os: "linux".into(), architecture: "x86_64".into() };
    node.spec.annotations.labels.insert("Disk".into(), "ssd".into());
    node.description.engine = Some(EngineDescription {
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        ..EngineDescription::default()
    });
    let cases = [
        ("node.id==abc", true),
        ("node.id!=abc", false),
        ("node.hostname==WEB1", true),
        ("node.role==manager", true),
        ("node.role==worker", false),
        ("node.platform.os==linux", true),
        ("node.platform.arch==amd64", true),
        ("node.platform.arch==x86_64", true),
        ("node.platform.arch!=arm64", true),
        ("node.labels.Disk==ssd", true),
        ("node.labels.disk==ssd", false),
        ("node.labels.none!=x", true),
        ("engine.labels.zone==a", true),
        ("node.ip==192.0.2.7", true),
        ("node.ip==192.0.2.0/24", true),
        ("node.ip!=192.0.2.0/24", false),
        ("nonsense.key==x", false),
        ("nonsense.key!=x", false),
    ];
    for (text, fits) in cases {
        assert_eq!(Constraint::parse(text).unwrap().fits(&node), fits, "{text}");
    }
}

fn reserve(spec: &mut ServiceSpec, nano_cpus: i64, memory_bytes: i64) {
    spec.task_template.resources = Some(ResourceRequirements {
        reservations: Some(Resources { nano_cpus, memory_bytes, ..Resources::default() }),
        ..ResourceRequirements::default()
    });
}

#[test]
fn reasons() {
    type Edit = fn(&mut ServiceSpec);
    type NodeEdit = fn(&mut Node);
    let same: NodeEdit = |_| {};
    let cases: [(Edit, NodeEdit, &str); 7] = [
        (
            |spec| placement(spec).constraints = vec!["node.role==manager".into()],
            same,
            "no suitable node (scheduling constraints not satisfied on 2 nodes)",
        ),
        (
            |spec| reserve(spec, 5_000_000_000, 0),
            same,
            "no suitable node (insufficient resources on 2 nodes)",
        ),
        (
            |_| {},
            |node| node.spec.availability = NodeAvailability::Pause,
            "no suitable node (2 nodes not available for new tasks)",
        ),
        (
            |spec| {
                placement(spec).platforms =
                    vec![Platform { os: "windows".into(), architecture: String::new() }];
            },
            same,
            "no suitable node (unsupported platform on 2 nodes)",
        ),
        (
            |spec| publish(spec, vec![port(80, 8080)]),
            |node| node.description.engine = Some(EngineDescription::default()),
            "no suitable node (missing plugin on 2 nodes)",
        ),
        (
            |spec| placement(spec).constraints = vec!["node.hostname==host1".into()],
            |node| {
                if node.description.hostname == "host1" {
                    node.spec.availability = NodeAvailability::Pause;
                }
            },
            "no suitable node (1 node not available for new tasks; scheduling constraints not \
             satisfied on 1 node)",
        ),
        (
            |spec| reserve(spec, 0, 5 << 30),
            same,
            "no suitable node (insufficient resources on 2 nodes)",
        ),
    ];
    for (edit, node_edit, message) in cases {
        let mut sim = Sim::new(1, 2);
        for node in sim.nodes.clone() {
            sim.set_node(&node, node_edit);
        }
        let mut spec = replicated("web", 1);
        edit(&mut spec);
        let id = sim.create(spec);
        sim.settle();
        let task = &sim.tasks(&id)[0];
        assert_eq!(task.status.state, TaskState::Pending);
        assert_eq!(task.status.err, message);
    }
    let mut sim = Sim::new(1, 0);
    let id = sim.create(replicated("web", 1));
    sim.settle();
    assert_eq!(sim.tasks(&id)[0].status.err, "no suitable node");
    sim.add_node(1);
    sim.run(10);
    assert_eq!(sim.running(&id)[0].status.err, "");
}

#[test]
fn reservations_are_counted() {
    let mut sim = Sim::new(1, 2);
    let mut spec = replicated("web", 5);
    reserve(&mut spec, 2_000_000_000, 0);
    let id = sim.create(spec);
    sim.run(10);
    assert_eq!(sim.running(&id).len(), 4, "two on each node of four CPUs");
    let waiting = sim.wanted(&id).into_iter().find(|t| t.status.state == TaskState::Pending);
    assert_eq!(waiting.unwrap().status.err, "no suitable node (insufficient resources on 2 nodes)");
}

#[test]
fn at_most_so_many_per_node() {
    let mut sim = Sim::new(1, 2);
    let mut spec = replicated("web", 3);
    placement(&mut spec).max_replicas = 1;
    let id = sim.create(spec);
    sim.run(10);
    assert_eq!(sim.running(&id).len(), 2);
    let waiting = sim.wanted(&id).into_iter().find(|t| t.status.state == TaskState::Pending);
    assert_eq!(
        waiting.unwrap().status.err,
        "no suitable node (max replicas per node limit exceed)"
    );
}

#[test]
fn ports_of_hosts_keep_tasks_apart() {
    let mut sim = Sim::new(1, 2);
    let mut spec = replicated("web", 3);
    publish(&mut spec, vec![PortConfig { publish_mode: PublishMode::Host, ..port(80, 8080) }]);
    let id = sim.create(spec);
    sim.run(10);
    assert_eq!(sim.running(&id).len(), 2);
    let waiting = sim.wanted(&id).into_iter().find(|t| t.status.state == TaskState::Pending);
    assert_eq!(
        waiting.unwrap().status.err,
        "no suitable node (host-mode port already in use on 2 nodes)"
    );
}

#[test]
fn plugins_by_name() {
    let mut sim = Sim::new(1, 1);
    let node = sim.nodes[0].clone();
    let plugin =
        |kind: &str, name: &str| PluginDescription { kind: kind.to_owned(), name: name.to_owned() };
    sim.set_node(&node, |node| {
        node.description.engine = Some(EngineDescription {
            plugins: vec![plugin("Network", "overlay"), plugin("Log", "json-file")],
            ..EngineDescription::default()
        });
    });
    let mut spec = replicated("web", 1);
    publish(&mut spec, vec![port(80, 8080)]);
    on_network(&mut spec, "host");
    spec.task_template.log_driver =
        Some(skep_types::Driver { name: "json-file".into(), ..Default::default() });
    let id = sim.create(spec);
    sim.run(5);
    assert_eq!(sim.running(&id).len(), 1);
}

#[test]
fn spread_over_label_values() {
    let mut sim = Sim::new(1, 4);
    for (number, node) in sim.nodes.clone().iter().enumerate() {
        let rack = if number == 0 { "a" } else { "b" };
        sim.set_node(node, |node| {
            node.spec.annotations.labels.insert("rack".into(), rack.into());
        });
    }
    let mut spec = replicated("web", 6);
    *placement(&mut spec) = Placement {
        preferences: vec![PlacementPreference {
            spread: Some(SpreadOver { spread_descriptor: "node.labels.rack".into() }),
        }],
        ..Placement::default()
    };
    let id = sim.create(spec);
    sim.run(10);
    let on_first = sim.running(&id).iter().filter(|t| t.node_id == sim.nodes[0]).count();
    assert_eq!(on_first, 3, "half of them in the rack of one node");
}

#[test]
fn generic_resources_are_claimed() {
    use skep_types::{DiscreteGenericResource, GenericResource, NamedGenericResource};
    let mut sim = Sim::new(1, 1);
    let node = sim.nodes[0].clone();
    let named = |value: &str| GenericResource {
        named_resource_spec: Some(NamedGenericResource { kind: "gpu".into(), value: value.into() }),
        discrete_resource_spec: None,
    };
    sim.set_node(&node, |node| {
        node.description.resources.generic_resources = vec![named("one"), named("two")];
    });
    let mut spec = replicated("web", 3);
    reserve(&mut spec, 0, 0);
    let wanted = spec.task_template.resources.as_mut().unwrap().reservations.as_mut().unwrap();
    wanted.generic_resources = vec![GenericResource {
        named_resource_spec: None,
        discrete_resource_spec: Some(DiscreteGenericResource { kind: "gpu".into(), value: 1 }),
    }];
    let id = sim.create(spec);
    sim.run(10);
    let mut held: Vec<_> =
        sim.running(&id).iter().flat_map(|t| t.generic_resources.clone()).collect();
    held.sort_by_key(|r| r.named_resource_spec.as_ref().unwrap().value.clone());
    assert_eq!(held, [named("one"), named("two")]);
}
