use super::wire::{GossipMessage, MessageType, TableEvent, TableEventType};
use crate::names::{EntryId, NodeName};
use crate::time::Moment;

/// An entry, or the tombstone of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) l_time: u64,
    pub(crate) owner: NodeName,
    pub(crate) value: Vec<u8>,
    pub(crate) deleted: bool,
    /// When it is forgotten: tombstones, and entries whose owner failed.
    pub(crate) expires: Option<Moment>,
}

impl Entry {
    /// Whether an event of `owner` at `l_time` is newer. Clocks of two owners of one key may be
    /// equal; then all nodes must still agree, so the names decide.
    pub(crate) fn is_older_than(&self, l_time: u64, owner: &NodeName) -> bool {
        (self.l_time, &self.owner) < (l_time, owner)
    }

    /// The entry as an event. `create` is what a live one is called; bulk syncs say "create" for
    /// every live one.
    pub(crate) fn event(&self, id: &EntryId, live: TableEventType, now: Moment) -> Vec<u8> {
        // Below one second it would be read as "none"; the reaper may be a little late then.
        let residual = |end: Moment| i32::try_from(end.since(now).as_secs().max(1));
        let event = TableEvent {
            r#type: if self.deleted { TableEventType::Delete } else { live } as i32,
            l_time: self.l_time,
            node_name: self.owner.to_string(),
            network_id: id.network.to_string(),
            table_name: id.table.to_string(),
            key: id.key.to_string(),
            value: self.value.clone(),
            residual_reap_time: self
                .expires
                .filter(|_| self.deleted)
                .map_or(0, |end| residual(end).unwrap_or(i32::MAX)),
        };
        GossipMessage::wrap(MessageType::TableEvent, &event)
    }
}
