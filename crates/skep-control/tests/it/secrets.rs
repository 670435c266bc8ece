use skep_control::admission;
use skep_types::{
    Bytes64, ClusterSpec, ConfigReference, ConfigSpec, EncryptionKey, ErrorKind, FileTarget,
    RaftConfig, SecretReference, SecretSpec,
};

use crate::sim::Sim;
use crate::sim::spec::{named, replicated};

#[test]
fn names_and_sizes() {
    let mut sim = Sim::new(1, 1);
    let bad_name = "only 64 [a-zA-Z0-9-_.] characters allowed";
    let cases: [(&str, usize, Option<&str>); 7] = [
        ("good.name_1", 1, None),
        ("a", 500 * 1024 - 1, None),
        ("", 1, Some("name must be provided")),
        ("-a", 1, Some(bad_name)),
        ("a b", 1, Some(bad_name)),
        ("a", 0, Some("secret data must be larger than 0 and less than 512000 bytes")),
        ("a", 500 * 1024, Some("secret data must be larger than 0 and less than 512000 bytes")),
    ];
    for (name, size, error) in cases {
        let spec = SecretSpec {
            annotations: named(name),
            data: Bytes64(vec![7; size]),
            ..SecretSpec::default()
        };
        let result = admission::create_secret(&sim.store, spec, sim.now, &mut sim.chance);
        match error {
            None => assert!(result.is_ok(), "{name}"),
            Some(text) => {
                let message = result.unwrap_err().message;
                assert!(message.contains(text), "{message}");
            }
        }
    }
}

#[test]
fn references_must_exist_and_hold_their_objects() {
    let mut sim = Sim::new(1, 1);
    let spec = SecretSpec {
        annotations: named("pw"),
        data: Bytes64(b"x".to_vec()),
        ..SecretSpec::default()
    };
    let (secret, actions) =
        admission::create_secret(&sim.store, spec.clone(), sim.now, &mut sim.chance).unwrap();
    sim.apply(actions);
    let again = admission::create_secret(&sim.store, spec, sim.now, &mut sim.chance).unwrap_err();
    assert_eq!(again.message, "secret pw already exists");
    assert_eq!(again.kind, ErrorKind::AlreadyExists);
    let config = ConfigSpec {
        annotations: named("conf"),
        data: Bytes64(b"y".to_vec()),
        ..ConfigSpec::default()
    };
    let (config, actions) =
        admission::create_config(&sim.store, config, sim.now, &mut sim.chance).unwrap();
    sim.apply(actions);

    let file = |name: &str| Some(FileTarget { name: name.into(), ..FileTarget::default() });
    let mut spec = replicated("web", 1);
    let container = spec.task_template.container_spec.as_mut().unwrap();
    container.secrets = vec![SecretReference {
        file: file("pw"),
        secret_id: secret.clone(),
        secret_name: "pw".into(),
    }];
    container.configs = vec![ConfigReference {
        file: file("/etc/conf"),
        config_id: config.clone(),
        config_name: "conf".into(),
        ..ConfigReference::default()
    }];
    let mut missing = spec.clone();
    let container = missing.task_template.container_spec.as_mut().unwrap();
    container.secrets[0].secret_name = "other".into();
    let error = admission::create_service(&sim.store, missing, sim.now, &mut sim.chance);
    assert_eq!(error.unwrap_err().message, "secret not found: other");
    let mut twice = spec.clone();
    let container = twice.task_template.container_spec.as_mut().unwrap();
    let first = container.secrets[0].clone();
    container.secrets.push(first);
    let error = admission::create_service(&sim.store, twice, sim.now, &mut sim.chance);
    assert_eq!(
        error.unwrap_err().message,
        "secret references 'pw' and 'pw' have a conflicting target: 'pw'"
    );
    let web = sim.create(spec);

    let error = admission::remove_secret(&sim.store, &secret, sim.now).unwrap_err();
    assert_eq!(error.message, "secret 'pw' is in use by the following service: web");
    let error = admission::remove_config(&sim.store, &config, sim.now).unwrap_err();
    assert_eq!(error.message, "config 'conf' is in use by the following service: web");
    sim.remove(&web);
    let actions = admission::remove_secret(&sim.store, &secret, sim.now).unwrap();
    sim.apply(actions);
    assert!(sim.store.secret(&secret).is_none());
}

