//! What others say wrongly, and what becomes of it.

use crate::codec::{Ack, Alive, Message, Ping, StreamMessage, open_packet, seal_stream};
use crate::tables::wire::{
    BulkSyncMessage, CompoundMessage, GossipMessage, MessageType, NetworkEvent, Presence,
    TableEvent, TableEventType,
};
use crate::{Config, EntryId, Event, Gossip, Moment, NodeName, NodeState, Output, Put};
use prost::Message as _;
use std::net::SocketAddr;
use std::time::Duration;

/// A node `z` in network `n`, which knows `y` at [`there`].
struct Rig {
    node: Gossip,
    now: Moment,
}

fn here() -> SocketAddr {
    ([192, 0, 2, 9], 7946).into()
}

fn there() -> SocketAddr {
    ([192, 0, 2, 1], 7946).into()
}

fn alive(node: &str, incarnation: u32) -> Message {
    let (node, address) = (node.into(), there());
    let versions = Some([1, 5, 2, 0, 0, 0]);
    Message::Alive(Alive { incarnation, node, address, meta: Vec::new(), versions })
}

impl Rig {
    fn new() -> Self {
        let now = Moment::from_millis(0);
        let node = Gossip::new(Config::new(NodeName::from("z"), here(), None), now, [1; 32]);
        let mut rig = Self { node, now };
        rig.node.join_network(&"n".into(), now).unwrap();
        rig.hear(&alive("y", 1));
        rig.attach("y");
        rig.node.take_outputs();
        rig
    }

    fn hear(&mut self, message: &Message) {
        self.node.handle_packet(there(), &message.encode(), self.now);
    }

    fn attach(&mut self, node: &str) {
        let event = NetworkEvent {
            r#type: Presence::Join as i32,
            l_time: 5,
            node_name: node.into(),
            network_id: "n".into(),
        };
        self.hear(&Message::User(GossipMessage::wrap(MessageType::NetworkEvent, &event)));
    }

    fn entry(&mut self, owner: &str, l_time: u64, value: &[u8]) {
        let event = TableEvent {
            r#type: TableEventType::Create as i32,
            l_time,
            node_name: owner.into(),
            network_id: "n".into(),
            table_name: "t".into(),
            key: "k".into(),
            value: value.to_vec(),
            residual_reap_time: 0,
        };
        self.hear(&Message::User(GossipMessage::wrap(MessageType::TableEvent, &event)));
    }

    /// Lets `time` pass; the packets and events of that time.
    fn run(&mut self, time: Duration) -> (Vec<Message>, Vec<Event>) {
        let end = self.now + time;
        let (mut messages, mut events) = (Vec::new(), Vec::new());
        loop {
            for output in self.node.take_outputs() {
                match output {
                    Output::Packet { bytes, .. } => {
                        let leaves = open_packet(&bytes, None, 1 << 20).unwrap();
                        messages.extend(leaves.into_iter().map(Result::unwrap));
                    }
                    Output::Event(event) => events.push(event),
                    Output::Stream { token, .. } => self.node.handle_stream_failed(token, self.now),
                }
            }
            let next = self.node.next_deadline().filter(|at| *at <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            self.node.tick(self.now);
        }
        self.now = end;
        (messages, events)
    }

    fn state(&self, name: &str) -> Option<NodeState> {
        let mut members = self.node.members();
        members.find(|member| member.name.as_str() == name).map(|member| member.state)
    }
}

fn pings(messages: &[Message], name: &str) -> Vec<Ping> {
    let pings = messages.iter().filter_map(|message| match message {
        Message::Ping(ping) if ping.node == name => Some(ping.clone()),
        _ => None,
    });
    pings.collect()
}

/// Table events about `n/t/k` in what was sent.
fn said(messages: &[Message]) -> Vec<TableEvent> {
    let mut events = Vec::new();
    for message in messages {
        let Message::User(payload) = message else { continue };
        let outer = GossipMessage::decode(&payload[..]).unwrap();
        if outer.r#type() != MessageType::Compound {
            continue;
        }
        for part in CompoundMessage::decode(&outer.data[..]).unwrap().messages {
            let inner = GossipMessage::decode(&part.payload[..]).unwrap();
            events.push(TableEvent::decode(&inner.data[..]).unwrap());
        }
    }
    events
}

const SOON: Duration = Duration::from_millis(100);

#[test]
fn a_rumour_of_an_older_name_does_not_evict_who_lives_there() {
    let mut rig = Rig::new();
    rig.hear(&alive("x", 9));
    let (messages, events) = rig.run(Duration::from_millis(20));
    assert_eq!(pings(&messages, "x").len(), 1, "it is asked");
    assert_eq!(events, []);
    assert_eq!((rig.state("x"), rig.state("y")), (None, Some(NodeState::Alive)));
}

