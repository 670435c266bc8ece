//! Places for those who have not shown a certificate: during the handshake everybody, afterwards who came
//! without one.
//!
//! Anybody can open connections and say nothing. So an address has a share of the places, and when a
//! share or all places are taken the oldest goes: a node needs its place for milliseconds, who sits in
//! one for long is the one who can be spared. Those who show a certificate give their place back.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Most of one address. Many nodes may share one, behind address translation.
pub(super) const OF_ONE: usize = 32;

/// Most in all: each holds a descriptor.
pub(super) const IN_ALL: usize = 256;

/// Who shares a share: an IPv4 address; for IPv6 a network of 64 bits, which every host has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin(IpAddr);

impl Origin {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
            v4 => v4,
        })
    }
}

#[derive(Debug)]
struct Entry {
    id: u64,
    origin: Origin,
    away: CancellationToken,
}

#[derive(Debug, Default)]
struct Room {
    next: u64,
    /// The oldest first.
    entries: VecDeque<Entry>,
}

/// All the places of one listening socket. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers(Arc<Mutex<Room>>);

impl Strangers {
    /// A place for somebody from `address`; sends away the oldest of that address, or of all, if there
    /// is none free.
    pub(super) fn enter(&self, address: IpAddr) -> Place {
        let origin = Origin::of(address);
        let mut room = self.room();
        let same = |entry: &&Entry| entry.origin == origin;
        let spared = if room.entries.iter().filter(same).count() >= OF_ONE {
            room.entries.iter().position(|entry| entry.origin == origin)
        } else {
            (room.entries.len() >= IN_ALL).then_some(0)
        };
        if let Some(entry) = spared.and_then(|index| room.entries.remove(index)) {
            entry.away.cancel();
        }
        let id = room.next;
        room.next += 1;
        let away = CancellationToken::new();
        room.entries.push_back(Entry { id, origin, away: away.clone() });
        Place { id, away, strangers: self.clone() }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    away: CancellationToken,
    strangers: Strangers,
}

impl Place {
    /// Resolves when who sits here has to go.
    pub(super) fn sent_away(&self) -> WaitForCancellationFutureOwned {
        self.away.clone().cancelled_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.room().entries.retain(|entry| entry.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn gone(place: &Place) -> bool {
        place.away.is_cancelled()
    }

    #[test]
    fn an_address_displaces_its_own_oldest_only() {
        let strangers = Strangers::default();
        let other = strangers.enter(address("192.0.2.1"));
        let crowd: Vec<Place> =
            (0..OF_ONE + 3).map(|_| strangers.enter(address("192.0.2.2"))).collect();
        assert!(!gone(&other));
        let away: Vec<bool> = crowd.iter().map(gone).collect();
        assert!(away[..3].iter().all(|gone| *gone) && !away[3..].iter().any(|gone| *gone));
        // Places that were given back count no more.
        drop(crowd);
        assert_eq!(strangers.room().entries.len(), 1);
    }

    #[test]
    fn when_all_places_are_taken_the_oldest_goes() {
        let strangers = Strangers::default();
        let from =
            |n: usize| IpAddr::from([10, 0, u8::try_from(n / 250).unwrap(), (n % 250) as u8]);
        let crowd: Vec<Place> = (0..IN_ALL).map(|n| strangers.enter(from(n))).collect();
        assert!(!crowd.iter().any(gone));
        let late = strangers.enter(address("192.0.2.1"));
        assert!(gone(&crowd[0]) && !gone(&crowd[1]) && !gone(&late));
    }

    #[test]
    fn a_host_has_one_share_whatever_address_it_takes() {
        for (a, b, same) in [
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(Origin::of(address(a)) == Origin::of(address(b)), same, "{a} {b}");
        }
    }
}
