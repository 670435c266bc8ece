use skep_types::{ReplicatedService, ServiceMode, TaskState};

use crate::sim::Sim;
use crate::sim::spec::replicated;

fn scale(sim: &mut Sim, id: &skep_types::ServiceId, replicas: u64) {
    sim.update(id, |spec| {
        spec.mode = ServiceMode::Replicated(ReplicatedService { replicas: Some(replicas) });
    });
}

#[test]
fn slots_are_numbered_from_one_and_spread_over_nodes() {
    let mut sim = Sim::new(1, 3);
    let id = sim.create(replicated("web", 6));
    sim.run(10);
    let running = sim.running(&id);
    assert_eq!(running.iter().map(|t| t.slot).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    for node in &sim.nodes {
        assert_eq!(running.iter().filter(|task| task.node_id == *node).count(), 2);
    }
}

#[test]
fn one_step_takes_a_new_service_to_assigned_tasks() {
    let mut sim = Sim::new(1, 2);
    let id = sim.create(replicated("web", 2));
    let step = sim.leader.step(&sim.store, sim.now, &mut sim.chance);
    sim.apply(step.actions);
    for task in sim.tasks(&id) {
        assert_eq!(task.status.state, TaskState::Assigned);
        assert_eq!(task.status.message, "scheduler assigned task to node");
    }
    let rest = sim.leader.step(&sim.store, sim.now, &mut sim.chance);
    assert_eq!(rest.actions, []);
}

#[test]
fn scaling_down_keeps_the_rest_and_leaves_no_history() {
    let mut sim = Sim::new(1, 2);
    let id = sim.create(replicated("web", 6));
    sim.run(10);
    let before = sim.running(&id);
    scale(&mut sim, &id, 2);
    sim.settle();
    assert_eq!(sim.wanted(&id).len(), 2);
    sim.run(10);
    let after = sim.tasks(&id);
    assert_eq!(after.len(), 2, "tasks of removed slots vanish");
    assert!(after.iter().all(|task| before.iter().any(|old| old.id == task.id)));
    assert_ne!(after[0].node_id, after[1].node_id, "the busiest node gives first");
    assert!(sim.service(&id).update_status.is_none(), "scaling is no update");
}

#[test]
fn scaling_down_prefers_tasks_that_do_not_run() {
    let mut sim = Sim::new(1, 1);
    let id = sim.create(replicated("web", 2));
    sim.run(10);
    sim.set_node(&sim.nodes[0].clone(), |node| {
        node.spec.availability = skep_types::NodeAvailability::Pause;
    });
    scale(&mut sim, &id, 3);
    sim.settle();
    assert_eq!(sim.wanted(&id)[2].status.state, TaskState::Pending);
    scale(&mut sim, &id, 2);
    sim.settle();
    assert_eq!(sim.running(&id).len(), 2);
    assert_eq!(sim.tasks(&id).len(), 2, "a task that was never placed vanishes at once");
}

#[test]
fn scaling_up_fills_gaps_and_zero_is_a_number() {
    let mut sim = Sim::new(1, 2);
    let id = sim.create(replicated("web", 2));
    sim.run(10);
    scale(&mut sim, &id, 0);
    sim.run(10);
    assert_eq!(sim.tasks(&id).len(), 0);
    scale(&mut sim, &id, 3);
    sim.run(10);
    assert_eq!(sim.running(&id).iter().map(|t| t.slot).collect::<Vec<_>>(), [1, 2, 3]);
}
