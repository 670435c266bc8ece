use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_types::{NodeId, SessionId};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// Registrations of one node allowed within [`RATE_WINDOW`].
const RATE_LIMIT: usize = 3;
const RATE_WINDOW: Duration = Duration::from_secs(8);

/// Why a call under a session was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// Another session took its place, or it never was: open a new one. `InvalidArgument`.
    #[error("session invalid")]
    Invalid,
    /// This leader has no session of the node at all. `NotFound`.
    #[error("node not registered")]
    NotRegistered,
    /// `Unavailable`.
    #[error("node registering too often: more than {RATE_LIMIT} times in {} seconds; another host may have a copy of its state", RATE_WINDOW.as_secs())]
    TooOften,
}

/// The sessions of all nodes with this leader. Clones share them.
#[derive(Clone)]
pub(crate) struct Sessions {
    inner: Arc<Mutex<HashMap<NodeId, Entry>>>,
}

struct Entry {
    /// `None`: the node is known from before this leader and has not come back yet.
    session: Option<Open>,
    deadline: Instant,
    /// Times of recent registrations, oldest first.
    registered: Vec<Instant>,
}

struct Open {
    id: SessionId,
    ended: CancellationToken,
}

/// A session just opened.
pub(crate) struct Opened {
    pub id: SessionId,
    /// Cancelled when the session is replaced, expires or the node is told to leave.
    pub ended: CancellationToken,
}

impl Sessions {
    pub fn new() -> Self {
        Self { inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Entry>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets every session; streams under them end.
    pub fn clear(&self) {
        for (_, entry) in self.lock().drain() {
            entry.end();
        }
    }

    /// Expects a node that was alive under the last leader to register until `deadline`.
    pub fn expect(&self, node: NodeId, deadline: Instant) {
        let entry = || Entry { session: None, deadline, registered: Vec::new() };
        self.lock().entry(node).or_insert_with(entry);
    }

    /// Opens a session, which lasts for `limit` without a beat. A known `wanted` id is kept, else `fresh`
    /// is its id; what was open before ends.
    pub fn open(
        &self,
        node: &NodeId,
        wanted: &str,
        fresh: SessionId,
        now: Instant,
        limit: Duration,
    ) -> Result<Opened, SessionError> {
        let mut inner = self.lock();
        let entry = inner.entry(node.clone()).or_insert_with(|| Entry {
            session: None,
            deadline: now,
            registered: Vec::new(),
        });
        entry.registered.retain(|at| now.duration_since(*at) < RATE_WINDOW);
        if entry.registered.len() >= RATE_LIMIT {
            return Err(SessionError::TooOften);
        }
        let keep = entry.session.as_ref().is_some_and(|open| open.id.as_str() == wanted);
        // A session that goes on with its id describes its node anew; it is no new registration.
        if !keep {
            entry.registered.push(now);
        }
        let id = if keep { SessionId::from(wanted) } else { fresh };
        let ended = CancellationToken::new();
        let old = entry.session.replace(Open { id: id.clone(), ended: ended.clone() });
        if let Some(old) = old {
            old.ended.cancel();
        }
        entry.deadline = now + limit;
        Ok(Opened { id, ended })
    }

    /// Checks that `session` is the node's current one; answers when it ends.
    pub fn check(&self, node: &NodeId, session: &str) -> Result<CancellationToken, SessionError> {
        let inner = self.lock();
        let open = inner.get(node).and_then(|entry| entry.session.as_ref());
        let open = open.ok_or(SessionError::NotRegistered)?;
        if open.id.as_str() != session {
            return Err(SessionError::Invalid);
        }
        Ok(open.ended.clone())
    }

    /// Whether the node has a session now.
    pub fn is_open(&self, node: &NodeId) -> bool {
        self.lock().get(node).is_some_and(|entry| entry.session.is_some())
    }

    /// A beat: the next one is expected within `limit`.
    pub fn beat(
        &self,
        node: &NodeId,
        session: &str,
        now: Instant,
        limit: Duration,
    ) -> Result<(), SessionError> {
        self.check(node, session)?;
        if let Some(entry) = self.lock().get_mut(node) {
            entry.deadline = now + limit;
        }
        Ok(())
    }

    /// Ends the session of a node that was removed from the swarm.
    pub fn end(&self, node: &NodeId) {
        if let Some(entry) = self.lock().remove(node) {
            entry.end();
        }
    }

    /// Takes out every node whose deadline has passed.
    pub fn expire(&self, now: Instant) -> Vec<NodeId> {
        let mut inner = self.lock();
        let late: Vec<NodeId> =
            inner.iter().filter(|(_, e)| e.deadline <= now).map(|(id, _)| id.clone()).collect();
        for id in &late {
            if let Some(entry) = inner.remove(id) {
                entry.end();
            }
        }
        late
    }

    /// Gives every node this much more time.
    pub fn excuse(&self, by: Duration) {
        for entry in self.lock().values_mut() {
            entry.deadline += by;
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.lock().values().map(|entry| entry.deadline).min()
    }
}

impl Entry {
    fn end(self) {
        if let Some(open) = self.session {
            open.ended.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(6);

    fn open(s: &Sessions, wanted: &str, fresh: &str, at: Instant) -> Result<Opened, SessionError> {
        s.open(&NodeId::from("n"), wanted, SessionId::from(fresh), at, LIMIT)
    }

    #[test]
    fn a_known_id_is_kept_and_a_new_one_ends_the_old() {
        let s = Sessions::new();
        let t = Instant::now();
        let first = open(&s, "", "a", t).unwrap();
        assert_eq!(first.id.as_str(), "a");
        let again = open(&s, "a", "b", t).unwrap();
        assert_eq!(again.id.as_str(), "a");
        assert!(first.ended.is_cancelled());
        let other = open(&s, "unknown", "c", t).unwrap();
        assert_eq!(other.id.as_str(), "c");
        assert!(again.ended.is_cancelled());
        let node = NodeId::from("n");
        assert_eq!(s.check(&node, "a").unwrap_err(), SessionError::Invalid);
        assert!(s.check(&node, "c").is_ok());
        assert_eq!(s.check(&NodeId::from("m"), "c").unwrap_err(), SessionError::NotRegistered);
    }

    #[test]
    fn silence_expires_a_node() {
        let s = Sessions::new();
        let t = Instant::now();
        let opened = open(&s, "", "a", t).unwrap();
        s.beat(&NodeId::from("n"), "a", t + LIMIT / 2, LIMIT).unwrap();
        assert!(s.expire(t + LIMIT).is_empty());
        s.excuse(LIMIT);
        let end = t + LIMIT / 2 + LIMIT * 2;
        assert!(s.expire(end - Duration::from_millis(1)).is_empty());
        assert_eq!(s.expire(end), [NodeId::from("n")]);
        assert!(opened.ended.is_cancelled());
    }

    #[test]
    fn a_fourth_registration_within_eight_seconds_waits() {
        let s = Sessions::new();
        let t = Instant::now();
        for id in ["a", "b", "c"] {
            open(&s, "", id, t).unwrap();
        }
        assert_eq!(open(&s, "", "d", t).err(), Some(SessionError::TooOften));
        assert!(open(&s, "", "d", t + RATE_WINDOW).is_ok());
    }
}
