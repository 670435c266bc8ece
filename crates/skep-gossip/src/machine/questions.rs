//! Questions that one node asks another, and repeats until they are answered: whether it has done something. Tables tell
//! everybody everything; a question and its answer are two small packets, whatever the size of the cluster.
//!
//! Numbers belong to who asks. An answer says no more than "yes, to that number"; who cannot say so yet says nothing
//! and is asked again. Docker's nodes do not know these messages, so only nodes that say that they do are asked.

use super::events::decode;
use super::{CommandError, Event, Gossip};
use crate::codec::Message;
use crate::counters::DropCause;
use crate::names::NodeName;
use crate::tables::wire::{AnswerMessage, GossipMessage, MessageType, QuestionMessage};
use crate::time::Moment;
use std::time::Duration;

/// Most questions of this node that are under way at once; an older one is given up for a newer.
const MOST: usize = 8192;
/// Before a question is first repeated; each time it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// A question without an answer.
#[derive(Debug)]
pub(super) struct Question {
    message: Vec<u8>,
    next: Moment,
    pause: Duration,
    until: Moment,
}

impl Gossip {
    /// Asks `node` until it answers ([`Event::Answered`]), or for `time`. `number` tells the questions of this node
    /// apart and only grows. Must fit into a packet with the names of both; an unknown node is not asked.
    pub fn ask_node(
        &mut self,
        node: &NodeName,
        number: u64,
        question: Vec<u8>,
        time: Duration,
        now: Moment,
    ) -> Result<(), CommandError> {
        self.advance(now);
        self.not_left()?;
        let message = QuestionMessage {
            node_name: self.config.name.to_string(),
            to: node.to_string(),
            number,
            question,
        };
        let payload = GossipMessage::wrap(MessageType::Question, &message);
        let message = Message::User(payload).encode();
        let limit = self.packet_room();
        if message.len() > limit {
            return Err(CommandError::Value { len: message.len(), limit });
        }
        if self.questions.len() >= MOST {
            let oldest = self.questions.keys().map(|(number, _)| *number).min();
            self.questions.retain(|(number, _), _| Some(*number) != oldest);
        }
        let (next, until) = (self.now, self.now + time);
        let question = Question { message, next, pause: FIRST_PAUSE, until };
        self.questions.insert((number, node.clone()), question);
        self.repeat_questions();
        Ok(())
    }

    /// Answers a question: yes.
    pub fn answer_node(&mut self, node: &NodeName, number: u64, now: Moment) {
        self.advance(now);
        let Some(address) = self.members.get(node).map(|member| member.address) else { return };
        let message = AnswerMessage { node_name: self.config.name.to_string(), number };
        self.send(address, &Message::User(GossipMessage::wrap(MessageType::Answer, &message)));
    }

    /// Asks what is due, and gives up what was asked long enough.
    pub(super) fn repeat_questions(&mut self) {
        let now = self.now;
        let members = &self.members;
        self.questions.retain(|(_, node), question| {
            question.until > now && members.get(node).is_some_and(|member| member.is_present())
        });
        let mut due = Vec::new();
        for ((_, node), question) in &mut self.questions {
            if question.next > now {
                continue;
            }
            question.next = now + question.pause;
            question.pause = (question.pause * 2).min(LONGEST_PAUSE);
            if let Some(member) = self.members.get(node) {
                due.push((member.address, question.message.clone()));
            }
        }
        for (address, message) in due {
            self.send_plain(address, message);
        }
    }

    pub(super) fn next_question(&self) -> Option<Moment> {
        self.questions.values().map(|question| question.next.min(question.until)).min()
    }

    pub(super) fn asked(&mut self, message: QuestionMessage) -> Result<(), DropCause> {
        if message.to != self.config.name.as_str() {
            return Err(DropCause::OtherNode);
        }
        let from = NodeName::from(message.node_name.as_str());
        if !self.members.contains_key(&from) {
            return Err(DropCause::UnknownNode);
        }
        self.event(Event::Asked { from, number: message.number, question: message.question });
        Ok(())
    }

    pub(super) fn answered(&mut self, data: &[u8]) -> Result<(), DropCause> {
        let answer: AnswerMessage = decode(data)?;
        let from = NodeName::from(answer.node_name.as_str());
        let number = answer.number;
        // An answer that was sent twice.
        self.questions.remove(&(number, from.clone())).ok_or(DropCause::Unasked)?;
        self.event(Event::Answered { from, number });
        Ok(())
    }
}
