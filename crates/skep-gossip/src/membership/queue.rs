use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Most parts that one compound message can have.
const MAX_PARTS: usize = 255;

/// News to be repeated a limited number of times: least repeated first, newest of these first.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    items: BTreeMap<(u32, Reverse<u64>), (K, Vec<u8>)>,
    places: BTreeMap<K, (u32, Reverse<u64>)>,
    next: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), places: BTreeMap::new(), next: 0 }
    }
}

/// Room in the message that is being filled; bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Of an empty message.
    pub(crate) whole: usize,
    /// Still there.
    pub(crate) left: usize,
    /// What one part costs besides itself.
    pub(crate) overhead: usize,
    pub(crate) parts: usize,
}

impl Room {
    pub(crate) fn new(whole: usize, overhead: usize) -> Self {
        Self { whole, left: whole, overhead, parts: 0 }
    }

    pub(crate) fn put(&mut self, len: usize) -> bool {
        let cost = len + self.overhead;
        let fits = cost <= self.left && self.parts < MAX_PARTS;
        if fits {
            self.left -= cost;
            self.parts += 1;
        }
        fits
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// Adds news, which replace older ones about the same thing.
    pub(crate) fn push(&mut self, key: K, bytes: Vec<u8>) {
        self.remove(&key);
        let place = (0, Reverse(self.next));
        self.next += 1;
        self.places.insert(key.clone(), place);
        self.items.insert(place, (key, bytes));
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(place) = self.places.remove(key) {
            self.items.remove(&place);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether something was never sent.
    pub(crate) fn has_fresh(&self) -> bool {
        self.items.first_key_value().is_some_and(|((sent, _), _)| *sent == 0)
    }

    /// Takes what fits, and counts it as sent once; what was sent `limit` times is forgotten.
    pub(crate) fn take(&mut self, room: &mut Room, limit: u32) -> Vec<Vec<u8>> {
        /// No news are shorter: a full message ends the search.
        const SHORTEST: usize = 16;
        let mut places = Vec::new();
        let mut never = Vec::new();
        for (place, (_, bytes)) in &self.items {
            if room.left < room.overhead + SHORTEST {
                break;
            }
            if bytes.len() + room.overhead > room.whole {
                never.push(*place);
            } else if room.put(bytes.len()) {
                places.push(*place);
            }
        }
        for place in never {
            if let Some((key, _)) = self.items.remove(&place) {
                self.places.remove(&key);
            }
        }
        let mut taken = Vec::with_capacity(places.len());
        for place in places {
            let Some((key, bytes)) = self.items.remove(&place) else { continue };
            taken.push(bytes.clone());
            let sent = place.0 + 1;
            if sent >= limit {
                self.places.remove(&key);
            } else {
                let place = (sent, place.1);
                self.places.insert(key.clone(), place);
                self.items.insert(place, (key, bytes));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &mut Queue<u8>, whole: usize) -> Vec<u8> {
        let mut room = Room::new(whole, 2);
        queue.take(&mut room, 2).into_iter().map(|bytes| bytes[0]).collect()
    }

    #[test]
    fn least_sent_first_then_newest_and_never_more_often_than_allowed() {
        let mut queue = Queue::default();
        for key in 0..3u8 {
            queue.push(key, vec![key; 20]);
        }
        assert!(queue.has_fresh());
        assert_eq!(take(&mut queue, 44), [2, 1]);
        assert_eq!(take(&mut queue, 44), [0, 2]);
        assert!(!queue.has_fresh());
        assert_eq!(take(&mut queue, 44), [1, 0]);
        assert!(queue.is_empty());
    }

    #[test]
    fn news_replace_older_ones_and_what_never_fits_goes() {
        let mut queue = Queue::default();
        queue.push(1, vec![1; 20]);
        queue.push(1, vec![9; 20]);
        queue.push(2, vec![2; 99]);
        assert_eq!(queue.len(), 2);
        assert_eq!(take(&mut queue, 50), [9]);
        assert_eq!(queue.len(), 1);
    }
}
