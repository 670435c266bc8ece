use skep_control::{Action, ApplyError, Kind, ObjectKey, Store, StoreSnapshot};
use skep_types::{Secret, SecretId, SecretSpec, Timestamp, Version};

use crate::sim::Sim;
use crate::sim::spec::{named, replicated};

fn secret(id: &str, name: &str) -> Secret {
    Secret {
        id: id.into(),
        spec: SecretSpec { annotations: named(name), ..SecretSpec::default() },
        ..Secret::default()
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_unix(secs, 0).unwrap()
}

#[test]
fn versions_are_log_positions_and_times_the_entries() {
    let mut store = Store::new();
    store.apply(5, at(10), vec![Action::Create(secret("a", "one").into())]).unwrap();
    let mut changed = Secret::clone(store.secret(&"a".into()).unwrap());
    changed.spec.annotations.labels.insert("k".into(), "v".into());
    store.apply(9, at(20), vec![Action::Update(changed.into())]).unwrap();
    let meta = store.secret(&"a".into()).unwrap().meta;
    assert_eq!(meta.version, Version { index: 9 });
    assert_eq!((meta.created_at, meta.updated_at), (at(10), at(20)));
    assert_eq!(store.index(), 9);
}

#[test]
fn a_batch_is_refused_as_a_whole() {
    let mut store = Store::new();
    store.apply(1, at(1), vec![Action::Create(secret("a", "one").into())]).unwrap();
    let stale = secret("a", "one");
    let batch = vec![Action::Create(secret("b", "two").into()), Action::Update(stale.into())];
    let error = store.apply(2, at(2), batch).unwrap_err();
    assert_eq!(error.to_string(), "update out of sequence");
    assert!(store.secret(&"b".into()).is_none());
    assert_eq!(store.named(Kind::Secret, "two"), None);
    assert_eq!(store.index(), 1);
}

#[test]
fn refusals() {
    let mut store = Store::new();
    store.apply(1, at(1), vec![Action::Create(secret("a", "one").into())]).unwrap();
    let key = |id: &str| ObjectKey::Secret(SecretId::from(id));
    let version = Version { index: 1 };
    let cases: Vec<(Vec<Action>, ApplyError)> = vec![
        (vec![Action::Create(secret("a", "other").into())], ApplyError::Exists { key: key("a") }),
        (
            vec![Action::Create(secret("b", "one").into())],
            ApplyError::NameInUse { kind: Kind::Secret, name: "one".into() },
        ),
        (vec![Action::Update(secret("c", "three").into())], ApplyError::NotFound { key: key("c") }),
        (vec![Action::Remove { key: key("c"), version }], ApplyError::NotFound { key: key("c") }),
        (
            vec![Action::Remove { key: key("a"), version: Version { index: 7 } }],
            ApplyError::OutOfSequence {
                key: key("a"),
                based_on: Version { index: 7 },
                current: version,
            },
        ),
    ];
    for (batch, expected) in cases {
        assert_eq!(store.apply(2, at(2), batch).unwrap_err(), expected);
    }
    let stale = store.apply(1, at(2), Vec::new()).unwrap_err();
    assert_eq!(stale, ApplyError::StaleIndex { index: 1, current: 1 });
}

#[test]
fn a_name_is_free_again_in_the_batch_that_removes_its_owner() {
    let mut store = Store::new();
    store.apply(1, at(1), vec![Action::Create(secret("a", "one").into())]).unwrap();
    let remove =
        Action::Remove { key: ObjectKey::Secret("a".into()), version: Version { index: 1 } };
    store.apply(2, at(2), vec![remove, Action::Create(secret("b", "one").into())]).unwrap();
    assert_eq!(store.named(Kind::Secret, "one"), Some("b"));
}

#[test]
fn a_clone_is_a_moment_that_stays() {
    let mut sim = Sim::new(1, 1);
    let before = sim.store.clone();
    sim.create(replicated("web", 3));
    sim.run(10);
    assert_eq!(before.task_count(), 0);
    assert_eq!(sim.store.task_count(), 3);
}

#[test]
fn snapshots_and_actions_survive_serialisation() {
    let mut sim = Sim::new(1, 2);
    sim.create(replicated("web", 3));
    sim.run(10);
    let snapshot = sim.store.snapshot();
    let json = serde_json::to_string(&snapshot).unwrap();
    let back: StoreSnapshot = serde_json::from_str(&json).unwrap();
    assert_eq!(back, snapshot);
    let store = Store::from(back);
    assert_eq!(store.snapshot(), snapshot);
    assert_eq!(store.service_named("web").unwrap().spec.annotations.name, "web");

    let mut replica = Store::new();
    for (index, batch) in sim.log.iter().enumerate() {
        let json = serde_json::to_string(batch).unwrap();
        let batch = serde_json::from_str(&json).unwrap();
        replica.apply(index as u64 + 1, at(0), batch).unwrap();
    }
    let ids = |store: &Store| store.tasks().map(|task| task.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&replica), ids(&sim.store));
}

#[test]
fn a_lost_or_refused_step_is_decided_anew() {
    let mut sim = Sim::new(1, 1);
    let id = sim.create(replicated("web", 2));
    // The actions of this step get lost.
    let lost = sim.leader.step(&sim.store, sim.now, &mut sim.chance);
    assert!(!lost.actions.is_empty());
    sim.settle();
    assert_eq!(sim.tasks(&id).len(), 2);
}
