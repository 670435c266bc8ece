//! Our nftables table in one namespace: what is known to be in it, and how it is made the planned one.

use super::nft::{self, Nft};
use super::refused;
use super::turns::{self, Led};
use crate::error::Result;
use crate::plan::{Applied, Change, Ruleset, RulesetDigest, TABLE, Turns, digest};
use std::sync::Arc;

/// What is known of the table.
#[derive(Debug, Default)]
pub struct Rules {
    /// What was last written; `None` when not known.
    applied: Option<Applied>,
    /// Where chains lead in turn, in the order of their names, as far as it is known.
    led: Vec<Arc<Turns>>,
}

/// What became of a look.
#[derive(Debug, Default)]
pub struct Written {
    /// How much was changed.
    pub changed: usize,
    /// Whether somebody else wrote since the last look, ours or not.
    pub meddled: bool,
    /// Whether rules were there that were not ours, or not known to be.
    pub replaced: bool,
}

impl Rules {
    /// As an earlier daemon noted them.
    pub fn noted(applied: Option<Applied>) -> Self {
        Self { applied, led: Vec::new() }
    }

    /// Whether something is known of them.
    pub fn is_known(&self) -> bool {
        self.applied.is_some()
    }

    /// Whether our own latest transaction is at least as new as this nftables generation.
    pub fn wrote(&self, generation: u32) -> bool {
        // The counter wraps: what is less than half way ahead is newer.
        let newer = |a: &Applied| a.generation.wrapping_sub(generation) <= u32::MAX / 2;
        self.applied.as_ref().is_some_and(newer)
    }

