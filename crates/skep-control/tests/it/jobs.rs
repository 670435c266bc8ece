use skep_control::list::service_status;
use skep_types::{GlobalJob, ReplicatedJob, ServiceMode, TaskState};

use crate::sim::spec::{replicated, restart};
use crate::sim::{Behaviour, Sim};

fn job(sim: &mut Sim, at_once: u64, total: u64) -> skep_types::ServiceId {
    sim.images.insert("web:1".to_owned(), Behaviour::Completes(1000));
    let mut spec = replicated("job", 0);
    spec.mode = ServiceMode::ReplicatedJob(ReplicatedJob {
        max_concurrent: Some(at_once),
        total_completions: Some(total),
    });
    sim.create(spec)
}

#[test]
fn so_many_at_once_until_all_are_complete() {
    let mut sim = Sim::new(1, 2);
    let id = job(&mut sim, 2, 5);
    for _ in 0..30 {
        sim.run(1);
        let live = sim.wanted(&id).iter().filter(|t| !t.status.state.is_terminal()).count();
        assert!(live <= 2);
    }
    let tasks = sim.tasks(&id);
    assert_eq!(tasks.len(), 5);
    assert!(tasks.iter().all(|task| task.status.state == TaskState::Complete));
    let status = service_status(&sim.store, &sim.service(&id));
    assert_eq!((status.running_tasks, status.desired_tasks, status.completed_tasks), (0, 2, 5));
}

#[test]
fn failed_tasks_are_tried_again() {
    let mut sim = Sim::new(1, 2);
    let id = job(&mut sim, 2, 2);
    sim.images.insert("web:1".to_owned(), Behaviour::Crashes(100));
    sim.run(30);
    assert_eq!(service_status(&sim.store, &sim.service(&id)).completed_tasks, 0);
    sim.images.insert("web:1".to_owned(), Behaviour::Completes(100));
    sim.run(30);
    assert_eq!(service_status(&sim.store, &sim.service(&id)).completed_tasks, 2);
}

#[test]
fn attempts_are_limited() {
    let mut sim = Sim::new(1, 1);
    sim.images.insert("web:1".to_owned(), Behaviour::Crashes(100));
    let mut spec = replicated("job", 0);
    spec.mode = ServiceMode::ReplicatedJob(ReplicatedJob {
        max_concurrent: Some(1),
        total_completions: Some(1),
    });
    restart(&mut spec).max_attempts = Some(2);
    let id = sim.create(spec);
    sim.run(120);
    assert_eq!(sim.tasks(&id).len(), 3);
}

#[test]
fn an_update_runs_the_job_again() {
    let mut sim = Sim::new(1, 2);
    let id = job(&mut sim, 2, 2);
    sim.run(20);
    sim.update(&id, |spec| spec.task_template.force_update += 1);
    sim.run(20);
    let tasks = sim.tasks(&id);
    assert_eq!(tasks.len(), 2, "tasks of the run before are gone");
    assert!(tasks.iter().all(|task| task.job_iteration.unwrap().index == 1));
    assert!(sim.service(&id).update_status.is_none());
}

#[test]
fn a_global_job_completes_once_on_every_node() {
    let mut sim = Sim::new(1, 3);
    sim.images.insert("web:1".to_owned(), Behaviour::Completes(500));
    let mut spec = replicated("job", 0);
    spec.mode = ServiceMode::GlobalJob(GlobalJob {});
    let id = sim.create(spec);
    sim.run(60);
    let tasks = sim.tasks(&id);
    assert_eq!(tasks.len(), 3);
    assert!(tasks.iter().all(|task| task.status.state == TaskState::Complete));
    sim.add_node(4);
    sim.run(20);
    assert_eq!(service_status(&sim.store, &sim.service(&id)).completed_tasks, 4);
}
