//! Where connections to a virtual address are led in turn: a chain with one rule, and a map of its own that the rule
//! looks them up in. An address keeps its place while others come and go, so that a change is those places only,
//! whatever the number of all.

use super::digest::first;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Name of our table, family `ip`, in every namespace.
pub const TABLE: &str = "skep";
/// A place in the map is a number below this.
pub const PLACES: u32 = 65536;
/// Places that the smallest map has.
const FEWEST: usize = 16;

/// Addresses that connections of protocols with ports are led to, one after the other. Namespaces that have the same
/// share it: of a service with hundreds of tasks it is long.
#[derive(Debug)]
pub struct Turns {
    name: Box<str>,
    /// By place. Behind those that have turns may be some that no turn comes to: a packet may be on its way by a rule
    /// that counted more, and must find somebody who is there.
    to: Vec<Ipv4Addr>,
    /// How many have turns.
    count: usize,
    /// Places that the map can have.
    capacity: usize,
    digest: u64,
}

/// The same name and addresses, whatever the places.
impl PartialEq for Turns {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.digest) == (&other.name, other.digest)
    }
}

impl Eq for Turns {}

impl Turns {
    /// To `addresses`. Those that had a place in `before`, of the same name, keep it as far as that leaves no gaps.
    pub fn new(
        name: &str,
        addresses: &BTreeSet<Ipv4Addr>,
        before: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let digest = of(addresses);
        if let Some(before) = before.filter(|before| before.digest == digest) {
            return Arc::clone(before);
        }
        let had = before.map_or(&[][..], |before| &before.to);
        let turns = arranged(before.map_or(&[][..], |before| before.turns()), addresses);
        let count = turns.len();
        let needed = count.max(FEWEST).next_power_of_two();
        // Not made smaller at once, or one that wavers would be made anew each time; nor for one that ends.
        let kept = before.map(|before| before.capacity);
        let kept = kept.filter(|kept| (needed..=needed * 4).contains(kept) || count == 0);
        let idle = had.iter().enumerate().skip(count).filter(|_| kept.is_some());
        let somebody = |place: usize| turns.get(place.checked_rem(count)?).copied();
        let idle: Vec<Ipv4Addr> = idle
            .filter_map(|(place, had)| match addresses.contains(had) {
                true => Some(*had),
                false => somebody(place),
            })
            .collect();
        let to = [turns, idle].concat();
        Arc::new(Self { name: name.into(), to, count, capacity: kept.unwrap_or(needed), digest })
    }

    /// The same map with nothing in it.
    pub fn emptied(&self) -> Arc<Self> {
        let (name, capacity) = (self.name.clone(), self.capacity);
        Arc::new(Self { name, to: Vec::new(), count: 0, capacity, digest: Self::nowhere() })
    }

    /// Of the chain and of the map.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where to, one after the other.
    pub fn turns(&self) -> &[Ipv4Addr] {
        &self.to[..self.count]
    }

    /// What is in the map, by place.
    pub fn map(&self) -> &[Ipv4Addr] {
        &self.to
    }

    /// Places that the map can have.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Of the addresses.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The digest of no addresses.
    pub fn nowhere() -> u64 {
        of(&BTreeSet::new())
    }

    /// The map, without what is in it, as `nft` reads it.
    pub fn declare(&self, text: &mut String) {
        let (name, capacity) = (&self.name, self.capacity);
        let _ = writeln!(
            text,
            "add map ip {TABLE} {name} {{ typeof numgen inc mod {PLACES} : ip daddr; size {capacity}; }}"
        );
    }

    /// What is in the map and in the chain, as `nft` reads it.
    pub fn fill(&self, text: &mut String) {
        let (name, count) = (&self.name, self.count);
        if self.to.is_empty() {
            return;
        }
        let pairs: Vec<String> =
            self.to.iter().enumerate().map(|(place, to)| format!("{place} : {to}")).collect();
        let _ = writeln!(text, "add element ip {TABLE} {name} {{ {} }}", pairs.join(", "));
        let _ = writeln!(
            text,
            "add rule ip {TABLE} {name} meta l4proto {{ tcp, udp, sctp }} \
             dnat to numgen inc mod {count} map @{name}"
        );
    }
}