#[test]
fn only_labels_change() {
    let mut sim = Sim::new(1, 1);
    let spec = SecretSpec {
        annotations: named("pw"),
        data: Bytes64(b"x".to_vec()),
        ..SecretSpec::default()
    };
    let (id, actions) =
        admission::create_secret(&sim.store, spec.clone(), sim.now, &mut sim.chance).unwrap();
    sim.apply(actions);
    let version = sim.store.secret(&id).unwrap().meta.version;
    let mut changed = spec.clone();
    changed.data = Bytes64(b"z".to_vec());
    let error = admission::update_secret(&sim.store, &id, version, changed, sim.now).unwrap_err();
    assert_eq!(error.message, "only updates to Labels are allowed");
    let mut labelled = spec;
    labelled.data = Bytes64::default();
    labelled.annotations.labels.insert("k".into(), "v".into());
    let actions =
        admission::update_secret(&sim.store, &id, version, labelled.clone(), sim.now).unwrap();
    sim.apply(actions);
    let stored = sim.store.secret(&id).unwrap();
    assert_eq!(stored.spec.data.0, b"x");
    assert_eq!(stored.spec.annotations.labels["k"], "v");
    let stale = admission::update_secret(&sim.store, &id, version, labelled, sim.now).unwrap_err();
    assert_eq!(
        (stale.kind, stale.message.as_str()),
        (ErrorKind::OutOfSequence, "update out of sequence")
    );
}

#[test]
fn join_tokens_and_unlock_keys_rotate() {
    let mut sim = Sim::new(1, 1);
    let mut cluster = skep_types::Cluster::clone(sim.store.cluster().unwrap());
    assert_eq!(cluster.network_bootstrap_keys.len(), 6);
    cluster.root_ca.join_tokens.worker = "SWMTKN-1-digest-worker".into();
    cluster.root_ca.join_tokens.manager = "SWMTKN-1-digest-manager".into();
    sim.apply(vec![skep_control::Action::Update(cluster.into())]);
    let rotate = |sim: &mut Sim, spec: ClusterSpec, rotation: admission::KeyRotation| {
        let version = sim.store.cluster().unwrap().meta.version;
        let actions = admission::update_cluster(
            &sim.store,
            version,
            spec,
            rotation,
            None,
            sim.now,
            &mut sim.chance,
        )
        .unwrap();
        sim.apply(actions);
    };
    let worker = admission::KeyRotation { worker_join_token: true, ..Default::default() };
    rotate(&mut sim, ClusterSpec::default(), worker);
    let tokens = sim.store.cluster().unwrap().root_ca.join_tokens.clone();
    assert_eq!(tokens.manager, "SWMTKN-1-digest-manager");
    let secret = tokens.worker.strip_prefix("SWMTKN-1-digest-").unwrap();
    assert_eq!(secret.len(), 25);
    assert!(secret.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase()));

    let mut locked = ClusterSpec::default();
    locked.encryption_config.auto_lock_managers = true;
    rotate(&mut sim, locked.clone(), admission::KeyRotation::default());
    let first = sim.store.cluster().unwrap().unlock_keys.clone();
    assert_eq!(first[0].key.0.len(), 32);
    rotate(&mut sim, locked.clone(), admission::KeyRotation::default());
    assert_eq!(sim.store.cluster().unwrap().unlock_keys, first);
    let unlock = admission::KeyRotation { manager_unlock_key: true, ..Default::default() };
    rotate(&mut sim, locked, unlock);
    assert_ne!(sim.store.cluster().unwrap().unlock_keys, first);
}

