//! Bytes that Docker's own code wrote.

use crate::codec::{
    Ack, Alive, Dead, FrameReader, IndirectPing, Keyring, Message, Nack, NodeState, PacketOptions,
    Ping, PushPull, StreamMessage, Suspect, compound, inflate, open_packet, open_stream,
    seal_packet, seal_stream,
};
use crate::counters::DropCause;
use std::net::SocketAddr;

fn a() -> SocketAddr {
    ([192, 0, 2, 1], 7946).into()
}

fn both_ways(message: Message, wire: &str) {
    assert_eq!(hex::encode(message.encode()), wire);
    assert_eq!(Message::decode(&hex::decode(wire).unwrap()).unwrap(), message);
}

#[test]
fn ping() {
    let (node, source_node) = ("b".into(), "a".into());
    both_ways(
        Message::Ping(Ping { seq: 1, node, source: Some(a()), source_node }),
        "0085a44e6f6465a162a55365714e6f01aa536f7572636541646472a4c0000201aa536f757263654e6f6465a161aa\
         536f75726365506f7274cd1f0a",
    );
}

#[test]
fn indirect_ping() {
    let ask = IndirectPing {
        seq: 2,
        target: a(),
        node: "c".into(),
        nack: true,
        source: Some(a()),
        source_node: "a".into(),
    };
    both_ways(
        Message::IndirectPing(ask),
        "0188a44e61636bc3a44e6f6465a163a4506f7274cd1f0aa55365714e6f02aa536f7572636541646472a4c0000201\
         aa536f757263654e6f6465a161aa536f75726365506f7274cd1f0aa6546172676574a4c0000201",
    );
}

#[test]
fn answers() {
    both_ways(Message::Ack(Ack { seq: 1 }), "0282a75061796c6f6164c0a55365714e6f01");
    both_ways(Message::Nack(Nack { seq: 2 }), "0b81a55365714e6f02");
}

#[test]
fn verdicts() {
    both_ways(
        Message::Suspect(Suspect { incarnation: 1, node: "b".into(), from: "a".into() }),
        "0383a446726f6da161ab496e6361726e6174696f6e01a44e6f6465a162",
    );
    both_ways(
        Message::Dead(Dead { incarnation: 1, node: "b".into(), from: "b".into() }),
        "0583a446726f6da162ab496e6361726e6174696f6e01a44e6f6465a162",
    );
}

fn alive() -> Alive {
    Alive {
        incarnation: 1,
        node: "a".into(),
        address: a(),
        meta: Vec::new(),
        versions: Some([1, 5, 2, 0, 0, 0]),
    }
}

#[test]
fn an_alive_node() {
    both_ways(
        Message::Alive(alive()),
        "0486a441646472a4c0000201ab496e6361726e6174696f6e01a44d657461a0a44e6f6465a161a4506f7274cd1f0a\
         a356736ea6010502000000",
    );
}

#[test]
fn push_pull() {
    let state = PushPull {
        join: true,
        nodes: vec![(alive(), NodeState::Alive)],
        user_state: vec![b'x'; 200],
    };
    let wire = format!(
        "06{}{}{}",
        "83a44a6f696ec3a54e6f64657301ac5573657253746174654c656ed100c8",
        "87a441646472a4c0000201ab496e6361726e6174696f6e01a44d657461a0a44e616d65a161a4506f7274cd1f0aa5\
         537461746500a356736ea6010502000000",
        "78".repeat(200)
    );
    let message = StreamMessage::PushPull(state);
    assert_eq!(hex::encode(message.encode()), wire);
    let bytes = hex::decode(wire).unwrap();
    assert_eq!(StreamMessage::decode(&bytes).unwrap(), message);
    // The same plain on a stream, in any pieces.
    for size in 1..bytes.len() {
        let mut reader = FrameReader::new(1 << 20, false);
        let mut extended = bytes.clone();
        extended.extend(b"rest");
        let done =
            extended.chunks(size).find_map(|piece| reader.push(piece).unwrap().then_some(()));
        assert!(done.is_some(), "pieces of {size}");
        assert_eq!(reader.into_frame(), bytes, "pieces of {size}");
    }
}