    /// Makes the table of the calling thread's namespace the planned one, and has what is known of it noted with
    /// `note`. Between two of our own transactions the nftables generation tells whether anybody wrote; if so, the
    /// table is read to see whether that was ours to care about.
    pub fn write(
        &mut self,
        nft: &Nft,
        label: &str,
        rules: &Ruleset,
        note: impl Fn(&Applied),
    ) -> Result<Written> {
        let planned = rules.digest();
        // Not known until written or found right, should this fail half way.
        let mut known = std::mem::take(self);
        let change = known.applied.as_ref().and_then(|a| rules.change_from(&a.rules, &planned));
        let differs = known.applied.as_ref().is_some_and(|applied| applied.rules != planned);
        // What changes most is tried at once: the kernel itself says if somebody wrote meanwhile.
        if differs && change.is_none() && known.lead(nft, label, rules, &planned) {
            return Ok(self.became(known, note, Written { changed: 1, ..Written::default() }));
        }
        let generation = nft::generation(&nft.traffic)
            .map_err(refused(label, "read the nftables generation"))?;
        let mut written = Written::default();
        let mut listing = None;
        if let Some(applied) = known.applied.as_mut().filter(|a| a.generation != generation) {
            written.meddled = true;
            let found = nft.list(label, TABLE)?;
            let intact = match applied.listing {
                Some(expected) => expected == digest(&found),
                None => applied.rules.is_empty() && found.is_empty(),
            };
            if intact {
                applied.generation = generation;
                note(applied);
            } else {
                known = Self::default();
            }
            listing = Some(found);
        }
        if let Some(applied) = &known.applied {
            if applied.rules == planned {
                *self = known;
                return Ok(written);
            }
            match known.advance(nft, label, rules, &planned, change) {
                Ok(true) => {
                    written.changed = 1;
                    return Ok(self.became(known, note, written));
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        namespace = label,
                        error = &error as &dyn std::error::Error,
                        "rules could not be changed in part; replacing them"
                    );
                }
            }
        }
        let before = match listing {
            Some(found) => found,
            None => nft.list(label, TABLE)?,
        };
        let generation = nft::generation(&nft.traffic)
            .map_err(refused(label, "read the nftables generation"))?;
        nft.transact(label, &rules.replace())?;
        let after = nft.list(label, TABLE)?;
        written.changed = usize::from(before != after);
        written.replaced = true;
        let mut replaced = Self { applied: None, led: rules.turns().cloned().collect() };
        replaced.passed(planned, generation, Some(digest(&after)));
        Ok(self.became(replaced, note, written))
    }

    fn became(&mut self, known: Self, note: impl Fn(&Applied), written: Written) -> Written {
        known.applied.iter().for_each(note);
        *self = known;
        written
    }

    /// From what is known to the planned rules, by `change` and what is left to be led elsewhere. `false`: somebody wrote meanwhile.
    fn advance(
        &mut self,
        nft: &Nft,
        label: &str,
        rules: &Ruleset,
        planned: &RulesetDigest,
        change: Option<Change>,
    ) -> Result<bool> {
        let Some(Applied { rules: old, generation, .. }) = self.applied.clone() else {
            return Ok(false);
        };
        match change {
            Some(Change::Whole(script)) => {
                nft.transact(label, &script)?;
                self.led = rules.turns().cloned().collect();
                self.passed(planned.clone(), generation, None);
                return Ok(true);
            }
            Some(Change::Parts(script)) => {
                nft.transact(label, &script)?;
                self.led = rules.turns().filter_map(|turns| self.stays(turns, &old)).collect();
                self.passed(planned.but_for_turns(&old), generation, None);
            }
            None => {}
        }
        Ok(self.lead(nft, label, rules, planned))
    }

    /// Where a chain leads after all but turns was changed.
    fn stays(&self, turns: &Arc<Turns>, old: &RulesetDigest) -> Option<Arc<Turns>> {
        match old.turns(turns.name()) {
            Some(_) => self.led(turns.name()).cloned(),
            None => Some(turns.emptied()),
        }
    }

    fn led(&self, name: &str) -> Option<&Arc<Turns>> {
        self.led.get(self.place(name).ok()?)
    }

    fn place(&self, name: &str) -> std::result::Result<usize, usize> {
        self.led.binary_search_by(|led| led.name().cmp(name))
    }

    /// Has chains lead in turn where they are planned to; all else is as planned. Whether that is done: somebody may
    /// have written meanwhile.
    fn lead(&mut self, nft: &Nft, label: &str, rules: &Ruleset, planned: &RulesetDigest) -> bool {
        let Some(applied) = &self.applied else { return false };
        let all: Vec<Led<'_>> = rules
            .led_elsewhere(&applied.rules)
            .into_iter()
            .map(|to| Led { from: self.led(to.name()), to })
            .collect();
        if all.is_empty() {
            return true;
        }
        match turns::change(&nft.traffic, applied.generation, &all) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                tracing::warn!(namespace = label, %error, "turns could not be changed; replacing all rules");
                return false;
            }
        }
        let generation = applied.generation;
        for led in all.into_iter().map(|led| Arc::clone(led.to)).collect::<Vec<_>>() {
            match self.place(led.name()) {
                Ok(at) => drop(self.led.splice(at..=at, [led])),
                Err(at) => self.led.insert(at, led),
            }
        }
        self.passed(planned.clone(), generation, None);
        true
    }

    /// Notes what was written on top of generation `before`. The number noted is the one our transaction made; if
    /// somebody wrote at the same time it is not the kernel's, and the next look reads the table.
    fn passed(&mut self, rules: RulesetDigest, before: u32, listing: Option<u64>) {
        // The kernel skips zero.
        let generation = before.wrapping_add(1).max(1);
        self.applied = Some(Applied { rules, generation, listing });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_sys::netns::NetNs;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    /// Numbers that look like chance, and are the same each time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % limit
        }
    }

    /// Services with virtual addresses, and a rule for each.
    fn ruleset(services: &BTreeMap<u64, Arc<Turns>>, other: u64) -> Ruleset {
        let mut rules = Ruleset::default();
        if services.is_empty() {
            return rules;
        }
        rules.set("learned", "type ipv4_addr; flags dynamic,timeout; timeout 5m;");
        rules.chain("other").rule(format!("tcp dport {} accept", other + 1));
        rules.chain("other").rule("update @learned { ip saddr }");
        for (id, turns) in services {
            rules.lead(turns);
            rules.nat("output").rule(format!("ip daddr 10.1.0.{id} goto {}", turns.name()));
        }
        rules
    }

    #[test]
    fn a_table_follows_its_plan_whatever_happens() {
        let nft = Nft { program: "nft".into(), traffic: Arc::default() };
        let aside = NetNs::anonymous().expect("a namespace");
        let listed = |rules: &Ruleset| {
            let list = || {
                nft.transact("aside", &rules.replace()).expect("rules");
                nft.list("aside", TABLE).expect("list")
            };
            aside.run(list).expect("inside")
        };
        let work = || {
            let chance = RefCell::new(Chance(7));
            let below = |limit| chance.borrow_mut().below(limit);
            let generation = nft::generation(&nft.traffic).expect("generation");
            let mut rules = Rules::noted(Some(Applied { generation, ..Applied::default() }));
            let noted = RefCell::new(None);
            let mut services = BTreeMap::<u64, Arc<Turns>>::new();
            let (mut turned, mut meddled) = (0, 0);
            for step in 0..150 {
                let id = below(4);
                if below(6) == 0 {
                    services.remove(&id);
                } else {
                    let most = [3, 12, 90][usize::try_from(below(3)).unwrap()];
                    let to = (0..below(most))
                        .map(|_| Ipv4Addr::new(10, 0, 0, u8::try_from(below(most)).unwrap()));
                    let before = services.get(&id);
                    let turns = Turns::new(&format!("vip-{id}"), &to.collect(), before);
                    services.insert(id, turns);
                }
                let mut other = 0;
                match below(12) {
                    0 => other = 1,
                    // Another daemon, which knows what is noted and nothing of places.
                    1 => rules = Rules::noted(noted.borrow().clone()),
                    2 => services.clear(),
                    3 => {
                        let theirs = ["flush table ip skep", "add table ip theirs"];
                        let theirs = theirs[usize::try_from(below(2)).unwrap()];
                        let theirs = format!("add table ip skep\n{theirs}");
                        nft.transact("test", &theirs).expect("meddling");
                        meddled += 1;
                    }
                    4 => {
                        let maps = nft.list("test", TABLE).expect("list");
                        let map = maps.split_once("map vip-").and_then(|(_, m)| m.split_once(' '));
                        if let Some((map, _)) = map {
                            let flush = format!("flush map ip skep vip-{map}");
                            nft.transact("test", &flush).expect("meddling");
                            meddled += 1;
                        }
                    }
                    _ => {}
                }
                let planned = ruleset(&services, other);
                let note = |applied: &Applied| *noted.borrow_mut() = Some(applied.clone());
                let programs = nft.traffic.counts().programs;
                let written = rules.write(&nft, "test", &planned, note).expect("written");
                turned +=
                    usize::from(written.changed == 1 && nft.traffic.counts().programs == programs);
                let found = nft.list("test", TABLE).expect("list");
                assert_eq!(found, listed(&planned), "{step}: {planned:?}");
                let again = rules.write(&nft, "test", &planned, note).expect("written");
                assert_eq!((again.changed, again.meddled), (0, false), "{step}");
                assert_eq!(rules.applied, *noted.borrow(), "{step}");
            }
            assert!(turned > 40 && meddled > 15, "{turned} {meddled}");
        };
        NetNs::anonymous().expect("a namespace").run(work).expect("inside");
    }
}
