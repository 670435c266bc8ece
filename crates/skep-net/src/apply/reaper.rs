//! Removal of cables whose container is gone, off everybody's way: the kernel waits
//! tens of milliseconds for each removed link, once for many removed together.
//!
//! Before a port gets here it forwards nothing any more and the bridge has forgotten
//! what was behind it, so its addresses can be given to somebody else at once.

use super::links;
use super::netlink::Netlink;
use super::traffic::Traffic;
use crate::plan::NsName;
use crate::state::lock;
use skep_sys::netns::NetNs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A port to remove.
struct Doomed {
    name: NsName,
    ns: Arc<NetNs>,
    index: u32,
}

/// Ports handed over and not yet gone.
type Pending = Arc<Mutex<BTreeSet<(NsName, u32)>>>;

/// The thread that removes.
pub struct Reaper {
    inbox: Option<Sender<Doomed>>,
    pending: Pending,
    thread: Option<JoinHandle<()>>,
}

impl Reaper {
    /// Starts it.
    pub fn start(traffic: Arc<Traffic>) -> std::io::Result<Self> {
        let (inbox, queue) = mpsc::channel();
        let pending = Pending::default();
        let shared = Arc::clone(&pending);
        let thread = thread::Builder::new()
            .name("skep-net-reaper".to_owned())
            .spawn(move || reap(&queue, &shared, &traffic))?;
        Ok(Self { inbox: Some(inbox), pending, thread: Some(thread) })
    }

    /// Whether a port is on its way out already.
    pub fn has(&self, name: &NsName, index: u32) -> bool {
        lock(&self.pending).contains(&(name.clone(), index))
    }

    /// Hands a port over.
    pub fn take(&self, name: &NsName, ns: &Arc<NetNs>, index: u32) {
        lock(&self.pending).insert((name.clone(), index));
        if let Some(inbox) = &self.inbox {
            // The thread lives as long as this handle.
            let _ = inbox.send(Doomed { name: name.clone(), ns: Arc::clone(ns), index });
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that removes links had panicked");
        }
    }
}

fn reap(queue: &Receiver<Doomed>, pending: &Pending, traffic: &Arc<Traffic>) {
    while let Ok(first) = queue.recv() {
        let mut batches: BTreeMap<NsName, (Arc<NetNs>, Vec<u32>)> = BTreeMap::new();
        for doomed in std::iter::once(first).chain(queue.try_iter()) {
            batches
                .entry(doomed.name)
                .or_insert_with(|| (doomed.ns, Vec::new()))
                .1
                .push(doomed.index);
        }
        for (name, (ns, indexes)) in batches {
            let label = name.to_string();
            let removed = match ns.run(|| Netlink::open(traffic)) {
                Ok(Ok(mut netlink)) => links::remove_together(&mut netlink, &label, &indexes),
                Ok(Err(source)) | Err(source) => {
                    Err(super::refused(&label, "open netlink")(source))
                }
            };
            if let Err(error) = removed {
                // No longer pending, they are found again by the next look.
                tracing::warn!(
                    namespace = label,
                    error = &error as &dyn std::error::Error,
                    "cannot remove links"
                );
            }
            let mut pending = lock(pending);
            for index in indexes {
                pending.remove(&(name.clone(), index));
            }
        }
    }
}
