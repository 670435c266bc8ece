//! One behaviour each, in a small cluster on a good network.

use super::sim::Sim;
use crate::{EntryId, Keyring, NetworkId, NodeState, Put};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// `hosts` nodes in network `n`, each with one entry.
fn cluster(seed: u64, hosts: usize) -> Sim {
    let mut sim = Sim::new(seed, hosts);
    let network = NetworkId::from("n");
    for host in 0..hosts {
        sim.join(host, &network);
        sim.put(host, &entry(host), b"one");
    }
    settle(&mut sim, 20 * SECOND);
    sim
}

fn entry(host: usize) -> EntryId {
    EntryId::new("n", "endpoint_table", format!("e{host}"))
}

/// Runs until nothing is wrong, at most `limit`; how long that took.
fn settle(sim: &mut Sim, limit: Duration) -> Duration {
    let start = sim.now;
    while !sim.faults().is_empty() {
        assert!(sim.now.since(start) < limit, "{}", sim.faults().join("\n"));
        sim.run(Duration::from_millis(10));
    }
    sim.now.since(start)
}

#[test]
fn a_change_is_everywhere_within_300_ms() {
    for (hosts, seeds) in [(3, 20), (10, 8)] {
        for seed in 0..seeds {
            let mut sim = cluster(seed, hosts);
            sim.put(0, &entry(0), b"two");
            let took = settle(&mut sim, SECOND);
            assert!(took <= Duration::from_millis(300), "{hosts} hosts, seed {seed}: {took:?}");
            sim.delete(0, &entry(0));
            let took = settle(&mut sim, SECOND);
            assert!(took <= Duration::from_millis(300), "{hosts} hosts, seed {seed}: {took:?}");
        }
    }
}

#[test]
fn a_dead_node_is_out_within_three_seconds() {
    for (hosts, seeds) in [(3, 20), (10, 6)] {
        for seed in 0..seeds {
            let mut sim = cluster(seed, hosts);
            sim.run(SECOND);
            sim.kill(hosts - 1);
            let bound = sim.node(0).death_bound();
            let took = settle(&mut sim, bound);
            assert!(took <= 3 * SECOND, "{hosts} hosts, seed {seed}: {took:?}");
        }
    }
}

#[test]
fn a_restarted_node_replaces_its_old_name_at_once() {
    let mut sim = cluster(1, 3);
    let old = sim.name(2);
    sim.kill(2);
    sim.start(2);
    sim.join(2, &"n".into());
    sim.put(2, &entry(2), b"new");
    let took = settle(&mut sim, SECOND);
    assert!(took <= SECOND, "{took:?}");
    sim.run(SECOND);
    let states: Vec<_> = sim.node(0).members().filter(|m| m.name == old).map(|m| m.state).collect();
    assert_eq!(states, [NodeState::Left]);
}

#[test]
fn a_node_that_leaves_is_gone_at_once_and_nobody_suspects_it() {
    let mut sim = cluster(2, 3);
    let name = sim.name(2);
    sim.command(2, |node, now| node.leave(now));
    sim.truth.remove(&name);
    sim.run(Duration::from_millis(100));
    let left = sim.node(2).name().clone();
    assert_eq!(left, name);
    sim.run(2 * SECOND);
    assert_eq!(sim.node(2).next_deadline(), None);
    sim.kill(2);
    assert_eq!(sim.faults(), [] as [String; 0]);
    for host in [0, 1] {
        let state = sim.node(host).members().find(|m| m.name == name).map(|m| m.state);
        assert_eq!(state, Some(NodeState::Left));
    }
}

#[test]
fn two_halves_find_each_other_again() {
    let mut sim = cluster(3, 4);
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        sim.cut.insert((a, b));
        sim.cut.insert((b, a));
    }
    sim.run(60 * SECOND);
    assert_eq!(sim.node(0).entries().count(), 2, "the other half is hidden");
    sim.put(0, &entry(0), b"during");
    sim.delete(3, &entry(3));
    sim.heal();
    settle(&mut sim, 40 * SECOND);
}