#[test]
fn a_new_name_that_answers_replaces_the_old_one() {
    let mut rig = Rig::new();
    rig.hear(&alive("x", 1));
    let (messages, _) = rig.run(Duration::from_millis(20));
    let seq = pings(&messages, "x")[0].seq;
    rig.hear(&Message::Ack(Ack { seq }));
    let (_, events) = rig.run(Duration::from_millis(20));
    assert!(matches!(&events[0], Event::NodeLeft { name, .. } if name.as_str() == "y"));
    assert!(matches!(&events[1], Event::NodeUp { name, .. } if name.as_str() == "x"));
    assert_eq!(rig.state("y"), Some(NodeState::Left));
}

#[test]
fn a_dead_node_that_is_said_to_live_is_asked_and_not_believed() {
    let mut rig = Rig::new();
    // Nobody answers for y, so it dies.
    let (_, events) = rig.run(Duration::from_secs(10));
    assert!(events.iter().any(|event| matches!(event, Event::NodeDown { .. })));
    // Even long after gossip to the dead has ended.
    rig.run(Duration::from_secs(120));
    rig.hear(&alive("y", 1));
    let (messages, events) = rig.run(Duration::from_millis(20));
    assert_eq!(rig.state("y"), Some(NodeState::Dead));
    assert_eq!(events, []);
    assert_eq!(pings(&messages, "y").len(), 1);
    assert!(messages.iter().any(|m| matches!(m, Message::Suspect(s) if s.node == "y")));
    // Its own denial counts.
    rig.hear(&alive("y", 2));
    assert_eq!(rig.state("y"), Some(NodeState::Alive));
}

#[test]
fn what_others_hold_in_our_name_is_denied() {
    let mut rig = Rig::new();
    rig.run(Duration::from_millis(50));
    // We never had it.
    rig.entry("z", 50, b"false");
    let (messages, _) = rig.run(SOON);
    let events = said(&messages);
    assert_eq!(events[0].r#type(), TableEventType::Delete);
    assert!(events[0].l_time > 50);
    // We have another value.
    let id = EntryId::new("n", "t", "k");
    assert_eq!(rig.node.put(id, b"true".to_vec(), rig.now), Ok(Put::Created));
    rig.run(SOON);
    rig.entry("z", 500, b"false");
    let (messages, _) = rig.run(SOON);
    let newest = said(&messages).into_iter().max_by_key(|event| event.l_time).unwrap();
    assert_eq!((&newest.value[..], newest.l_time > 500), (&b"true"[..], true));
}

#[test]
fn what_the_owner_does_not_send_is_gone_but_not_what_is_newer() {
    let sync = |l_time| {
        let message = BulkSyncMessage {
            l_time,
            unsolicited: false,
            node_name: "y".into(),
            networks: vec!["n".into()],
            payload: GossipMessage::compound(Vec::new()),
        };
        let payload = GossipMessage::wrap(MessageType::BulkSync, &message);
        seal_stream(&StreamMessage::User(payload), None, [0; 12])
    };
    let mut rig = Rig::new();
    rig.entry("y", 7, b"one");
    assert_eq!(rig.node.handle_stream_request(there(), &sync(6), rig.now), None);
    assert_eq!((rig.node.entries().count(), rig.node.counters().entries_swept), (1, 0));
    assert_eq!(rig.node.handle_stream_request(there(), &sync(8), rig.now), None);
    assert_eq!((rig.node.entries().count(), rig.node.counters().entries_swept), (0, 1));
    let (_, events) = rig.run(Duration::ZERO);
    assert!(matches!(events[..], [Event::EntryCreated { .. }, Event::EntryDeleted { .. }]));
}

#[test]
fn of_two_owners_with_equal_clocks_everyone_believes_the_same() {
    let other: SocketAddr = ([192, 0, 2, 2], 7946).into();
    let seen = |order: [&str; 2]| {
        let mut rig = Rig::new();
        let Message::Alive(mut x) = alive("x", 1) else { unreachable!("it is an alive message") };
        x.address = other;
        rig.hear(&Message::Alive(x));
        rig.attach("x");
        for owner in order {
            rig.entry(owner, 7, owner.as_bytes());
        }
        let entry = rig.node.entries().next().unwrap();
        (entry.owner.clone(), entry.value.to_vec())
    };
    assert_eq!(seen(["x", "y"]), seen(["y", "x"]));
}

#[test]
fn a_clock_beyond_reason_is_not_taken_over() {
    let mut rig = Rig::new();
    rig.entry("y", u64::MAX, b"end of time");
    assert_eq!(rig.node.counters().dropped(crate::DropCause::AbsurdClock), 1);
    rig.entry("y", 9, b"good");
    assert_eq!(rig.node.entries().count(), 1);
}
