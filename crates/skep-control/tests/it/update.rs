use std::collections::BTreeSet;

use skep_control::admission;
use skep_types::{
    FailureAction, Nanos, ServiceId, ServiceSpec, TaskState, UpdateConfig, UpdateOrder, UpdateState,
};

use crate::sim::spec::{image, port, publish, replicated};
use crate::sim::{Behaviour, Sim};

fn start(replicas: u64, change: impl FnOnce(&mut UpdateConfig)) -> (Sim, ServiceId) {
    let mut sim = Sim::new(1, 3);
    sim.images.insert("bad:1".to_owned(), Behaviour::Rejected);
    let mut spec = replicated("web", replicas);
    let mut config = UpdateConfig { parallelism: 1, ..UpdateConfig::default() };
    change(&mut config);
    spec.update_config = Some(config);
    let id = sim.create(spec);
    sim.run(20);
    assert_eq!(sim.running(&id).len(), usize::try_from(replicas).unwrap());
    (sim, id)
}

fn to_image(spec: &mut ServiceSpec, name: &str) {
    *image(spec) = name.to_owned();
}

fn state(sim: &Sim, id: &ServiceId) -> Option<UpdateState> {
    sim.service(id).update_status.as_ref().map(|status| status.state)
}

fn images(sim: &Sim, id: &ServiceId) -> BTreeSet<String> {
    let running = sim.running(id);
    running.iter().map(|task| task.spec.container_spec.as_ref().unwrap().image.clone()).collect()
}

#[test]
fn one_by_one_stop_first() {
    let (mut sim, id) = start(4, |_| {});
    sim.update(&id, |spec| to_image(spec, "web:2"));
    sim.settle();
    assert_eq!(state(&sim, &id), Some(UpdateState::Updating));
    let mut least = 4;
    for _ in 0..60 {
        sim.run(1);
        least = least.min(sim.running(&id).len());
    }
    assert_eq!(least, 3, "never more than one task is away");
    assert_eq!(images(&sim, &id), ["web:2".to_owned()].into());
    let status = sim.service(&id).update_status.clone().unwrap();
    assert_eq!(status.state, UpdateState::Completed);
    assert_eq!(status.message, "update completed");
    assert!(status.completed_at > status.started_at);
}

#[test]
fn start_first_never_has_fewer_tasks() {
    let (mut sim, id) = start(3, |config| config.order = UpdateOrder::StartFirst);
    sim.update(&id, |spec| to_image(spec, "web:2"));
    for _ in 0..200 {
        sim.run(1);
        assert!(sim.running(&id).len() >= 3);
    }
    assert_eq!(images(&sim, &id), ["web:2".to_owned()].into());
    assert_eq!(state(&sim, &id), Some(UpdateState::Completed));
}

#[test]
fn parallelism_and_delay() {
    let (mut sim, id) = start(6, |config| {
        config.parallelism = 3;
        config.delay = Nanos::from_secs(60);
    });
    sim.update(&id, |spec| to_image(spec, "web:2"));
    let new = |sim: &Sim| {
        let version = sim.service(&id).spec_version;
        sim.tasks(&id).iter().filter(|task| task.spec_version == version).count()
    };
    sim.settle();
    assert_eq!(new(&sim), 3);
    sim.run(50);
    assert_eq!(new(&sim), 3, "the delay holds the next ones back");
    sim.run(30);
    assert_eq!(new(&sim), 6);
    let (mut sim, id) = start(6, |config| config.parallelism = 0);
    sim.update(&id, |spec| to_image(spec, "web:2"));
    sim.settle();
    assert_eq!(sim.running(&id).len(), 0, "all at once");
}

#[test]
fn failures_pause() {
    let (mut sim, id) = start(3, |_| {});
    sim.update(&id, |spec| to_image(spec, "bad:1"));
    sim.run(60);
    let status = sim.service(&id).update_status.clone().unwrap();
    assert_eq!(status.state, UpdateState::Paused);
    assert!(
        status.message.starts_with("update paused due to failure or early termination of task "),
        "{}",
        status.message
    );
    assert_eq!(sim.running(&id).len(), 2, "the others were not touched");
    sim.update(&id, |spec| to_image(spec, "web:3"));
    sim.run(120);
    assert_eq!(state(&sim, &id), Some(UpdateState::Completed));
    assert_eq!(sim.running(&id).len(), 3);
}

#[test]
fn failures_continue_if_asked() {
    let (mut sim, id) = start(3, |config| config.failure_action = FailureAction::Continue);
    sim.update(&id, |spec| to_image(spec, "bad:1"));
    sim.run(120);
    assert_eq!(sim.running(&id).len(), 0);
}

#[test]
fn failures_below_the_ratio_are_borne() {
    let (mut sim, id) = start(4, |config| config.max_failure_ratio = 1.0);
    sim.update(&id, |spec| to_image(spec, "bad:1"));
    sim.run(120);
    assert_eq!(sim.running(&id).len(), 0);
    assert_eq!(state(&sim, &id), Some(UpdateState::Completed));
}

