//! What is refused as soon as it is tried must not be tried without pause: neither the nodes nor the raft log
//! may be kept busy by a service that cannot work.

use std::collections::BTreeMap;

use skep_control::list::service_status;
use skep_control::{Action, Object, admission};
use skep_types::{
    FailureAction, GlobalJob, Nanos, ReplicatedJob, ServiceId, ServiceMode, ServiceSpec, Task,
    TaskState, Timestamp, UpdateConfig, UpdateOrder, UpdateState,
};

use crate::sim::spec::{global, image, network, on_network, placement, replicated, restart};
use crate::sim::{Behaviour, Sim};

/// The default delay: one try at once, one ready behind it, then one each five seconds.
const MOST_IN_A_MINUTE: usize = 14;

fn swarm() -> Sim {
    let mut sim = Sim::new(1, 3);
    sim.images.insert("bad:1".to_owned(), Behaviour::Rejected);
    sim
}

fn bad(mut spec: ServiceSpec) -> ServiceSpec {
    *image(&mut spec) = "bad:1".to_owned();
    spec
}

/// When tasks of a slot were created, in order, by slot number and node of global ones.
fn created(sim: &Sim, id: &ServiceId) -> BTreeMap<String, Vec<Timestamp>> {
    let mut slots: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for action in sim.log.iter().flatten() {
        if let Action::Create(Object::Task(task)) = action
            && task.service_id == *id
        {
            slots.entry(place(task)).or_default().push(task.meta.created_at);
        }
    }
    slots
}

fn place(task: &Task) -> String {
    match task.slot {
        0 => task.node_id.to_string(),
        slot => slot.to_string(),
    }
}

fn job(of: ServiceMode) -> ServiceSpec {
    ServiceSpec { mode: of, ..replicated("job", 0) }
}

#[test]
fn once_a_delay_whatever_the_mode() {
    let some = ReplicatedJob { max_concurrent: Some(2), total_completions: Some(2) };
    let cases = [
        ("replicated", replicated("web", 2), 2),
        ("global", global("agent"), 3),
        ("replicated job", job(ServiceMode::ReplicatedJob(some)), 2),
        ("global job", job(ServiceMode::GlobalJob(GlobalJob {})), 3),
    ];
    for (name, spec, slots) in cases {
        for leaders in ["one", "many"] {
            let mut sim = swarm();
            let id = sim.create(bad(spec.clone()));
            let entries = sim.log.len();
            for _ in 0..60 {
                sim.run(1);
                if leaders == "many" {
                    sim.change_leader();
                }
                let wanted = sim.wanted(&id).len();
                assert!(wanted <= slots, "{name}: {wanted} wanted tasks");
            }
            let created = created(&sim, &id);
            assert_eq!(created.len(), slots, "{name}, {leaders}");
            for (slot, times) in created {
                let tasks = times.len();
                assert!(
                    (12..=MOST_IN_A_MINUTE).contains(&tasks),
                    "{name}, {leaders}: {tasks} tasks in slot {slot}"
                );
            }
            let entries = sim.log.len() - entries;
            assert!(entries < slots * MOST_IN_A_MINUTE * 8, "{name}, {leaders}: {entries} entries");
        }
    }
}

#[test]
fn the_delay_is_the_services() {
    let mut sim = swarm();
    let mut spec = bad(replicated("web", 1));
    restart(&mut spec).delay = Some(Nanos::from_secs(20));
    let id = sim.create(spec);
    sim.run(119);
    assert_eq!(created(&sim, &id)["1"].len(), 7);
}

#[test]
fn attempts_are_used_up_one_a_delay() {
    let mut sim = swarm();
    let mut spec = bad(replicated("web", 1));
    restart(&mut spec).max_attempts = Some(2);
    let id = sim.create(spec);
    sim.run(60);
    let times = &created(&sim, &id)["1"];
    assert_eq!(times.len(), 3, "the first and two restarts");
    assert!(times[2] - times[1] >= Nanos::from_secs(5), "{times:?}");
    assert_eq!(sim.wanted(&id).len(), 0);
}

/// What waits for its next try is still meant to run.
#[test]
fn a_try_that_failed_counts_as_wanted_until_its_delay_is_over() {
    let mut sim = swarm();
    let id = sim.create(bad(global("agent")));
    for _ in 0..20 {
        sim.run(1);
        assert_eq!(service_status(&sim.store, &sim.service(&id)).desired_tasks, 3);
    }
    let tasks = sim.wanted(&id);
    assert!(tasks.iter().all(|task| task.desired_state == TaskState::Ready), "{tasks:?}");
}

