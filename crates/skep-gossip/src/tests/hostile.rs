//! Bytes of any kind: nothing panics, nothing is believed, all is counted.

use crate::codec::{Ack, Message, Ping, deflate_for_tests as deflate};
use crate::fuzz::{
    fuzz_inflate, fuzz_machine, fuzz_packet, fuzz_records, fuzz_sealed, fuzz_stream,
};
use crate::tables::wire::{GossipMessage, MessageType, TableEvent};
use crate::{Config, DropCause, Gossip, Keyring, Moment, NodeName, Output};
use proptest::prelude::*;
use std::net::SocketAddr;

fn node(keyring: Option<Keyring>) -> Gossip {
    let here: SocketAddr = ([192, 0, 2, 9], 7946).into();
    let config = Config::new(NodeName::from("z"), here, keyring);
    Gossip::new(config, Moment::from_millis(0), [1; 32])
}

fn there() -> SocketAddr {
    ([192, 0, 2, 1], 7946).into()
}

/// Valid messages to be damaged.
fn valid() -> Vec<Vec<u8>> {
    let ping = Ping { seq: 1, node: "z".into(), source: Some(there()), source_node: "a".into() };
    let event = TableEvent { network_id: "n".into(), key: "k".into(), ..Default::default() };
    let event = GossipMessage::wrap(MessageType::TableEvent, &event);
    let mut other = node(None);
    other.set_bootstrap(vec![([192, 0, 2, 1], 7946).into()], Moment::from_millis(0));
    let stream = other.take_outputs().into_iter().find_map(|output| match output {
        Output::Stream { bytes, .. } => Some(bytes),
        _ => None,
    });
    vec![
        Message::Ping(ping).encode(),
        Message::Ack(Ack { seq: 9 }).encode(),
        Message::User(GossipMessage::compound(vec![event.clone(), event])).encode(),
        deflate(&Message::Ack(Ack { seq: 9 }).encode()),
        stream.expect("bootstrap peers are tried at once"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz_packet(&bytes);
        fuzz_inflate(&bytes);
        fuzz_stream(&bytes);
        fuzz_sealed(&bytes);
        fuzz_records(&bytes);
        fuzz_machine(&bytes);
    }

    #[test]
    fn damaged_messages(
        which in 0..5usize,
        damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6),
        cut in any::<u16>(),
        stream: bool,
    ) {
        let mut bytes = valid().swap_remove(which);
        for (place, value) in damage {
            let place = usize::from(place) % bytes.len();
            bytes[place] = value;
        }
        if cut % 3 == 0 {
            bytes.truncate(usize::from(cut) % bytes.len());
        }
        fuzz_packet(&bytes);
        fuzz_sealed(&bytes);
        fuzz_inflate(bytes.get(1..).unwrap_or(&[]));
        let mut pieces = vec![7];
        pieces.extend(&bytes);
        fuzz_stream(&pieces);
        let head = ((bytes.len() as u16) << 4) | 4 | u16::from(stream);
        let mut script = head.to_be_bytes().to_vec();
        script.extend(&bytes);
        let again = script.clone();
        script.extend(again);
        fuzz_machine(&script);
    }
}

#[test]
fn every_refusal_is_counted() {
    let keyring = Keyring::new(&[vec![1; 16]], 0).unwrap();
    let other = Keyring::new(&[vec![2; 16]], 0).unwrap();
    let now = Moment::from_millis(5);
    let ack = Message::Ack(Ack { seq: 1 }).encode();
    let sealed = other.seal([0; 12], &[], &ack);
    let cases: [(bool, Vec<u8>, DropCause); 8] = [
        (true, ack.clone(), DropCause::NotEncrypted),
        (true, sealed, DropCause::NoKey),
        (true, vec![244, 1, 1], DropCause::Label),
        (false, ack, DropCause::Unasked),
        (false, vec![200], DropCause::UnknownType),
        (false, vec![12, 0, 0, 0, 0, 1], DropCause::Checksum),
        (false, vec![2, 0x81], DropCause::Truncated),
        (false, vec![8, 0xff], DropCause::Malformed),
    ];
    for (keys, bytes, cause) in cases {
        let mut node = node(keys.then(|| keyring.clone()));
        node.handle_packet(there(), &bytes, now);
        assert_eq!(node.counters().dropped(cause), 1, "{cause:?}");
        assert_eq!(node.counters().dropped_total(), 1);
        assert_eq!(node.take_outputs(), [], "{cause:?}");
    }
}

#[test]
fn a_ping_for_another_name_is_not_answered() {
    let mut node = node(None);
    let now = Moment::from_millis(5);
    let ping = |name: &str| {
        let ping = Ping { seq: 1, node: name.into(), source: None, source_node: String::new() };
        Message::Ping(ping).encode()
    };
    node.handle_packet(there(), &ping("y"), now);
    assert_eq!(node.take_outputs(), []);
    assert_eq!(node.counters().dropped(DropCause::OtherNode), 1);
    node.handle_packet(there(), &ping("z"), now);
    let answer = Message::Ack(Ack { seq: 1 }).encode();
    assert_eq!(node.take_outputs(), [Output::Packet { to: there(), bytes: answer }]);
}

#[test]
fn a_bomb_does_not_go_off() {
    let mut bomb = Message::User(vec![0; 2 << 20]).encode();
    for _ in 0..2 {
        bomb = deflate(&bomb);
    }
    let mut node = node(None);
    node.handle_packet(there(), &bomb, Moment::from_millis(1));
    assert_eq!(node.counters().dropped(DropCause::TooLarge), 1);
    let deep = (0..9).fold(vec![2, 0x80], |inner, _| deflate(&inner));
    node.handle_packet(there(), &deep, Moment::from_millis(1));
    assert_eq!(node.counters().dropped(DropCause::TooDeep), 1);
}
