//! What a container costs the kernel: as much on a full host as on an empty one. Counted, not timed.

use crate::harness::{Host, on, on_a_host, run, wait};
use crate::swarm::{WEB, join};
use skep_net::{EndpointSpec, Net, ServiceAttachment, ServiceId, TrafficCounts};
use std::net::Ipv4Addr;

/// How much less careful the count need not be: what happens beside, such as a look because of somebody else's sign.
const SLACK: u64 = 4;

/// Descriptors that are open for a moment.
const SPARE: usize = 8;

/// Descriptors of this process.
fn held() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("descriptors").count()
}

/// A container on a bridge network and an overlay, of a service or of none.
async fn add(host: &Host, net: &Net, number: u8, service: Option<&str>) -> TrafficCounts {
    let before = net.traffic();
    let spec = host.spec(number, &format!("c{number}"));
    let id = spec.id.clone();
    net.create_sandbox(spec).await.expect("sandbox");
    let overlay = EndpointSpec {
        ipv4: Some(Ipv4Addr::new(10, 0, 5, 10 + number)),
        service: service.map(|name| ServiceAttachment {
            id: ServiceId::new(name),
            name: name.to_owned(),
            vip: Some(Ipv4Addr::new(10, 0, 5, 9)),
            aliases: Vec::new(),
            ingress_ports: Vec::new(),
        }),
        ..on(WEB)
    };
    net.connect(&id, vec![on("bridge"), overlay]).await.expect("connect");
    net.enable_service(&id).await.expect("enable");
    let after = net.traffic();
    TrafficCounts {
        requests: after.requests - before.requests,
        dumps: after.dumps - before.dumps,
        answers: after.answers - before.answers,
        links: after.links - before.links,
        bytes: after.bytes - before.bytes,
        programs: after.programs - before.programs,
    }
}

#[test]
fn the_last_of_many_containers_costs_what_the_first_did() {
    on_a_host(
        "cost::the_last_of_many_containers_costs_what_the_first_did",
        |host: Host| async move {
            let net = host.start().await;
            join(&net).await;
            let mut descriptors = 0;
            let mut few = TrafficCounts::default();
            let mut many = few;
            for number in 1..=120 {
                match number {
                    5 => {
                        few = add(&host, &net, number, None).await;
                        descriptors = held();
                    }
                    _ => many = add(&host, &net, number, None).await,
                }
            }
            // The resolver's two sockets, by one of which its namespace is reached.
            let most = descriptors + 115 * 2 + SPARE;
            wait("closed descriptors", || held() <= most);
            for (what, few, many) in [
                ("requests", few.requests, many.requests),
                ("dumps", few.dumps, many.dumps),
                ("answers", few.answers, many.answers),
                ("links", few.links, many.links),
                ("programs", few.programs, many.programs),
            ] {
                assert!(many <= few + SLACK, "{what}: {few} for the 5th, {many} for the 120th");
            }

            // One more backend of a service: the edge of every other container gets its rules, and nothing of it is read,
            // nor is a program run for it.
            add(&host, &net, 121, Some("svc")).await;
            let everywhere = |address: &str| {
                (1..=121u8).all(|n| {
                    let pin = format!("{n:02x}").repeat(6);
                    run(&format!("{} nft list table ip skep", host.enter(&pin))).contains(address)
                })
            };
            wait("the first task in every container", || everywhere("10.0.5.131"));
            let before = net.traffic();
            add(&host, &net, 122, Some("svc")).await;
            wait("the second task in every container", || everywhere("10.0.5.132"));
            let after = net.traffic();
            assert!(after.links - before.links <= many.links + SLACK, "{before:?} {after:?}");
            assert!(after.dumps - before.dumps <= many.dumps + SLACK, "{before:?} {after:?}");
            let programs = after.programs - before.programs;
            assert!(programs <= many.programs + SLACK, "{before:?} {after:?}");
        },
    );
}
