//! Entry points for fuzzing: containers' questions, and what other nodes say of their endpoints.

use crate::cidr::Cidr;
use crate::config::AddressPool;
use crate::dns::core::{Transport, Verdict, decide, encode, failure};
use crate::gossip::{Others, tables};
use crate::ids::NetworkId;
use crate::model::{Cluster, EndpointRecord, OverlayNetwork, OverlaySubnet, PeerRecord};
use crate::model::{LocalRecords, PublishedPort};
use crate::plan;
use crate::world::{Facts, NetworkNames, World};
use hickory_proto::op::{Message, ResponseCode};
use skep_gossip::{EntryId, NodeName};
use skep_types::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

const INGRESS: &str = "ingressingressingressingr";
const OVERLAY: &str = "overlayoverlayoverlayover";
/// Of this many endpoints may be told.
const ENDPOINTS: u8 = 4;

/// A question of a container; the first bit says over what.
///
/// # Panics
/// If the answer is none, or is longer than who asked can take.
pub fn fuzz_question(bytes: &[u8]) {
    let Some((&head, bytes)) = bytes.split_first() else { return };
    let transport = if head & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let Ok(query) = Message::from_vec(bytes) else { return };
    let many = (0..100).map(|n| Ipv4Addr::new(10, 0, 1, n)).collect();
    let names = NetworkNames {
        network: "net.work".to_owned(),
        addresses: BTreeMap::from([
            ("web".to_owned(), BTreeSet::from([Ipv4Addr::new(10, 0, 1, 2)])),
            ("tasks.web".to_owned(), many),
            ("gone".to_owned(), BTreeSet::new()),
        ]),
        reverse: BTreeMap::from([(Ipv4Addr::new(10, 0, 1, 2), "web.1".to_owned())]),
    };
    let answer = match decide(&query, &[&names], &mut |_| {}) {
        Verdict::Answer(answer) => *answer,
        Verdict::Forward => failure(&query, ResponseCode::ServFail),
    };
    let Some(sent) = encode(&query, &answer, transport) else { return };
    let read = Message::from_vec(&sent).expect("our own answer");
    assert_eq!(read.metadata.id, query.metadata.id);
    let limit = query.edns.as_ref().map_or(512, |edns| edns.max_payload().max(512));
    // Questions come back as they were: an answer that is longer has nothing else in it.
    if transport == Transport::Udp && sent.len() > usize::from(limit) {
        assert!(read.answers.is_empty() && read.metadata.truncation, "{} bytes", sent.len());
    }
}

/// What another node says of its endpoints, entry by entry, and what becomes of it: records, services,
/// names and the plan of every namespace. Each entry is a byte of choices, a length and a value, or, by a
/// choice, changes to a good one: two bytes say where, a third what is there then.
pub fn fuzz_entries(bytes: &[u8]) {
    let mut world = swarm();
    let mut others = Others::new(0);
    let samples = samples();
    let mut rest = bytes;
    while let Some((&[choices, length], more)) = rest.split_first_chunk::<2>() {
        let (value, more) = more.split_at(more.len().min(usize::from(length)));
        rest = more;
        let peer = usize::from(choices & 1);
        let network = if choices & 2 == 0 { INGRESS } else { OVERLAY };
        let table = ["endpoint_table", "overlay_peer_table"][peer];
        let key = format!("{:064}", (choices >> 4) % ENDPOINTS);
        let value = if choices & 4 == 0 { value.to_vec() } else { damaged(&samples[peer], value) };
        let value = (choices & 8 == 0).then_some(&value[..]);
        let id = EntryId::new(network, table, key);
        if let Some(Ok(change)) = tables::change(&id, value) {
            world.apply_remote(vec![change]);
        }
        others.take(&NetworkId::new(network), &NodeName::from("n"), value);
    }
    let _ = world.services();
    let _ = world.names();
    let _ = plan::plan(&world);
}

fn damaged(sample: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut damaged = sample.to_vec();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]])) % damaged.len();
        damaged[place] = change[2];
    }
    damaged
}

