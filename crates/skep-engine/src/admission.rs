//! How many containers are worked on at a time.
//!
//! Setting a container up is short work of many processes, and so is clearing up after one. Begun all
//! at once, hundreds of them finish late together: they queue for the kernel's locks, hold memory and
//! descriptors meanwhile, and each step takes so long that limits of time are exceeded which mean the
//! step and not the queue. So each waits for its turn here, before any limit begins to count. The
//! order is that of asking; starts and ends do not wait for each other, so that a full host can
//! always be emptied.
//!
//! Whoever waits may give up: its place is then free at once. A start that waits holds no lock, and who waits
//! for a lock holds no turn ([`Engine::admit`](crate::Engine)): the lock may be that of a start which waits for
//! a file server. A start gives its turn back for such a wait and gets in line again after it, with its lock.
//! An end holds its container's lock and then takes a turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Starts worked on at a time for each processor. A start waits for the disk, for processes and most
/// of all for the network room, which brings all that have come up to its round into force together:
/// fewer at a time means more rounds.
const STARTS_PER_CORE: usize = 8;
/// The same for ends and removals, which wait more and compute less.
const ENDS_PER_CORE: usize = 8;

/// Whose turn it is on this host.
#[derive(Debug)]
pub struct Admission {
    starts: Arc<Semaphore>,
    ends: Arc<Semaphore>,
}

/// A turn; dropping it lets the next one begin.
#[derive(Debug)]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// As many as this host's processors can work on.
    pub fn of_host() -> Self {
        Self::of(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn of(cores: usize) -> Self {
        Self {
            starts: Arc::new(Semaphore::new(cores * STARTS_PER_CORE)),
            ends: Arc::new(Semaphore::new(cores * ENDS_PER_CORE)),
        }
    }

    /// A turn to make or start a container. Cancel safe: who is dropped leaves the queue.
    pub async fn start(&self) -> Turn {
        turn(&self.starts).await
    }

    /// A turn to clear up after a container or remove it. Cancel safe.
    pub async fn end(&self) -> Turn {
        turn(&self.ends).await
    }
}

async fn turn(queue: &Arc<Semaphore>) -> Turn {
    // Refused only by a queue that was closed, which nobody does.
    Turn { _permit: Arc::clone(queue).acquire_owned().await.ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn the_first_to_ask_is_the_first_to_begin() {
        let queue = Admission::of(1);
        let mut at_work = Vec::new();
        while let Some(turn) = queue.start().now_or_never() {
            at_work.push(turn);
        }
        assert_eq!(at_work.len(), STARTS_PER_CORE);
        // Ends do not wait for starts.
        assert!(queue.end().now_or_never().is_some());

        let mut first = Box::pin(queue.start());
        let mut second = Box::pin(queue.start());
        let mut third = Box::pin(queue.start());
        for waiting in [&mut first, &mut second, &mut third] {
            assert!(waiting.now_or_never().is_none());
        }
        at_work.pop();
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        // Whoever gives up makes room for the next.
        drop(first);
        let turn = (&mut second).now_or_never();
        assert!(turn.is_some() && (&mut third).now_or_never().is_none());
        drop(turn);
        assert!(third.now_or_never().is_some());
    }
}
