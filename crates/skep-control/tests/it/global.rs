use skep_types::{NodeAvailability, TaskState};

use crate::sim::Sim;
use crate::sim::spec::{global, image, placement};

#[test]
fn one_task_on_every_node_old_and_new() {
    let mut sim = Sim::new(1, 3);
    let id = sim.create(global("agent"));
    sim.run(10);
    assert_eq!(sim.running(&id).len(), 3);
    sim.add_node(4);
    sim.run(10);
    let running = sim.running(&id);
    assert_eq!(running.len(), 4);
    assert_eq!(running[0].slot, 0);
    assert_eq!(
        running[0].status.message, "scheduler confirmed task can run on preassigned node",
        "the simulated agents keep the message"
    );
}

#[test]
fn constraints_choose_nodes_and_follow_labels() {
    let mut sim = Sim::new(1, 3);
    let mut spec = global("agent");
    placement(&mut spec).constraints = vec!["node.labels.disk == ssd".to_owned()];
    let id = sim.create(spec);
    sim.run(10);
    assert_eq!(sim.tasks(&id).len(), 0);
    let node = sim.nodes[1].clone();
    sim.set_node(&node, |node| {
        node.spec.annotations.labels.insert("disk".into(), "SSD".into());
    });
    sim.run(10);
    assert_eq!(sim.running(&id).len(), 1);
    assert_eq!(sim.running(&id)[0].node_id, node);
    sim.set_node(&node, |node| node.spec.annotations.labels.clear());
    sim.run(10);
    assert_eq!(sim.running(&id).len(), 0);
}

#[test]
fn drain_ends_pause_keeps_active_brings_back() {
    let mut sim = Sim::new(1, 2);
    let id = sim.create(global("agent"));
    sim.run(10);
    let node = sim.nodes[0].clone();
    sim.set_node(&node, |node| node.spec.availability = NodeAvailability::Pause);
    sim.run(10);
    assert_eq!(sim.running(&id).len(), 2);
    sim.set_node(&node, |node| node.spec.availability = NodeAvailability::Drain);
    sim.run(10);
    assert_eq!(sim.running(&id).len(), 1);
    sim.set_node(&node, |node| node.spec.availability = NodeAvailability::Active);
    sim.run(10);
    assert_eq!(sim.running(&id).len(), 2);
}

#[test]
fn a_lost_node_and_its_return() {
    let mut sim = Sim::new(1, 2);
    let id = sim.create(global("agent"));
    sim.run(10);
    let node = sim.nodes[0].clone();
    sim.lose(&node);
    sim.run(60);
    assert_eq!(sim.wanted(&id).len(), 1);
    sim.bring_back(&node);
    sim.run(60);
    assert_eq!(sim.running(&id).len(), 2);
    assert!(sim.tasks(&id).iter().all(|task| {
        task.status.state == TaskState::Running || task.status.state.is_terminal()
    }));
}

#[test]
fn updates_go_node_by_node() {
    let mut sim = Sim::new(1, 3);
    let id = sim.create(global("agent"));
    sim.run(10);
    sim.update(&id, |spec| *image(spec) = "web:2".to_owned());
    for _ in 0..60 {
        sim.run(1);
        assert!(sim.running(&id).len() >= 2);
    }
    let running = sim.running(&id);
    assert!(running.iter().all(|t| t.spec.container_spec.as_ref().unwrap().image == "web:2"));
}
