//! A large swarm. The bounds are wide, because this runs unoptimised and beside other work; they catch
//! what grows with the square.

use std::time::{Duration, Instant};

use skep_types::{ReplicatedService, ServiceMode};

use crate::sim::Sim;
use crate::sim::spec::replicated;

#[test]
fn thirty_six_more_tasks_among_ten_thousand() {
    let mut sim = Sim::new(1, 0);
    let nodes = (1..=300).map(|number| {
        let id = format!("node{number:021}").into();
        skep_control::Action::Create(crate::sim::spec::node(&id, "host").into())
    });
    sim.apply(nodes.collect());
    for number in 0..10 {
        sim.create(replicated(&format!("big{number}"), 300));
    }
    let small = sim.create(replicated("small", 4));
    sim.settle();
    sim.update(&small, |spec| {
        spec.mode = ServiceMode::Replicated(ReplicatedService { replicas: Some(40) });
    });
    let start = Instant::now();
    let step = sim.leader.step(&sim.store, sim.now, &mut sim.chance);
    let took = start.elapsed();
    println!("36 more tasks: {took:?}");
    assert!(step.actions.len() >= 36);
    assert!(took < Duration::from_millis(500), "{took:?}");
    sim.apply(step.actions);
    assert_eq!(sim.wanted(&small).len(), 40);
}