/// The node of a try that failed goes: its successor goes elsewhere at once, and that one keeps the delay.
#[test]
fn a_lost_node_is_left_at_once() {
    let mut sim = swarm();
    let id = sim.create(bad(replicated("web", 1)));
    sim.run(2);
    let waits = sim.wanted(&id).remove(0);
    assert_eq!((waits.desired_state, waits.status.state), (TaskState::Ready, TaskState::Rejected));
    sim.lose(&waits.node_id);
    sim.settle();
    let next = sim.wanted(&id).remove(0);
    assert_ne!(next.id, waits.id);
    assert_ne!(next.node_id, waits.node_id);
    sim.run(56);
    let tasks = created(&sim, &id)["1"].len();
    assert!(tasks <= MOST_IN_A_MINUTE + 2, "{tasks}");
}

#[test]
fn an_update_to_what_is_refused() {
    use FailureAction::{Continue, Pause, Rollback};
    use UpdateState::{Completed, Paused, RollbackCompleted};
    for (action, ends) in [(Pause, Paused), (Continue, Completed), (Rollback, RollbackCompleted)] {
        for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
            let mut sim = swarm();
            let mut spec = replicated("web", 3);
            spec.update_config = Some(UpdateConfig {
                parallelism: 1,
                failure_action: action,
                order,
                monitor: Some(Nanos::from_secs(5)),
                ..UpdateConfig::default()
            });
            let id = sim.create(spec);
            sim.run(20);
            let before = created(&sim, &id);
            let entries = sim.log.len();
            sim.update(&id, |spec| *image(spec) = "bad:1".to_owned());
            sim.run(60);
            let status = sim.service(&id).update_status.clone().unwrap();
            if (action, order) == (Continue, UpdateOrder::StartFirst) {
                // It stays undone: the old tasks go on until a new one runs.
                assert_eq!(sim.running(&id).len(), 3);
            } else {
                assert_eq!(status.state, ends, "{action:?}, {order:?}");
            }
            for (slot, times) in created(&sim, &id) {
                let tasks = times.len() - before[&slot].len();
                assert!(
                    tasks <= MOST_IN_A_MINUTE,
                    "{action:?}, {order:?}: {tasks} tasks in slot {slot}"
                );
            }
            let entries = sim.log.len() - entries;
            assert!(entries < 3 * MOST_IN_A_MINUTE * 8, "{action:?}, {order:?}: {entries} entries");
        }
    }
}

/// What waits for something says so once.
#[test]
fn what_cannot_be_placed_or_allocated_writes_nothing() {
    type Edit = fn(&mut Sim, &mut ServiceSpec);
    let cases: [(&str, Edit); 4] = [
        ("no node fits", |_, spec| {
            placement(spec).constraints = vec!["node.labels.disk==ssd".to_owned()];
        }),
        ("too large", |_, spec| {
            let resources = spec.task_template.resources.get_or_insert_default();
            resources.reservations.get_or_insert_default().nano_cpus = 1 << 50;
        }),
        ("no subnet", |sim, spec| {
            let mut cluster = skep_types::Cluster::clone(sim.store.cluster().unwrap());
            cluster.default_addr_pool = vec!["10.0.0.0/24".to_owned()];
            cluster.subnet_size = 24;
            sim.apply(vec![Action::Update(cluster.into())]);
            let new = admission::create_network(&sim.store, network("n"), sim.now, &mut sim.chance);
            let (id, actions) = new.unwrap();
            sim.apply(actions);
            on_network(spec, id.as_str());
        }),
        ("no address", |sim, spec| {
            let config =
                skep_types::IpamConfig { subnet: "10.9.0.0/29".into(), ..Default::default() };
            let ipam = skep_types::IpamOptions { configs: vec![config], ..Default::default() };
            let wanted = skep_types::NetworkSpec { ipam: Some(ipam), ..network("n") };
            let new = admission::create_network(&sim.store, wanted, sim.now, &mut sim.chance);
            let (id, actions) = new.unwrap();
            sim.apply(actions);
            on_network(spec, id.as_str());
        }),
    ];
    for (name, edit) in cases {
        let mut sim = swarm();
        let mut spec = replicated("web", 9);
        edit(&mut sim, &mut spec);
        let id = sim.create(spec);
        sim.run(20);
        assert!(sim.running(&id).len() < 9, "{name}");
        let entries = sim.log.len();
        for _ in 0..60 {
            sim.run(1);
            sim.change_leader();
        }
        assert_eq!(sim.log.len() - entries, 0, "{name}");
    }
}
