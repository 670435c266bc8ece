use skep_types::{Nanos, RestartCondition, TaskState};

use crate::sim::spec::{self, image, replicated, restart};
use crate::sim::{Behaviour, Sim};

fn crashing(sim: &mut Sim, after_millis: i64) -> skep_types::ServiceSpec {
    sim.images.insert("crash:1".to_owned(), Behaviour::Crashes(after_millis));
    let mut spec = replicated("web", 1);
    *image(&mut spec) = "crash:1".to_owned();
    spec
}

#[test]
fn a_failed_task_is_replaced_after_the_delay() {
    let mut sim = Sim::new(1, 1);
    let mut spec = crashing(&mut sim, 1000);
    restart(&mut spec).delay = Some(Nanos::from_secs(20));
    let id = sim.create(spec);
    sim.run(10);
    let tasks = sim.tasks(&id);
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[0].status.state, TaskState::Failed);
    assert_eq!(tasks[0].desired_state, TaskState::Shutdown);
    assert_eq!(tasks[1].desired_state, TaskState::Ready);
    assert_eq!(tasks[1].status.state, TaskState::Ready, "it gets ready while it waits");
    assert_eq!(tasks[1].slot, 1);
    sim.change_leader();
    sim.run(15);
    assert_eq!(
        sim.tasks(&id)[1].desired_state.max(TaskState::Running),
        sim.tasks(&id)[1].desired_state
    );
}

#[test]
fn history_keeps_five_per_slot() {
    let mut sim = Sim::new(1, 1);
    let mut spec = crashing(&mut sim, 100);
    spec::no_delay(&mut spec);
    let id = sim.create(spec);
    sim.run(120);
    assert_eq!(sim.tasks(&id).len(), 5);
    assert_eq!(sim.wanted(&id).len(), 1);
}

#[test]
fn conditions() {
    // condition, behaviour, whether it is restarted
    let cases = [
        (RestartCondition::Any, Behaviour::Completes(500), true),
        (RestartCondition::Any, Behaviour::Crashes(500), true),
        (RestartCondition::OnFailure, Behaviour::Completes(500), false),
        (RestartCondition::OnFailure, Behaviour::Crashes(500), true),
        (RestartCondition::OnFailure, Behaviour::Rejected, true),
        (RestartCondition::None, Behaviour::Crashes(500), false),
        (RestartCondition::None, Behaviour::Completes(500), false),
    ];
    for (condition, behaviour, restarted) in cases {
        let mut sim = Sim::new(1, 1);
        let mut spec = replicated("web", 1);
        sim.images.insert("web:1".to_owned(), behaviour);
        restart(&mut spec).condition = condition;
        let id = sim.create(spec);
        sim.run(30);
        let tasks = sim.tasks(&id).len();
        assert_eq!(tasks > 1, restarted, "{condition:?} {behaviour:?}: {tasks} tasks");
    }
}

#[test]
fn attempts_are_limited_and_counted_across_leaders() {
    let mut sim = Sim::new(1, 1);
    let mut spec = crashing(&mut sim, 100);
    spec::no_delay(&mut spec);
    restart(&mut spec).max_attempts = Some(7);
    let id = sim.create(spec);
    for _ in 0..20 {
        sim.run(2);
        sim.change_leader();
    }
    sim.run(600);
    assert_eq!(sim.tasks(&id).len(), 8, "the first and seven restarts");
    assert_eq!(sim.wanted(&id).len(), 0);
}

#[test]
fn attempts_outside_the_window_do_not_count() {
    let mut sim = Sim::new(1, 1);
    let mut spec = crashing(&mut sim, 20_000);
    spec::no_delay(&mut spec);
    restart(&mut spec).max_attempts = Some(2);
    restart(&mut spec).window = Some(Nanos::from_secs(10));
    let id = sim.create(spec);
    sim.run(600);
    assert_eq!(sim.wanted(&id).len(), 1, "it fails too slowly to be given up");
}

#[test]
fn a_new_spec_gives_a_slot_another_chance() {
    let mut sim = Sim::new(1, 1);
    let mut spec = crashing(&mut sim, 100);
    restart(&mut spec).condition = RestartCondition::None;
    let id = sim.create(spec);
    sim.run(10);
    assert_eq!(sim.wanted(&id).len(), 0);
    sim.update(&id, |spec| *image(spec) = "web:2".to_owned());
    sim.run(30);
    assert_eq!(sim.running(&id).len(), 1);
}

#[test]
fn the_delay_holds_even_without_history() {
    let mut sim = Sim::new(1, 1);
    let mut cluster = skep_types::Cluster::clone(sim.store.cluster().unwrap());
    cluster.spec.orchestration.task_history_retention_limit = Some(0);
    sim.apply(vec![skep_control::Action::Update(cluster.into())]);
    let spec = crashing(&mut sim, 100);
    let id = sim.create(spec);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        sim.run(1);
        assert!(sim.tasks(&id).len() <= 2);
        seen.extend(sim.tasks(&id).iter().map(|task| task.id.clone()));
    }
    assert!((5..=13).contains(&seen.len()), "{} tasks in a minute", seen.len());
}
