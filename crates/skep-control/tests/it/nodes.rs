use skep_control::admission;
use skep_types::{ManagerStatus, Nanos, NodeAvailability, NodeId, NodeRole, NodeState, TaskState};

use crate::sim::Sim;
use crate::sim::spec::{placement, replicated};

#[test]
fn tasks_leave_a_drained_node_without_restart_delay() {
    let mut sim = Sim::new(1, 2);
    let id = sim.create(replicated("web", 4));
    sim.run(10);
    let node = sim.nodes[0].clone();
    sim.set_node(&node, |node| node.spec.availability = NodeAvailability::Drain);
    sim.run(4);
    assert_eq!(sim.running(&id).len(), 4);
    assert!(sim.running(&id).iter().all(|task| task.node_id != node));
    sim.set_node(&node, |node| node.spec.availability = NodeAvailability::Active);
    sim.run(10);
    assert!(sim.running(&id).iter().all(|task| task.node_id != node), "nothing is moved back");
}

#[test]
fn tasks_of_a_node_that_is_down_are_replaced_and_stop_when_it_returns() {
    let mut sim = Sim::new(1, 2);
    let id = sim.create(replicated("web", 2));
    sim.run(10);
    let node = sim.nodes[0].clone();
    sim.lose(&node);
    sim.run(15);
    assert_eq!(sim.running(&id).len(), 2);
    let left = sim.store.tasks_of_node(&node).next().unwrap();
    assert_eq!(left.desired_state, TaskState::Shutdown);
    assert_eq!(left.status.state, TaskState::Running, "nobody knows better");
    sim.bring_back(&node);
    sim.run(10);
    assert!(sim.store.tasks_of_node(&node).all(|task| task.status.state == TaskState::Shutdown));
}

#[test]
fn after_a_day_the_tasks_of_a_node_are_given_up() {
    let mut sim = Sim::new(1, 2);
    sim.create(replicated("web", 2));
    sim.run(10);
    let node = sim.nodes[0].clone();
    sim.lose(&node);
    sim.run(24 * 3600 - 60);
    let states = |sim: &Sim| -> Vec<TaskState> {
        sim.store.tasks_of_node(&node).map(|task| task.status.state).collect()
    };
    assert_eq!(states(&sim), [TaskState::Running]);
    sim.run(120);
    assert_eq!(states(&sim), [TaskState::Orphaned]);
}

#[test]
fn tasks_leave_a_node_that_no_longer_satisfies_their_constraints() {
    let mut sim = Sim::new(1, 2);
    for node in sim.nodes.clone() {
        sim.set_node(&node, |node| {
            node.spec.annotations.labels.insert("disk".into(), "ssd".into());
        });
    }
    let mut spec = replicated("web", 2);
    placement(&mut spec).constraints = vec!["node.labels.disk==ssd".into()];
    let id = sim.create(spec);
    sim.run(10);
    let node = sim.nodes[0].clone();
    sim.set_node(&node, |node| node.spec.annotations.labels.clear());
    sim.run(15);
    assert_eq!(sim.running(&id).len(), 2);
    assert!(sim.running(&id).iter().all(|task| task.node_id != node));
}

#[test]
fn removal() {
    let mut sim = Sim::new(1, 2);
    let id = sim.create(replicated("web", 2));
    sim.run(10);
    let node = sim.nodes[0].clone();
    let remove = |sim: &Sim, force| {
        let expiry = sim.now + Nanos::from_secs(3600);
        admission::remove_node(&sim.store, &node, force, expiry, sim.now)
    };
    assert_eq!(
        remove(&sim, false).unwrap_err().message,
        format!("node {node} is not down and can't be removed")
    );
    sim.set_node(&node, |node| node.manager_status = Some(ManagerStatus::default()));
    assert_eq!(
        remove(&sim, true).unwrap_err().message,
        format!(
            "node {node} is a cluster manager and is a member of the raft cluster. It must be \
             demoted to worker before removal"
        )
    );
    sim.set_node(&node, |node| node.manager_status = None);
    sim.lose(&node);
    let actions = remove(&sim, false).unwrap();
    sim.apply(actions);
    sim.nodes.remove(0);
    let cluster = sim.store.cluster().unwrap();
    assert!(cluster.blacklisted_certificates.contains_key(node.as_str()));
    assert!(admission::network_keys_exposed(cluster));
    let orphan = sim.store.tasks_of_node(&node).next().unwrap();
    assert_eq!(orphan.status.state, TaskState::Orphaned);
    sim.run(15);
    assert_eq!(sim.running(&id).len(), 2);
    let missing = admission::remove_node(&sim.store, &node, true, sim.now, sim.now).unwrap_err();
    assert_eq!(missing.message, format!("node {node} not found"));
}

#[test]
fn roles_follow_wishes() {
    let mut sim = Sim::new(1, 2);
    let (one, two) = (sim.nodes[0].clone(), sim.nodes[1].clone());
    let wish = |sim: &mut Sim, id: &NodeId, role: NodeRole| {
        let node = sim.store.node(id).unwrap();
        let (version, mut spec) = (node.meta.version, node.spec.clone());
        spec.role = role;
        admission::update_node(&sim.store, id, version, spec, sim.now)
            .map(|actions| sim.apply(actions))
    };
    wish(&mut sim, &one, NodeRole::Manager).unwrap();
    sim.settle();
    assert_eq!(sim.store.node(&one).unwrap().role, NodeRole::Manager);
    let refused = wish(&mut sim, &one, NodeRole::Worker).unwrap_err();
    assert_eq!(refused.message, "attempting to demote the last manager of the swarm");

    sim.set_node(&one, |node| node.manager_status = Some(ManagerStatus::default()));
    wish(&mut sim, &two, NodeRole::Manager).unwrap();
    wish(&mut sim, &one, NodeRole::Worker).unwrap();
    sim.settle();
    assert_eq!(sim.store.node(&one).unwrap().role, NodeRole::Manager, "still a member of raft");
    sim.set_node(&one, |node| node.manager_status = None);
    sim.settle();
    assert_eq!(sim.store.node(&one).unwrap().role, NodeRole::Worker);
}

#[test]
fn a_node_of_unknown_state_keeps_its_tasks() {
    let mut sim = Sim::new(1, 2);
    let id = sim.create(replicated("web", 2));
    sim.run(10);
    let before: Vec<_> = sim.running(&id).iter().map(|task| task.id.clone()).collect();
    for node in sim.nodes.clone() {
        sim.set_node(&node, |node| node.status.state = NodeState::Unknown);
    }
    sim.change_leader();
    sim.run(20);
    let after: Vec<_> = sim.running(&id).iter().map(|task| task.id.clone()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_placement_that_was_lifted_moves_nothing() {
    let mut sim = Sim::new(1, 2);
    let node = sim.nodes[0].clone();
    sim.set_node(&node, |node| {
        node.spec.annotations.labels.insert("disk".into(), "ssd".into());
    });
    let mut spec = replicated("web", 1);
    placement(&mut spec).constraints = vec!["node.labels.disk==ssd".into()];
    let id = sim.create(spec);
    sim.run(10);
    let before = sim.running(&id)[0].id.clone();
    sim.update(&id, |spec| spec.task_template.placement = None);
    sim.run(10);
    sim.set_node(&node, |node| node.spec.annotations.labels.clear());
    sim.run(10);
    assert_eq!(sim.running(&id)[0].id, before);
}