#[test]
fn network_keys_turn_one_by_one() {
    let mut sim = Sim::new(1, 1);
    let times = |sim: &Sim| -> Vec<u64> {
        let keys = &sim.store.cluster().unwrap().network_bootstrap_keys;
        keys.iter().map(|key| key.lamport_time).collect()
    };
    let before = times(&sim);
    let actions = admission::rotate_network_keys(&sim.store, sim.now, &mut sim.chance);
    sim.apply(actions);
    let mut after = times(&sim);
    assert_eq!(after.len(), 6);
    assert_eq!(after.iter().filter(|time| before.contains(time)).count(), 4);
    after.sort_unstable();
    after.dedup();
    assert_eq!(after.len(), 6, "key times are unique over both subsystems");
}

/// Who was removed knows all three keys of each kind: after as many turns none is left, and at each
/// step nodes that are one turn behind can open what the others seal, and the other way round.
#[test]
fn keys_known_to_a_removed_node_go_turn_by_turn() {
    let mut sim = Sim::new(1, 2);
    let ring = |sim: &Sim, subsystem: &str| -> Vec<EncryptionKey> {
        let keys = &sim.store.cluster().unwrap().network_bootstrap_keys;
        let mut keys: Vec<_> = keys.iter().filter(|k| k.subsystem == subsystem).cloned().collect();
        keys.sort_unstable_by_key(|key| key.lamport_time);
        keys
    };
    let subsystems = ["networking:gossip", "networking:ipsec"];
    let known = subsystems.map(|subsystem| ring(&sim, subsystem));
    assert!(!admission::network_keys_exposed(sim.store.cluster().unwrap()));
    let node = sim.nodes[0].clone();
    let actions = admission::remove_node(&sim.store, &node, true, sim.now, sim.now).unwrap();
    sim.apply(actions);
    let mut turns = 0;
    while admission::network_keys_exposed(sim.store.cluster().unwrap()) {
        let before = subsystems.map(|subsystem| ring(&sim, subsystem));
        let actions = admission::rotate_network_keys(&sim.store, sim.now, &mut sim.chance);
        sim.apply(actions);
        for (before, subsystem) in before.iter().zip(subsystems) {
            let after = ring(&sim, subsystem);
            assert!(before.contains(&after[1]) && after.contains(&before[1]));
        }
        turns += 1;
    }
    assert_eq!(turns, 3);
    for (known, subsystem) in known.iter().zip(subsystems) {
        assert!(!ring(&sim, subsystem).iter().any(|key| known.contains(key)));
    }
}

/// Settings of the managers' log that would have no effect are refused, unless they are there already.
#[test]
fn raft_settings_act_or_are_refused() {
    let mut sim = Sim::new(1, 1);
    let update = |sim: &mut Sim, change: &dyn Fn(&mut RaftConfig)| {
        let cluster = sim.store.cluster().unwrap().clone();
        let mut spec = cluster.spec.clone();
        change(&mut spec.raft);
        let rotation = admission::KeyRotation::default();
        let version = cluster.meta.version;
        let rng = &mut sim.chance;
        let updated =
            admission::update_cluster(&sim.store, version, spec, rotation, None, sim.now, rng);
        let actions = updated.map_err(|error| error.message)?;
        sim.apply(actions);
        Ok::<_, String>(())
    };
    update(&mut sim, &|raft| {
        raft.snapshot_interval = 50;
        raft.log_entries_for_slow_followers = 7;
        raft.keep_old_snapshots = Some(0);
    })
    .unwrap();
    let refused = update(&mut sim, &|raft| raft.keep_old_snapshots = Some(3)).unwrap_err();
    assert!(refused.contains("--max-snapshots"), "{refused}");
    let refused = update(&mut sim, &|raft| raft.election_tick = 20).unwrap_err();
    assert!(refused.contains("ElectionTick 10"), "{refused}");
}