/// A good value for each table.
fn samples() -> [Vec<u8>; 2] {
    let endpoint = EndpointRecord {
        name: "web.1".to_owned(),
        service_name: "web".to_owned(),
        service_id: "svcweb".to_owned(),
        vip: Some(Ipv4Addr::new(10, 0, 5, 2)),
        endpoint_ip: Ipv4Addr::new(10, 0, 5, 7),
        ingress_ports: vec![PublishedPort {
            name: String::new(),
            protocol: Protocol::Tcp,
            target: 80,
            published: 8080,
        }],
        aliases: vec!["www".to_owned()],
        task_aliases: vec!["task".to_owned()],
        disabled: false,
    };
    let peer = PeerRecord {
        endpoint_ip: "10.0.5.7/24".parse().expect("an address"),
        endpoint_mac: "02:42:0a:00:05:07".parse().expect("an address"),
        tunnel_endpoint_ip: [192, 0, 2, 2].into(),
    };
    let records = LocalRecords {
        endpoints: vec![(OVERLAY.into(), "e".into(), endpoint)],
        peers: vec![(OVERLAY.into(), "e".into(), peer)],
    };
    let mut values = tables::entries(&records).into_values();
    let mut next = || values.next().expect("an entry for each table");
    [next(), next()]
}

/// A node of a swarm with the ingress and another network.
fn swarm() -> World {
    let mut number = 0u64;
    let mut id = move || {
        number += 1;
        format!("{number:064x}")
    };
    let mut world = World::new(Facts {
        mtu: 1500,
        underlay_mtu: 1500,
        pools: AddressPool::docker_defaults(),
        host_routes: Vec::new(),
        default_binding: Ipv4Addr::UNSPECIFIED,
        blocked_ports: BTreeSet::new(),
        socket_match: true,
        claims: BTreeMap::new(),
        owner: String::new(),
    });
    let cluster = Cluster {
        node_name: "n".to_owned(),
        data_path_addr: [192, 0, 2, 1].into(),
        vxlan_port: 4789,
    };
    world.set_cluster(Some(cluster), 0, &mut id).expect("a new node can join");
    for (name, third, vni) in [(INGRESS, 0, 4096), (OVERLAY, 5, 4097)] {
        let network = OverlayNetwork {
            id: NetworkId::new(name),
            name: name.to_owned(),
            created_unix_nanos: 0,
            subnets: vec![OverlaySubnet {
                subnet: Cidr::new(Ipv4Addr::new(10, 0, third, 0), 24).expect("a subnet"),
                gateway: Ipv4Addr::new(10, 0, third, 1),
                vni,
            }],
            internal: false,
            attachable: true,
            ingress: third == 0,
            lb_address: Some(Ipv4Addr::new(10, 0, third, 254)),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        };
        world.put_overlay(network, &mut id).expect("it has no other network");
    }
    world
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A question for the addresses of a name.
    fn question(name: &str) -> Vec<u8> {
        use hickory_proto::op::Query;
        use hickory_proto::rr::{Name, RecordType};
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        query.to_vec().unwrap()
    }

    #[test]
    fn the_samples_are_good() {
        for (table, value) in ["endpoint_table", "overlay_peer_table"].iter().zip(samples()) {
            let id = EntryId::new(OVERLAY, *table, "e");
            assert!(matches!(tables::change(&id, Some(&value)), Some(Ok(_))), "{table}");
        }
        fuzz_entries(&[6, 0, 7, 0, 4, 0, 5, 0, 22, 3, 0, 1, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn damaged_questions(
            which in 0..4usize,
            damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..6),
            cut in any::<u16>(),
            tcp: bool,
        ) {
            let names = ["web.", "tasks.web.net.work.", "2.1.0.10.in-addr.arpa.", "."];
            let mut bytes = question(names[which]);
            for (place, value) in damage {
                let place = usize::from(place) % bytes.len();
                bytes[place] = value;
            }
            if cut % 3 == 0 {
                bytes.truncate(usize::from(cut) % bytes.len());
            }
            bytes.insert(0, u8::from(tcp));
            fuzz_question(&bytes);
        }

        #[test]
        fn entries_of_any_kind(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_entries(&bytes);
            fuzz_question(&bytes);
        }
    }
}
