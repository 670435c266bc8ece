use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use skep_agent::Executor;
use skep_manager::{Control, HostRoutes};
use skep_types::{NodeId, Repeated};
use tokio::sync::Mutex;

use super::member::Member;
use super::slot::Slot;
use crate::address::{Resolver, host_links};
use crate::state::{Folder, Phase, State};
use crate::{AddressError, Host, NodeError, NotManager};

/// Pause before a membership that could not be started is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// A membership that lasted this long has worked: what ends it then is a new trouble.
const LASTED: Duration = Duration::from_secs(60);

/// What the host gives to its membership.
pub struct NodeConfig {
    /// The daemon's data root; everything of ours is under `swarm/` in it.
    pub data_root: PathBuf,
    /// Default of `--advertise-addr`, from the daemon's configuration; empty for none.
    pub default_advertise_addr: String,
    /// True for links made by this daemon (bridges, gateways), whose addresses are never advertised.
    pub is_own_interface: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Where this host's networks and routes lead to already: subnets of a swarm that it manages go
    /// round that.
    pub host_routes: HostRoutes,
    /// What runs tasks.
    pub executor: Arc<dyn Executor>,
    /// What else on this host has to know of its membership.
    pub host: Arc<dyn Host>,
}

/// This host's membership of a swarm.
///
/// Changes of membership are serialised and survive `kill -9` at each moment: what was acknowledged
/// stays, what was not is undone at the next start. Reads never wait for changes.
pub struct SwarmNode {
    pub(super) config: NodeConfig,
    pub(super) folder: Folder,
    /// Held during a change of membership.
    pub(super) change: Mutex<()>,
    slot: RwLock<Slot>,
    /// Starts that fail, and managers that end by themselves.
    trouble: SyncMutex<Repeated>,
    /// Numbers the tries that are put off: only the last one counts.
    tries: AtomicU64,
    this: Weak<Self>,
}

impl SwarmNode {
    /// Resumes the membership that the disk describes; a swarm that cannot be reached or opened is
    /// not an error here but shows in [`SwarmNode::info`].
    ///
    /// # Errors
    /// The state folder cannot be read, or what a crash left half done cannot be removed.
    pub async fn start(config: NodeConfig) -> Result<Arc<Self>, NodeError> {
        let folder = Folder::new(&config.data_root);
        let node = Arc::new_cyclic(|this| Self {
            config,
            folder,
            change: Mutex::new(()),
            slot: RwLock::new(Slot::Inactive),
            trouble: SyncMutex::default(),
            tries: AtomicU64::new(0),
            this: this.clone(),
        });
        let change = node.change.lock().await;
        node.resume(None).await?;
        drop(change);
        Ok(node)
    }

    /// Starts the membership that is on disk, or removes what is left of one. Failures show in the slot.
    pub(super) async fn resume(&self, unlock_key: Option<Vec<u8>>) -> Result<(), NodeError> {
        let state = match self.on_disk(Folder::load).await {
            Ok(Some(state)) if state.phase == Phase::Member => state,
            // Nobody was told that it was done; or it was to go anyway.
            Ok(Some(State { phase, .. })) => {
                tracing::warn!(?phase, "removing what an interrupted change of membership left");
                self.erase().await?;
                self.put(Slot::Inactive);
                return Ok(());
            }
            Ok(None) => {
                self.on_disk(Folder::clear).await?;
                self.put(Slot::Inactive);
                return Ok(());
            }
            // Containers do not depend on it, and it may be repaired.
            Err(error) => {
                self.failed(None, skep_types::report(&error), unlock_key);
                return Ok(());
            }
        };
        match Member::resume(self, state.clone(), unlock_key.clone()).await {
            Ok(member) => self.activate(member),
            Err(NodeError::NotManager(NotManager::Locked)) => self.put(Slot::Locked(state)),
            Err(error) => self.failed(Some(state), skep_types::report(&error), unlock_key),
        }
        Ok(())
    }

    /// Puts a member in its place. Should its manager end by itself (a failing disk), it is stopped and
    /// started anew.
    pub(super) fn activate(&self, member: Member) {
        let member = Arc::new(member);
        let (watched, node) = (Arc::downgrade(&member), self.this.clone());
        if let Some(mut failures) = member.failures() {
            let started = Instant::now();
            tokio::spawn(async move {
                let reason = match failures.wait_for(Option::is_some).await.as_deref() {
                    Ok(Some(reason)) => reason.clone(),
                    // It was stopped.
                    _ => return,
                };
                let Some(node) = node.upgrade() else { return };
                let _change = node.change.lock().await;
                let Some(member) = watched.upgrade() else { return };
                if !matches!(node.slot(), Slot::Active(now) if Arc::ptr_eq(&now, &member)) {
                    return;
                }
                let unlock_key = member.unlock_key().await;
                member.stop().await;
                if started.elapsed() >= LASTED {
                    node.trouble().succeeded();
                }
                node.failed(Some(member.state.clone()), reason, unlock_key);
            });
        }
        self.put(Slot::Active(member));
    }