/// Addresses in an order, those that were in one before as far as possible where they were.
fn arranged(before: &[Ipv4Addr], addresses: &BTreeSet<Ipv4Addr>) -> Vec<Ipv4Addr> {
    let known: BTreeSet<Ipv4Addr> = before.iter().copied().collect();
    let mut new = addresses.difference(&known).copied();
    let mut all = before.to_vec();
    let mut place = 0;
    while let Some(address) = all.get_mut(place) {
        if addresses.contains(address) {
            place += 1;
        } else if let Some(new) = new.next() {
            *address = new;
        } else {
            all.swap_remove(place);
        }
    }
    all.extend(new);
    all
}

fn of(addresses: &BTreeSet<Ipv4Addr>) -> u64 {
    let mut hash = Sha256::new();
    addresses.iter().for_each(|address| hash.update(address.octets()));
    first(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> Ipv4Addr {
        let [high, low] = n.to_be_bytes();
        Ipv4Addr::new(10, 0, high, low)
    }

    fn turns(numbers: impl IntoIterator<Item = u16>, before: Option<&Arc<Turns>>) -> Arc<Turns> {
        Turns::new("vip", &numbers.into_iter().map(address).collect(), before)
    }

    fn numbers(all: &[Ipv4Addr]) -> Vec<u16> {
        all.iter().map(|a| u16::from_be_bytes([a.octets()[2], a.octets()[3]])).collect()
    }

    #[test]
    fn who_stays_keeps_the_place() {
        let first = turns([1, 2, 3, 4, 5], None);
        assert_eq!(numbers(first.map()), [1, 2, 3, 4, 5]);
        for (what, now, expected, idle) in [
            ("nothing", vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5], vec![]),
            ("one more", vec![0, 1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5, 0], vec![]),
            ("one less", vec![1, 3, 4, 5], vec![1, 5, 3, 4], vec![5]),
            ("one in place of another", vec![1, 2, 4, 5, 6], vec![1, 2, 6, 4, 5], vec![]),
            ("the last less", vec![1, 2, 3, 4], vec![1, 2, 3, 4], vec![1]),
            ("most less", vec![3], vec![3], vec![3, 3, 3, 3]),
            ("more than go", vec![5, 6, 7, 8, 9, 10], vec![6, 7, 8, 9, 5, 10], vec![]),
            ("all less", vec![], vec![], vec![]),
        ] {
            let now = turns(now, Some(&first));
            assert_eq!(numbers(now.turns()), expected, "{what}");
            assert_eq!(numbers(&now.map()[now.count..]), idle, "{what}");
        }
    }

    #[test]
    fn nobody_is_led_to_who_is_gone() {
        let mut rng = 1u64;
        let mut next = |below: u64| {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (rng >> 33) % below
        };
        let mut last = turns([], None);
        for step in 0..2000 {
            let most = [3, 40, 300][step / 100 % 3];
            let now: BTreeSet<u16> =
                (0..next(most)).map(|_| u16::try_from(next(most)).unwrap()).collect();
            let before = last;
            last = turns(now.iter().copied(), Some(&before));
            let led: BTreeSet<u16> = numbers(last.map()).into_iter().collect();
            assert_eq!(led, now);
            assert_eq!(last.turns().len(), now.len());
            assert!(last.map().len() <= last.capacity);
            // Who was counted before finds somebody, as long as there is anybody.
            assert!(
                last.map().len() >= before.turns().len()
                    || now.is_empty()
                    || last.capacity != before.capacity
            );
        }
    }

    #[test]
    fn they_are_told_apart_by_addresses_alone() {
        let first = turns([1, 2, 3], None);
        let second = turns([1, 2], Some(&first));
        let third = turns([1, 2, 3], Some(&second));
        let moved = turns([3, 1, 2], Some(&turns([3], None)));
        assert_ne!(first, second);
        assert_eq!(first, third);
        assert_ne!(first.turns(), moved.turns());
        assert_eq!((&first, first.digest), (&moved, moved.digest));
        assert_ne!(first, Turns::new("other", &first.to.iter().copied().collect(), None));
        assert_eq!(first.emptied(), turns([], None));
    }

    #[test]
    fn a_map_has_room_to_grow_and_to_shrink() {
        let mut last = turns(0..1, None);
        for (count, capacity) in [
            (16, 16),
            (17, 32),
            (100, 128),
            (33, 128),
            (32, 128),
            (31, 128),
            (16, 16),
            (600, 1024),
            (0, 1024),
        ] {
            last = turns(0..count, Some(&last));
            assert_eq!(last.capacity, capacity, "{count}");
        }
    }
}
