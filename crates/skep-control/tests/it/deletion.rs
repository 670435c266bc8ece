use skep_types::TaskState;

use crate::sim::Sim;
use crate::sim::spec::{port, publish, replicated};

#[test]
fn a_removed_service_is_gone_at_once_and_its_tasks_follow() {
    let mut sim = Sim::new(1, 2);
    let mut spec = replicated("web", 3);
    publish(&mut spec, vec![port(80, 8080)]);
    let web = sim.create(spec.clone());
    sim.run(10);
    sim.remove(&web);
    assert!(sim.store.service(&web).is_none());
    sim.settle();
    let tasks = sim.tasks(&web);
    assert_eq!(tasks.len(), 3);
    assert!(tasks.iter().all(|task| task.desired_state == TaskState::Remove));
    // Name and port are free at once, addresses of tasks only when these have stopped.
    let again = sim.create(spec);
    sim.settle();
    assert_eq!(sim.service(&again).endpoint.ports[0].published_port, 8080);
    sim.run(10);
    assert_eq!(sim.tasks(&web).len(), 0);
    assert_eq!(sim.running(&again).len(), 3);
}

#[test]
fn tasks_on_a_lost_node_wait_for_it_a_day() {
    let mut sim = Sim::new(1, 1);
    let web = sim.create(replicated("web", 1));
    sim.run(10);
    let node = sim.nodes[0].clone();
    sim.lose(&node);
    sim.remove(&web);
    sim.run(3600);
    assert_eq!(sim.tasks(&web).len(), 1);
    sim.run(24 * 3600);
    assert_eq!(sim.tasks(&web).len(), 0);
}

#[test]
fn a_new_leader_finds_tasks_without_service() {
    let mut sim = Sim::new(1, 1);
    let web = sim.create(replicated("web", 1));
    sim.run(10);
    sim.remove(&web);
    sim.change_leader();
    sim.run(10);
    assert_eq!(sim.store.task_count(), 0);
}
