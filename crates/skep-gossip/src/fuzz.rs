//! Entry points for fuzzing: bytes of any kind into each decoder, and into a whole machine.

use crate::codec::{FrameReader, Keyring, inflate, open_packet, open_stream};
use crate::records::{EndpointRecord, PeerRecord, Record as _};
use crate::{Config, EntryId, Gossip, Moment, NetworkId, NodeName};
use std::net::SocketAddr;

const LIMIT: usize = 1 << 20;

/// A packet without keys.
pub fn fuzz_packet(bytes: &[u8]) {
    let _ = open_packet(bytes, None, LIMIT);
}

/// A compressed body.
pub fn fuzz_inflate(bytes: &[u8]) {
    let _ = inflate(bytes, LIMIT);
}

/// A stream without keys, in pieces of which the first byte says the size.
pub fn fuzz_stream(bytes: &[u8]) {
    let Some((&size, rest)) = bytes.split_first() else { return };
    let mut reader = FrameReader::new(LIMIT, false);
    for piece in rest.chunks(usize::from(size).max(1)) {
        match reader.push(piece) {
            Ok(true) => {
                let frame = reader.into_frame();
                assert!(frame.len() <= rest.len());
                let _ = open_stream(&frame, None, LIMIT);
                return;
            }
            Ok(false) => {}
            Err(_) => return,
        }
    }
}

/// A packet and a stream to a node with keys, from somebody without.
pub fn fuzz_sealed(bytes: &[u8]) {
    let keyring = Keyring::new(&[vec![1; 16], vec![2; 32]], 1).expect("two good keys");
    let _ = open_packet(bytes, Some(&keyring), LIMIT);
    let _ = open_stream(bytes, Some(&keyring), LIMIT);
    let _ = FrameReader::new(LIMIT, true).push(bytes);
}

/// Values of the tables.
pub fn fuzz_records(bytes: &[u8]) {
    let _ = EndpointRecord::decode(bytes);
    let _ = PeerRecord::decode(bytes);
}

/// Packets and streams (by the first bit) into a machine that knows a member and a network.
///
/// # Panics
/// If the machine does, or answers with more than it may.
pub fn fuzz_machine(bytes: &[u8]) {
    let now = Moment::from_millis(0);
    let here: SocketAddr = ([192, 0, 2, 9], 7946).into();
    let there: SocketAddr = ([192, 0, 2, 1], 7946).into();
    let mut gossip = Gossip::new(Config::new(NodeName::from("z"), here, None), now, [7; 32]);
    let network = NetworkId::from("n");
    gossip.join_network(&network, now).expect("a new node can join a network");
    let id = EntryId::new("n", "endpoint_table", "k");
    gossip.put(id, vec![1, 2, 3], now).expect("it is in the network");
    let mut rest = bytes;
    let mut now = now;
    while let Some((head, more)) = rest.split_first_chunk::<2>() {
        let head = u16::from_be_bytes(*head);
        let (piece, more) = more.split_at(more.len().min(usize::from(head >> 4)));
        rest = more;
        now += std::time::Duration::from_millis(u64::from(head & 0x0e) * 50);
        if head & 1 == 0 {
            gossip.handle_packet(there, piece, now);
        } else {
            let _ = gossip.handle_stream_request(there, piece, now);
        }
        gossip.tick(now);
        let _ = gossip.take_outputs();
    }
}
