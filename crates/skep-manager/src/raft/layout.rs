//! What log and snapshot are made of on disk.
//!
//! openraft's types change with openraft; a file must not. These are our own, field by field, and in JSON
//! they look as the first logs did.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

use super::types::{self, Command, Member, RaftId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct LeaderId {
    term: u64,
    node_id: RaftId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogId {
    leader_id: LeaderId,
    index: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vote {
    leader_id: LeaderId,
    committed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry<'a> {
    log_id: LogId,
    payload: Payload<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Payload<'a> {
    Blank,
    Normal(Cow<'a, Command>),
    Membership(Membership),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Membership {
    /// Two while a change is under way.
    configs: Vec<BTreeSet<RaftId>>,
    nodes: BTreeMap<RaftId, Member>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredMembership {
    log_id: Option<LogId>,
    membership: Membership,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotMeta {
    last_log_id: Option<LogId>,
    last_membership: StoredMembership,
    snapshot_id: String,
}

type RaftLeaderId = openraft::LeaderId<RaftId>;
type RaftMembership = openraft::Membership<RaftId, Member>;

impl From<RaftLeaderId> for LeaderId {
    fn from(RaftLeaderId { term, node_id }: RaftLeaderId) -> Self {
        Self { term, node_id }
    }
}

impl From<LeaderId> for RaftLeaderId {
    fn from(LeaderId { term, node_id }: LeaderId) -> Self {
        Self { term, node_id }
    }
}

impl From<types::LogId> for LogId {
    fn from(types::LogId { leader_id, index }: types::LogId) -> Self {
        Self { leader_id: leader_id.into(), index }
    }
}

impl From<LogId> for types::LogId {
    fn from(LogId { leader_id, index }: LogId) -> Self {
        Self { leader_id: leader_id.into(), index }
    }
}

impl From<types::Vote> for Vote {
    fn from(types::Vote { leader_id, committed }: types::Vote) -> Self {
        Self { leader_id: leader_id.into(), committed }
    }
}

impl From<Vote> for types::Vote {
    fn from(Vote { leader_id, committed }: Vote) -> Self {
        Self { leader_id: leader_id.into(), committed }
    }
}

impl From<&RaftMembership> for Membership {
    fn from(membership: &RaftMembership) -> Self {
        let nodes = membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
        Self { configs: membership.get_joint_config().clone(), nodes }
    }
}

impl From<Membership> for RaftMembership {
    fn from(Membership { configs, nodes }: Membership) -> Self {
        Self::new(configs, nodes)
    }
}

impl<'a> From<&'a types::Entry> for Entry<'a> {
    fn from(types::Entry { log_id, payload }: &'a types::Entry) -> Self {
        let payload = match payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Normal(command) => Payload::Normal(Cow::Borrowed(command)),
            EntryPayload::Membership(membership) => Payload::Membership(membership.into()),
        };
        Self { log_id: (*log_id).into(), payload }
    }
}

impl From<Entry<'_>> for types::Entry {
    fn from(Entry { log_id, payload }: Entry<'_>) -> Self {
        let payload = match payload {
            Payload::Blank => EntryPayload::Blank,
            Payload::Normal(command) => EntryPayload::Normal(command.into_owned()),
            Payload::Membership(membership) => EntryPayload::Membership(membership.into()),
        };
        Self { log_id: log_id.into(), payload }
    }
}

impl From<&types::SnapshotMeta> for SnapshotMeta {
    fn from(
        types::SnapshotMeta { last_log_id, last_membership, snapshot_id }: &types::SnapshotMeta,
    ) -> Self {
        Self {
            last_log_id: last_log_id.map(Into::into),
            last_membership: StoredMembership {
                log_id: last_membership.log_id().map(Into::into),
                membership: last_membership.membership().into(),
            },
            snapshot_id: snapshot_id.clone(),
        }
    }
}

impl From<SnapshotMeta> for types::SnapshotMeta {
    fn from(SnapshotMeta { last_log_id, last_membership, snapshot_id }: SnapshotMeta) -> Self {
        let StoredMembership { log_id, membership } = last_membership;
        Self {
            last_log_id: last_log_id.map(Into::into),
            last_membership: types::StoredMembership::new(
                log_id.map(Into::into),
                membership.into(),
            ),
            snapshot_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the first versions wrote them, through openraft's own serialisation.
    #[test]
    fn the_first_logs_are_read_and_written_alike() {
        let entries = [
            r#"{"log_id":{"leader_id":{"term":1,"node_id":7},"index":0},"payload":{"Membership":{"configs":[[7],[7,8]],"nodes":{"7":{"node_id":"n","addr":"192.0.2.1:2377"},"8":{"node_id":"m","addr":"192.0.2.2:2377"}}}}}"#,
            r#"{"log_id":{"leader_id":{"term":1,"node_id":7},"index":1},"payload":"Blank"}"#,
            r#"{"log_id":{"leader_id":{"term":2,"node_id":7},"index":2},"payload":{"Normal":{"transactions":[]}}}"#,
        ];
        for text in entries {
            let entry: types::Entry = serde_json::from_str::<Entry<'_>>(text).unwrap().into();
            assert_eq!(entry, serde_json::from_str(text).unwrap());
            assert_eq!(serde_json::to_string(&Entry::from(&entry)).unwrap(), text);
        }
        let text = r#"{"leader_id":{"term":3,"node_id":7},"committed":true}"#;
        let vote: types::Vote = serde_json::from_str::<Vote>(text).unwrap().into();
        assert_eq!(vote, serde_json::from_str(text).unwrap());
        assert_eq!(serde_json::to_string(&Vote::from(vote)).unwrap(), text);
        let text = r#"{"last_log_id":{"leader_id":{"term":1,"node_id":7},"index":9},"last_membership":{"log_id":null,"membership":{"configs":[[7]],"nodes":{"7":{"node_id":"n","addr":"192.0.2.1:2377"}}}},"snapshot_id":"s"}"#;
        let meta: types::SnapshotMeta = serde_json::from_str::<SnapshotMeta>(text).unwrap().into();
        assert_eq!(meta, serde_json::from_str(text).unwrap());
        assert_eq!(serde_json::to_string(&SnapshotMeta::from(&meta)).unwrap(), text);
    }
}
