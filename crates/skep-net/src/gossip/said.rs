//! What this node told the others, and what is to be said when something changed. Entries are made of the sandboxes
//! that changed and of nothing else: there may be hundreds, and something changes all the time.

use super::{applied, tables};
use crate::ids::{NetworkId, SandboxId};
use crate::merge;
use crate::model::LocalRecords;
use crate::world::{Sandbox, World};
use skep_gossip::{EntryId, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

type Entries = BTreeMap<EntryId, Vec<u8>>;

/// What was said last, by where it came from.
#[derive(Default)]
pub struct Said {
    around: Around,
    sandboxes: BTreeMap<SandboxId, (Arc<Sandbox>, Entries)>,
    /// Of the load balancers, and that this node answers.
    others: Entries,
}

/// What a sandbox's entries are made of beside the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// Overlays that are in use.
    pub networks: BTreeSet<NetworkId>,
    /// Where this node is reached; `None` outside of a swarm.
    tunnel: Option<IpAddr>,
}

/// How the world differs from what was said.
pub struct News {
    pub around: Around,
    changed: Vec<Arc<Sandbox>>,
    gone: Vec<SandboxId>,
    balancers: LocalRecords,
}

impl Said {
    /// Looks, which is all that is done while nobody may change the world.
    pub fn news(&self, world: &World) -> News {
        let in_use = world.running.overlays.values().filter(|n| world.overlay_in_use(n));
        let around = Around {
            networks: in_use.map(|n| n.id.clone()).collect(),
            tunnel: world.running.cluster.as_ref().map(|cluster| cluster.data_path_addr),
        };
        let anew = around != self.around;
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        for (id, now, said) in merge::join(&world.running.sandboxes, &self.sandboxes) {
            match (now, said) {
                (Some(now), Some((said, _))) if !anew && Arc::ptr_eq(now, said) => {}
                (Some(now), _) => changed.push(Arc::clone(now)),
                (None, _) => gone.push(id.clone()),
            }
        }
        News { changed, gone, balancers: world.balancer_records(), around }
    }

    /// Takes them for said. `None` as value: the entry is to go. Those come first, for one may be put again.
    pub fn say(&mut self, node: &NodeName, news: News) -> Vec<(EntryId, Option<Vec<u8>>)> {
        let News { around, changed, gone, balancers } = news;
        let mut changes = Vec::new();
        for id in gone {
            if let Some((_, entries)) = self.sandboxes.remove(&id) {
                differences(&entries, &Entries::new(), &mut changes);
            }
        }
        for sandbox in changed {
            let records = around.tunnel.map(|tunnel| sandbox.records(tunnel, &around.networks));
            let entries = tables::entries(&records.unwrap_or_default());
            let before = self.sandboxes.get(&sandbox.spec.id).map(|(_, entries)| entries);
            differences(before.unwrap_or(&Entries::new()), &entries, &mut changes);
            self.sandboxes.insert(sandbox.spec.id.clone(), (sandbox, entries));
        }
        let mut others = tables::entries(&balancers);
        others.extend(applied::entries(node, &around.networks));
        differences(&self.others, &others, &mut changes);
        self.others = others;
        self.around = around;
        changes.sort_by_key(|(_, value)| value.is_some());
        changes
    }
}

fn differences(before: &Entries, now: &Entries, changes: &mut Vec<(EntryId, Option<Vec<u8>>)>) {
    let gone = before.keys().filter(|id| !now.contains_key(*id));
    changes.extend(gone.map(|id| (id.clone(), None)));
    let put = now.iter().filter(|(id, value)| before.get(*id) != Some(*value));
    changes.extend(put.map(|(id, value)| (id.clone(), Some(value.clone()))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::swarm;
    use crate::world::tests::spec;

    /// What the others have after all that was said.
    fn tell(said: &mut Said, world: &World, table: &mut Entries) -> usize {
        let changes = said.say(&NodeName::from("n"), said.news(world));
        let count = changes.len();
        for (id, value) in changes {
            match value {
                Some(value) => drop(table.insert(id, value)),
                None => assert!(table.remove(&id).is_some(), "{id:?}"),
            }
        }
        count
    }

    #[test]
    fn the_others_have_what_there_is_and_hear_only_of_changes() {
        let (mut said, mut table) = (Said::default(), Entries::new());
        let mut world = swarm();
        type Step<'a> = (&'a str, usize, &'a dyn Fn(&mut World));
        let steps: [Step<'_>; 7] = [
            // Three tasks on two networks, two load balancers, and on both networks that this node answers.
            ("all", 3 * 2 * 2 + 2 + 2, &|_| {}),
            ("nothing", 0, &|_| {}),
            ("nothing that they hear of", 0, &|w| {
                w.sandbox_mut(&spec(1).id).unwrap().dns_ports = Some((1, 2));
            }),
            ("one leaves", 2, &|w| w.set_rotation(&spec(1).id, false).unwrap()),
            ("one goes", 4, &|w| drop(w.running.sandboxes.remove(&spec(1).id))),
            ("another address", 2 * 2 + 2, &|w| {
                w.running.cluster.as_mut().unwrap().data_path_addr = "192.0.2.9".parse().unwrap();
            }),
            ("no swarm", 2 * 2 * 2 + 2 + 2, &|w| w.running.cluster = None),
        ];
        for (what, count, step) in steps {
            step(&mut world);
            assert_eq!(tell(&mut said, &world, &mut table), count, "{what}");
            let mut fresh = Entries::new();
            tell(&mut Said::default(), &world, &mut fresh);
            assert_eq!(table, fresh, "{what}");
        }
        assert!(table.is_empty());
    }
}