#[test]
fn a_link_with_stream_only_keeps_a_node_in() {
    // A packet from or to host 2 never arrives, but its streams do.
    let mut sim = cluster(4, 3);
    sim.loss = 1.0;
    sim.run(3 * SECOND);
    assert!(sim.node(0).counters().probes_by_stream > 0);
    assert_eq!(sim.node(0).entries().count(), 3);
}

#[test]
fn keys_rotate_under_traffic() {
    let mut sim = Sim::new(5, 3);
    let ring = |keys: &[u8], primary| {
        let keys: Vec<_> = keys.iter().map(|key| vec![*key; 16]).collect();
        Some(Keyring::new(&keys, primary).unwrap())
    };
    for host in 0..3 {
        sim.command(host, |node, _| node.set_keyring(ring(&[1, 2, 3], 1)));
        sim.join(host, &"n".into());
    }
    // Nodes learn of a rotation one after the other; old and new keys overlap all the time.
    for step in 2..6u8 {
        for host in 0..3 {
            let keys = [step, step + 1, step + 2];
            sim.command(host, |node, _| node.set_keyring(ring(&keys, 1)));
            sim.put(host, &entry(host), &[step]);
            sim.run(Duration::from_millis(400));
        }
    }
    settle(&mut sim, 20 * SECOND);
}

#[test]
fn equal_values_are_not_told_again() {
    let mut sim = cluster(6, 2);
    let put = |sim: &mut Sim, value: &[u8]| {
        sim.command(0, |node, now| node.put(entry(0), value.to_vec(), now)).unwrap()
    };
    assert_eq!(put(&mut sim, b"one"), Put::Unchanged);
    assert_eq!(put(&mut sim, b"two"), Put::Updated);
    sim.command(0, |node, now| node.delete(&entry(0), now)).unwrap();
    assert_eq!(put(&mut sim, b"two"), Put::Created);
    let slash = EntryId::new("n", "a/b", "k");
    assert!(sim.command(0, |node, now| node.put(slash, Vec::new(), now)).is_err());
    let elsewhere = EntryId::new("other", "t", "k");
    assert!(sim.command(0, |node, now| node.put(elsewhere, Vec::new(), now)).is_err());
    assert!(sim.command(0, |node, now| node.delete(&entry(1), now)).is_err());
}

#[test]
fn what_no_packet_can_carry_travels_by_stream() {
    let mut sim = cluster(7, 3);
    sim.put(0, &entry(0), &[7; 60_000]);
    let took = settle(&mut sim, SECOND);
    assert!(took <= SECOND, "{took:?}");
}

#[test]
fn a_key_can_change_its_owner() {
    let mut sim = cluster(8, 3);
    let key = entry(9);
    sim.put(0, &key, b"mine");
    settle(&mut sim, SECOND);
    let first = sim.name(0);
    sim.put(1, &key, b"yours");
    sim.truth.entry(first).or_default().remove(&key);
    settle(&mut sim, SECOND);
}

#[test]
fn a_sleeper_accuses_nobody() {
    let mut sim = cluster(9, 3);
    sim.places[2].paused = true;
    sim.run(600 * SECOND);
    let failed = sim.node(2).counters().probes_failed;
    sim.resume(2);
    sim.run(SECOND);
    assert_eq!(sim.node(2).counters().probes_failed, failed);
    settle(&mut sim, 30 * SECOND);
}

#[test]
fn who_misses_a_deletion_and_its_tombstone_still_loses_the_entry() {
    let mut sim = cluster(10, 3);
    sim.places[2].paused = true;
    // Until its socket's buffer is full.
    sim.run(300 * SECOND);
    sim.delete(0, &entry(0));
    // Longer than tombstones live.
    sim.run(2_400 * SECOND);
    sim.resume(2);
    settle(&mut sim, 75 * SECOND);
}

#[test]
fn ordinary_nodes_find_each_other_again_without_bootstrap_peers() {
    let mut sim = cluster(11, 4);
    sim.kill(0);
    sim.kill(1);
    sim.run(10 * SECOND);
    sim.cut.extend([(2, 3), (3, 2)]);
    sim.run(120 * SECOND);
    assert_eq!(sim.node(2).entries().count(), 1);
    sim.cut.clear();
    settle(&mut sim, 30 * SECOND);
}