    /// Notes that there is a membership that does not work, and tries again later.
    pub(super) fn failed(&self, state: Option<State>, error: String, unlock_key: Option<Vec<u8>>) {
        if let Some(failures) = self.trouble().failed(Instant::now(), &error) {
            tracing::error!(error, failures, "this node's swarm membership does not work");
        }
        self.put(Slot::Failed { state, error });
        self.retry_later(unlock_key);
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Repeated> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to start a membership that failed (a port in use, a disk that was full) until it works
    /// or is left.
    fn retry_later(&self, unlock_key: Option<Vec<u8>>) {
        let node = self.this.clone();
        // Changes of the number, like those of the slot, are made with the change lock held.
        let this_try = self.tries.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::spawn(async move {
            tokio::time::sleep(RETRY_PAUSE).await;
            let Some(node) = node.upgrade() else { return };
            let _change = node.change.lock().await;
            if node.tries.load(Ordering::Relaxed) != this_try {
                return;
            }
            if let Slot::Failed { state, .. } = node.slot()
                && let Err(error) = node.resume(unlock_key.clone()).await
            {
                node.failed(state, skep_types::report(&error), unlock_key);
            }
        });
    }

    /// Removes everything of a membership: on the host first, then on disk.
    pub(super) async fn erase(&self) -> Result<(), NodeError> {
        let left = self.config.host.left().await;
        left.map_err(|source| NodeError::Internal {
            action: "remove the swarm's tasks from this host",
            source,
        })?;
        self.on_disk(Folder::clear).await
    }

    /// Runs `work` on the state folder where it may block.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        done.map_err(|e| NodeError::Internal {
            action: "work on the swarm's state folder",
            source: e.into(),
        })?
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn put(&self, slot: Slot) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = slot;
    }

    /// Address questions for this host as it is now.
    pub(super) fn resolver(&self) -> Result<Resolver, AddressError> {
        Ok(Resolver::new(host_links(self.config.is_own_interface.as_ref())?))
    }

    /// Counters of this membership as text (Prometheus exposition format 0.0.4); empty without one.
    pub fn metrics(&self) -> String {
        let Slot::Active(member) = self.slot() else { return String::new() };
        let name = "skep_swarm_handshakes_refused_total";
        format!(
            "# HELP {name} Connections to the remote API that did not get through the TLS handshake.\n\
             # TYPE {name} counter\n{name} {}\n",
            member.tls.refused()
        )
    }

    /// This host's id in the swarm.
    pub fn node_id(&self) -> Option<NodeId> {
        match self.slot() {
            Slot::Active(member) => Some(member.node_id().clone()),
            _ => None,
        }
    }

    /// Whether this host is in a swarm, whatever its state.
    pub fn is_member(&self) -> bool {
        !matches!(self.slot(), Slot::Inactive | Slot::Pending)
    }

    /// The control API, on a manager.
    ///
    /// # Errors
    /// Why there is none, in Docker's words.
    pub fn control(&self) -> Result<Control, NotManager> {
        match self.slot() {
            Slot::Inactive | Slot::Pending => Err(NotManager::Inactive),
            Slot::Failed { error, .. } => Err(NotManager::Failed(error)),
            Slot::Locked(_) => Err(NotManager::Locked),
            Slot::Active(member) => member.control(),
        }
    }

    /// Opens a locked manager with `SWMKEY-1-…`.
    ///
    /// # Errors
    /// The node is not locked, or the key does not fit; it stays locked.
    pub async fn unlock(&self, key: &str) -> Result<(), NodeError> {
        let _change = self.change.lock().await;
        match self.slot() {
            Slot::Locked(_) => {}
            Slot::Inactive | Slot::Pending => return Err(NotManager::Inactive.into()),
            Slot::Active(_) | Slot::Failed { .. } => return Err(NodeError::NotLocked),
        }
        let key = skep_pki::parse_unlock_key(key.trim()).map_err(|_| NodeError::WrongUnlockKey)?;
        self.resume(Some(key)).await?;
        match self.slot() {
            Slot::Locked(_) => Err(NodeError::WrongUnlockKey),
            _ => Ok(()),
        }
    }

    /// Stops manager and agent; containers go on running. Resumed by the next [`SwarmNode::start`].
    pub async fn shutdown(&self) {
        let _change = self.change.lock().await;
        if let Slot::Active(member) = self.slot() {
            member.stop().await;
        }
        self.put(Slot::Inactive);
    }
}
