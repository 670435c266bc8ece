//! Random events, then healing: whatever happened, the swarm must come to what its services ask for.

use skep_control::admission;
use skep_types::{
    IpamConfig, IpamOptions, NetworkSpec, NodeAvailability, ServiceId, ServiceMode, TaskState,
};

use crate::sim::spec::{self, global, network, on_network, port, publish, replicated};
use crate::sim::{Behaviour, Sim};

/// Seeds of one test; `SKEP_SEEDS` asks for another number.
const SEEDS: u64 = 15;
const EVENTS: usize = 25;

fn chaos(seed: u64) -> Sim {
    let mut sim = Sim::new(seed, 4);
    sim.images.insert("flaky:1".to_owned(), Behaviour::Flaky);
    sim.images.insert("bad:1".to_owned(), Behaviour::Rejected);
    sim.lossy = seed.is_multiple_of(2);
    let mut number = 0;
    for _ in 0..EVENTS {
        event(&mut sim, &mut number);
        let secs = i64::try_from(sim.chance.below(12)).unwrap();
        if secs < 8 {
            sim.run(secs);
        }
    }
    sim
}

fn event(sim: &mut Sim, number: &mut u32) {
    let services: Vec<ServiceId> = sim.store.services().map(|s| s.id.clone()).collect();
    let pick = |sim: &mut Sim, len: usize| -> usize {
        usize::try_from(sim.chance.below(len.max(1) as u64)).unwrap()
    };
    let which = pick(sim, services.len());
    let service = services.get(which).cloned();
    let node_number = pick(sim, sim.nodes.len());
    let node = sim.nodes[node_number].clone();
    let kind = sim.chance.below(12);
    match (kind, service) {
        (0 | 1, _) | (_, None) => {
            *number += 1;
            let name = format!("s{number}");
            let replicas = 1 + sim.chance.below(4);
            let mut wanted =
                if sim.chance.below(4) == 0 { global(&name) } else { replicated(&name, replicas) };
            if sim.chance.below(3) == 0 {
                *spec::image(&mut wanted) = "flaky:1".to_owned();
            }
            if sim.chance.below(2) == 0 {
                publish(&mut wanted, vec![port(80, 0), port(81, 8000 + *number)]);
            }
            if sim.chance.below(2) == 0 {
                let name = format!("n{}", sim.chance.below(3));
                if sim.store.network_named(&name).is_none() {
                    let (_, actions) = admission::create_network(
                        &sim.store,
                        small_network(&name),
                        sim.now,
                        &mut sim.chance,
                    )
                    .unwrap();
                    sim.apply(actions);
                }
                on_network(&mut wanted, &name);
            }
            sim.create(wanted);
        }
        (2, Some(id)) => sim.remove(&id),
        (3 | 4, Some(id)) => {
            let replicas = sim.chance.below(6);
            sim.update(&id, |spec| {
                if let ServiceMode::Replicated(mode) = &mut spec.mode {
                    mode.replicas = Some(replicas);
                }
            });
        }
        (5 | 6, Some(id)) => {
            let image = ["web:1", "web:2", "flaky:1", "bad:1"][pick(sim, 4)];
            sim.update(&id, |wanted| *spec::image(wanted) = image.to_owned());
        }
        (7, Some(id)) => {
            let service = sim.service(&id);
            if let Ok(actions) =
                admission::rollback_service(&sim.store, &id, service.meta.version, sim.now)
            {
                sim.apply(actions);
            }
        }
        (8, _) => sim.lose(&node),
        (9, _) => sim.bring_back(&node),
        (10, _) => {
            let availability =
                [NodeAvailability::Active, NodeAvailability::Drain, NodeAvailability::Pause]
                    [pick(sim, 3)];
            sim.set_node(&node, |node| node.spec.availability = availability);
        }
        _ => sim.change_leader(),
    }
}

/// Small enough that addresses are given again and again.
fn small_network(name: &str) -> NetworkSpec {
    let subnet = format!("10.200.{}.0/26", &name[1..]);
    let config = IpamConfig { subnet, ..IpamConfig::default() };
    NetworkSpec {
        ipam: Some(IpamOptions { configs: vec![config], ..IpamOptions::default() }),
        ..network(name)
    }
}

fn heal(sim: &mut Sim) {
    sim.lossy = false;
    for id in sim.nodes.clone() {
        sim.bring_back(&id);
        sim.set_node(&id, |node| node.spec.availability = NodeAvailability::Active);
    }
    for behaviour in sim.images.values_mut() {
        *behaviour = Behaviour::Runs;
    }
    let paused: Vec<ServiceId> = sim.store.services().map(|s| s.id.clone()).collect();
    for id in paused {
        sim.update(&id, |wanted| wanted.task_template.force_update += 1);
    }
    sim.run(600);
}

#[test]
fn converges_after_any_history_1() {
    converges(1);
}

#[test]
fn converges_after_any_history_2() {
    converges(2);
}

#[test]
fn converges_after_any_history_3() {
    converges(3);
}

#[test]
fn converges_after_any_history_4() {
    converges(4);
}

fn converges(part: u64) {
    let asked = std::env::var("SKEP_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..asked.unwrap_or(SEEDS) {
        let seed = part * 1_000_000 + seed;
        let mut sim = chaos(seed);
        heal(&mut sim);
        for service in sim.store.services() {
            let name = &service.spec.annotations.name;
            let wanted = sim.wanted(&service.id);
            let running = sim.running(&service.id);
            let expected = match service.spec.mode {
                ServiceMode::Replicated(mode) => mode.replicas.unwrap() as usize,
                _ => sim.nodes.len(),
            };
            assert_eq!(
                running.len(),
                expected,
                "seed {seed}: running tasks of {name}: {wanted:#?}"
            );
            assert_eq!(wanted.len(), expected, "seed {seed}: wanted tasks of {name}");
            let mut slots: Vec<_> = running
                .iter()
                .map(|task| (task.slot, task.slot == 0, task.node_id.clone()))
                .collect();
            if running.first().is_some_and(|task| task.slot != 0) {
                slots.dedup_by_key(|slot| slot.0);
            } else {
                slots.sort();
                slots.dedup();
            }
            assert_eq!(slots.len(), expected, "seed {seed}: one live task per slot of {name}");
        }
        let lost: Vec<_> = (sim.store.tasks())
            .filter(|task| task.desired_state > TaskState::Running)
            .filter(|task| !task.status.state.is_terminal())
            .collect();
        assert!(lost.is_empty(), "seed {seed}: tasks neither wanted nor ended: {lost:#?}");
        for node in sim.store.nodes() {
            assert!(!node.attachments.is_empty(), "seed {seed}: node without ingress address");
        }
    }
}

#[test]
fn same_seed_same_log() {
    for seed in [1, 7, 42] {
        assert_eq!(chaos(seed).log, chaos(seed).log, "seed {seed}");
    }
}
