use super::{Event, Gossip, first_of};
use crate::names::{EntryId, NetworkId, NodeName};
use crate::tables::entry::Entry;

impl Gossip {
    /// Puts `entry` in its place and says what that changed for those who look.
    pub(super) fn store(&mut self, id: EntryId, entry: Entry) {
        let seen = self.is_seen(&entry);
        let (value, owner) = (entry.value.clone(), entry.owner.clone());
        let foreign = owner != self.config.name;
        let before = self.entries.insert(id.clone(), entry);
        let before = before.filter(|old| old.owner != self.config.name && self.is_seen(old));
        match before {
            Some(old) if !seen || !foreign => {
                self.event(Event::EntryDeleted { id, value: old.value, owner: old.owner });
            }
            Some(old) if old.value != value || old.owner != owner => {
                self.event(Event::EntryUpdated { id, value, owner });
            }
            None if seen && foreign => self.event(Event::EntryCreated { id, value, owner }),
            _ => {}
        }
    }

    /// Takes an entry away for good. `was_seen`: whether its owner was until now; `None`: as it
    /// is.
    fn take_away(&mut self, id: EntryId, was_seen: Option<bool>) {
        let Some(entry) = self.entries.remove(&id) else { return };
        let was_seen = was_seen.unwrap_or_else(|| self.is_owner_seen(&entry.owner));
        if was_seen && !entry.deleted && entry.owner != self.config.name {
            self.event(Event::EntryDeleted { id, value: entry.value, owner: entry.owner });
        }
    }

    /// The owner may have failed or come back: its entries are hidden or shown.
    pub(super) fn seen_changed(&mut self, owner: &NodeName, was_seen: bool) {
        let seen = self.is_owner_seen(owner);
        if seen == was_seen {
            return;
        }
        let expires = (!seen).then(|| self.now + self.config.timing.reap_entry);
        let mut events = Vec::new();
        for (id, entry) in &mut self.entries {
            if entry.owner != *owner || entry.deleted {
                continue;
            }
            entry.expires = expires;
            let (id, value, owner) = (id.clone(), entry.value.clone(), owner.clone());
            events.push(if seen {
                Event::EntryCreated { id, value, owner }
            } else {
                Event::EntryDeleted { id, value, owner }
            });
        }
        for event in events {
            self.event(event);
        }
    }

    /// A node is gone for good: so is all that it owned, and where it was.
    pub(super) fn purge(&mut self, owner: &NodeName, was_seen: bool) {
        self.attachments.remove(owner);
        self.missed.retain(|(node, _)| node != owner);
        self.remove_entries(Some(was_seen), None, |_, entry| entry.owner == *owner);
    }

    /// Removes the entries of `network` (or of all) for which `which` says so. `was_seen`: whether
    /// their owner was until now, if that has changed.
    pub(super) fn remove_entries(
        &mut self,
        was_seen: Option<bool>,
        network: Option<&NetworkId>,
        which: impl Fn(&EntryId, &Entry) -> bool,
    ) {
        let gone: Vec<_> = match network {
            Some(network) => {
                self.of_network(network).filter(|(id, e)| which(id, e)).map(id_of).collect()
            }
            None => self.entries.iter().filter(|(id, e)| which(id, e)).map(id_of).collect(),
        };
        for id in gone {
            self.take_away(id, was_seen);
        }
    }

    pub(super) fn of_network(
        &self,
        network: &NetworkId,
    ) -> impl Iterator<Item = (&EntryId, &Entry)> {
        let all = self.entries.range(first_of(network)..);
        all.take_while(move |(id, _)| id.network == *network)
    }

    /// Forgets tombstones, hidden entries and departures whose time is over.
    pub(super) fn reap(&mut self) {
        let now = self.now;
        self.entries.retain(|_, entry| entry.expires.is_none_or(|end| end > now));
        self.networks.retain(|_, own| own.attachment.left_until.is_none_or(|end| end > now));
        for networks in self.attachments.values_mut() {
            networks.retain(|_, attachment| attachment.left_until.is_none_or(|end| end > now));
        }
        let forget = self.config.timing.forget_dead;
        let old =
            self.members.iter().filter(|(_, m)| !m.is_present() && now.since(m.since) > forget);
        let old: Vec<_> = old.map(|(name, _)| name.clone()).collect();
        for name in old {
            self.forget(&name);
        }
        let members = &self.members;
        self.attachments
            .retain(|name, networks| !networks.is_empty() && members.contains_key(name));
    }
}

fn id_of((id, _): (&EntryId, &Entry)) -> EntryId {
    id.clone()
}
