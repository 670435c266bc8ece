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

#[test]
fn who_does_not_answer_here_is_not_used_from_here_and_lives_on_elsewhere() {
    for seed in 0..8 {
        let mut sim = cluster(seed, 4);
        let names: Vec<_> = (0..4).map(|host| sim.name(host)).collect();
        // What host 1 sends to host 0 is lost; so no connection between them works.
        sim.cut.insert((1, 0));
        sim.run(5 * SECOND);
        let sees =
            |sim: &Sim, host: usize, of: usize| sim.places[host].view.contains_key(&entry(of));
        assert!(!sees(&sim, 0, 1) && !sees(&sim, 1, 0), "seed {seed}: {:?}", sim.faults());
        for (host, of) in [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (2, 1), (3, 0), (3, 1)] {
            assert!(sees(&sim, host, of), "seed {seed}: {host} lacks {of}");
        }
        // Nobody takes it for dead, and what it says is heard, though not used.
        sim.put(1, &entry(1), b"two");
        sim.run(60 * SECOND);
        for host in 0..4 {
            let dead: Vec<_> =
                sim.node(host).members().filter(|m| m.state == NodeState::Dead).collect();
            assert!(dead.is_empty(), "seed {seed}, host {host}: {dead:?}");
        }
        assert!(!sees(&sim, 0, 1), "seed {seed}");
        assert!(sim.node(0).counters().probes_by_others > 0);
        sim.cut.clear();
        let took = settle(&mut sim, 5 * SECOND);
        assert!(took <= 3 * SECOND, "seed {seed}: {took:?}");
        assert_eq!(sim.places[0].view[&entry(1)], (b"two".to_vec(), names[1].clone()));
    }
}

#[test]
fn a_lost_packet_makes_nobody_unreachable() {
    let mut sim = cluster(12, 5);
    sim.loss = 0.05;
    sim.run(120 * SECOND);
    for host in 0..5 {
        assert_eq!(sim.places[host].view.len(), 4, "host {host}: {:?}", sim.faults());
    }
}

/// Every node is asked about every change, and answers once it has it.
fn change_and_ask(sim: &mut Sim, host: usize, number: u64) {
    let value = number.to_string();
    sim.put(host, &entry(host), value.as_bytes());
    let question = format!("e{host}={value}").into_bytes();
    let others: Vec<_> = sim.node(host).members().map(|m| m.name).collect();
    for other in others {
        let question = question.clone();
        sim.command(host, |node, now| node.ask_node(&other, number, question, 5 * SECOND, now))
            .unwrap();
    }
}

#[test]
fn a_hundred_changes_a_minute_on_fifty_nodes_stay_within_their_bytes() {
    const HOSTS: usize = 50;
    const CHANGES: u64 = 100;
    /// What a change and all its confirmations may cost the whole cluster.
    const BYTES_A_CHANGE: u64 = 100_000;
    let mut sim = cluster(13, HOSTS);
    sim.run(60 * SECOND);
    let before = sim.bytes;
    sim.run(60 * SECOND);
    let idle = sim.bytes - before;
    let before = sim.bytes;
    for number in 0..CHANGES {
        let host = number as usize % HOSTS;
        change_and_ask(&mut sim, host, number);
        sim.run(60 * SECOND / CHANGES as u32);
    }
    let changes = (sim.bytes - before).saturating_sub(idle);
    sim.run(5 * SECOND);
    let answers: usize = sim.places.iter().map(|place| place.answers.len()).sum();
    assert_eq!(answers, CHANGES as usize * (HOSTS - 1));
    assert!(changes <= CHANGES * BYTES_A_CHANGE, "{changes} bytes, {idle} when idle");
}

#[test]
fn questions_are_repeated_until_they_are_answered() {
    let mut sim = cluster(14, 5);
    sim.loss = 0.4;
    for number in 0..10 {
        change_and_ask(&mut sim, 0, number);
        sim.run(4 * SECOND);
        let answers = sim.places[0].answers.range((number, "".into())..);
        assert_eq!(answers.count(), 4, "change {number}");
    }
    // One that will never be answered is given up.
    sim.command(0, |node, now| {
        let other = node.members().next().expect("a member").name;
        node.ask_node(&other, 99, b"e0=never".to_vec(), SECOND, now)
    })
    .unwrap();
    sim.run(2 * SECOND);
    let before = sim.node(0).counters().packets_out;
    assert!(before > 0 && sim.places[0].answers.iter().all(|(number, _)| *number != 99));
}

#[test]
fn an_entry_that_fits_into_no_packet_is_not_pushed_again_and_again() {
    let mut sim = cluster(15, 10);
    let big = |n: u8| vec![n; 3000];
    let before = sim.node(0).counters().streams_out;
    for change in 0..100 {
        sim.put(0, &entry(0), &big(change));
        sim.run(Duration::from_millis(50));
    }
    let pushes = sim.node(0).counters().streams_out - before;
    // Five seconds: three times to nine neighbours, and the regular ones.
    assert!(pushes <= 40, "{pushes} streams");
    settle(&mut sim, 5 * SECOND);
}