#[test]
fn failures_roll_back() {
    for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
        let (mut sim, id) = start(3, |config| {
            config.failure_action = FailureAction::Rollback;
            config.order = order;
        });
        sim.update(&id, |spec| to_image(spec, "bad:1"));
        sim.run(120);
        let service = sim.service(&id);
        let status = service.update_status.clone().unwrap();
        assert_eq!(status.state, UpdateState::RollbackCompleted, "{order:?}");
        assert_eq!(status.message, "rollback completed");
        assert_eq!(service.previous_spec, None);
        assert_eq!(images(&sim, &id), ["web:1".to_owned()].into());
        assert_eq!(sim.running(&id).len(), 3);
        assert_eq!(sim.wanted(&id).len(), 3);
    }
}

#[test]
fn a_task_that_fails_late_is_no_failure_of_the_update() {
    let (mut sim, id) = start(1, |config| config.monitor = Some(Nanos::from_secs(5)));
    sim.images.insert("crash:1".to_owned(), Behaviour::Crashes(20_000));
    sim.update(&id, |spec| to_image(spec, "crash:1"));
    sim.run(60);
    assert_eq!(state(&sim, &id), Some(UpdateState::Completed));
    let (mut sim, id) = start(1, |config| config.monitor = Some(Nanos::from_secs(60)));
    sim.images.insert("crash:1".to_owned(), Behaviour::Crashes(20_000));
    sim.update(&id, |spec| to_image(spec, "crash:1"));
    sim.run(60);
    assert_eq!(state(&sim, &id), Some(UpdateState::Paused));
}

#[test]
fn rollback_by_hand() {
    let (mut sim, id) = start(2, |_| {});
    let error =
        admission::rollback_service(&sim.store, &id, sim.service(&id).meta.version, sim.now)
            .unwrap_err();
    assert!(error.message.ends_with("does not have a previous spec"), "{}", error.message);
    sim.update(&id, |spec| to_image(spec, "web:2"));
    sim.run(60);
    let version = sim.service(&id).meta.version;
    let actions = admission::rollback_service(&sim.store, &id, version, sim.now).unwrap();
    sim.apply(actions);
    assert_eq!(
        sim.service(&id).update_status.as_ref().unwrap().message,
        "manually requested rollback"
    );
    sim.run(60);
    assert_eq!(state(&sim, &id), Some(UpdateState::RollbackCompleted));
    assert_eq!(images(&sim, &id), ["web:1".to_owned()].into());
    let previous = sim.service(&id).previous_spec.clone().unwrap();
    assert_eq!(previous.task_template.container_spec.unwrap().image, "web:2");
}

#[test]
fn what_makes_new_tasks() {
    // change, whether tasks are replaced
    type Edit = fn(&mut ServiceSpec);
    let cases: [(&str, Edit, bool); 6] = [
        ("image", |spec| to_image(spec, "web:2"), true),
        ("force", |spec| spec.task_template.force_update += 1, true),
        ("ports", |spec| publish(spec, vec![port(80, 0)]), true),
        (
            "labels",
            |spec| {
                spec.annotations.labels.insert("a".into(), "b".into());
            },
            false,
        ),
        (
            "constraint that fits",
            |spec| {
                spec.task_template.placement.get_or_insert_default().constraints =
                    vec!["node.role==worker".into()];
            },
            false,
        ),
        (
            "update config",
            |spec| {
                spec.update_config.get_or_insert_default().parallelism = 9;
            },
            false,
        ),
    ];
    for (name, edit, replaced) in cases {
        let (mut sim, id) = start(2, |_| {});
        let before: BTreeSet<_> = sim.running(&id).iter().map(|task| task.id.clone()).collect();
        sim.update(&id, edit);
        sim.run(60);
        let after: BTreeSet<_> = sim.running(&id).iter().map(|task| task.id.clone()).collect();
        assert_eq!(before.is_disjoint(&after), replaced, "{name}");
        assert_eq!(before == after, !replaced, "{name}");
        assert_eq!(after.len(), 2, "{name}");
    }
}

#[test]
fn a_new_leader_carries_an_update_on() {
    let (mut sim, id) = start(6, |config| config.delay = Nanos::from_secs(3));
    sim.update(&id, |spec| to_image(spec, "web:2"));
    for _ in 0..60 {
        sim.run(1);
        sim.change_leader();
    }
    sim.run(10);
    assert_eq!(state(&sim, &id), Some(UpdateState::Completed));
    assert_eq!(images(&sim, &id), ["web:2".to_owned()].into());
}

#[test]
fn an_update_of_tasks_that_never_found_a_node() {
    let mut sim = Sim::new(1, 1);
    let mut spec = replicated("web", 2);
    spec.task_template.placement.get_or_insert_default().constraints =
        vec!["node.labels.disk==ssd".into()];
    let id = sim.create(spec);
    sim.settle();
    sim.update(&id, |spec| spec.task_template.placement = None);
    sim.run(30);
    assert_eq!(sim.running(&id).len(), 2);
    assert!(sim.tasks(&id).iter().all(|task| task.status.state == TaskState::Running));
}