#[test]
fn a_user_message_on_a_stream() {
    let message = StreamMessage::User(vec![1; 100_000]);
    let wire = message.encode();
    let head = "0881aa557365724d73674c656ed2000186a0";
    assert_eq!(hex::encode(&wire[..head.len() / 2]), head);
    assert_eq!(StreamMessage::decode(&wire).unwrap(), message);
    assert_eq!(StreamMessage::decode(&wire[..50_000]), Err(DropCause::Truncated));
}

#[test]
fn compressed_bytes() {
    let wire = hex::decode("0982a4416c676f00a3427566b500a93c1152e48914274fa80824687061c183090302");
    let wire = wire.unwrap();
    assert_eq!(inflate(&wire[1..], 100).unwrap(), b"TOBEORNOTTOBEORTOBEORNOT");
    assert_eq!(inflate(&wire[1..], 10), Err(DropCause::TooLarge));
    assert_eq!(inflate(&wire[1..wire.len() - 4], 100), Err(DropCause::Truncated));
}

#[test]
fn a_compound() {
    assert_eq!(hex::encode(compound(vec![b"ab".to_vec(), b"c".to_vec()])), "070200020001616263");
}

#[test]
fn packets_of_every_wrapping_come_back() {
    let keyring = Keyring::new(&[vec![3; 16]], 0).unwrap();
    let message = Message::User(vec![b'x'; 900]);
    for checksum in [false, true] {
        for keys in [None, Some(&keyring)] {
            let plain = compound(vec![message.encode(), Message::Nack(Nack { seq: 3 }).encode()]);
            let bytes = seal_packet(&plain, PacketOptions { checksum }, keys, [1; 12]);
            assert!(bytes.len() < 200, "compressed");
            let leaves = open_packet(&bytes, keys, 4096).unwrap();
            assert_eq!(leaves, [Ok(message.clone()), Ok(Message::Nack(Nack { seq: 3 }))]);
            let leaves = open_packet(&bytes, keys, 800).unwrap();
            assert_eq!(leaves, [Err(DropCause::TooLarge)]);
        }
    }
    let plain = Message::Nack(Nack { seq: 3 }).encode();
    let mut bytes = seal_packet(&plain, PacketOptions { checksum: true }, None, [1; 12]);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(open_packet(&bytes, None, 100), Err(DropCause::Checksum));
    assert_eq!(open_packet(&[244, 1, b'x'], None, 100), Err(DropCause::Label));
    assert_eq!(open_packet(&bytes, Some(&keyring), 100), Err(DropCause::NotEncrypted));
}

#[test]
fn streams_are_sealed_and_cut() {
    let keyring = Keyring::new(&[vec![3; 16]], 0).unwrap();
    let message = StreamMessage::Error("no".into());
    for keys in [None, Some(&keyring)] {
        let frame = seal_stream(&message, keys, [2; 12]);
        assert_eq!(frame[0], if keys.is_some() { 10 } else { 9 });
        let mut reader = FrameReader::new(1000, keys.is_some());
        for byte in &frame[..frame.len() - 1] {
            assert_eq!(reader.push(&[*byte]), Ok(false));
        }
        assert_eq!(reader.push(&frame[frame.len() - 1..]), Ok(true));
        assert_eq!(reader.into_frame(), frame);
        assert_eq!(open_stream(&frame, keys, 1000).unwrap(), message);
        let mut small = FrameReader::new(10, keys.is_some());
        assert_eq!(small.push(&frame), Err(DropCause::TooLarge));
    }
    let mut reader = FrameReader::new(1000, true);
    assert_eq!(reader.push(&[9]), Err(DropCause::NotEncrypted));
    let mut reader = FrameReader::new(1000, true);
    assert_eq!(reader.push(&[10, 0xff, 0xff, 0xff, 0xff]), Err(DropCause::TooLarge));
}
