//! Taking over what an earlier daemon left: containers that run, that ended meanwhile, that were
//! half-made or half-removed.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use bollard_stubs::models::RestartPolicyNameEnum as Policy;
use futures::StreamExt;
use skep_container::{ControlError, Handle, Status};
use skep_net::{SandboxAdoption, SandboxId};
use skep_sys::files;

use super::cell::Container;
use super::damaged;
use super::end::{Again, restart_input, wants_restart};
use super::mounts::MountKind;
use super::reach::{Alive, Found, STATE_LIMIT, unseen_end};
use super::record::{self, Record};
use super::subpath;
use super::watch::{HealthStatus, Phase};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::util;

/// How many containers are settled at a time.
const AT_ONCE: usize = 16;

/// What is below the containers' folder.
#[derive(Default)]
pub(crate) struct Loaded {
    whole: Vec<Arc<Container>>,
    /// Those whose record cannot be read.
    damaged: Vec<Arc<Container>>,
    /// Those that got another name than their record says.
    renamed: Vec<Arc<Container>>,
    /// Every folder's name. What belongs to one of them is nobody else's to remove.
    known: HashSet<String>,
}

impl Engine {
    /// Loads all containers, as the last daemon knew them.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub(crate) async fn load(&self) -> Result<Loaded> {
        let mut loaded = {
            let this = self.clone();
            util::blocking(move || this.load_all()).await?
        };
        // Who of two took a name that was known to be taken did so later: it stays with the younger one.
        loaded.whole.sort_by_key(|c| std::cmp::Reverse(c.read(|r| r.created)));
        for c in &loaded.whole {
            if self.settle_name(c) {
                loaded.renamed.push(c.clone());
            }
            self.inner.containers.insert(c.clone());
            let running = c.phase().is_running();
            for entry in c.read(|r| r.mounts.clone()).iter().filter(|m| m.kind == MountKind::Volume)
            {
                self.inner.volumes.adopt(&entry.name, &c.id, running);
            }
        }
        for c in &loaded.damaged {
            self.insert_damaged(c);
        }
        Ok(loaded)
    }

    /// Brings record and reality together.
    pub(crate) async fn adopt_all(&self, loaded: Loaded) {
        let Loaded { whole: loaded, damaged, renamed, known } = loaded;
        self.inner.net.bring_up().await;
        self.remove_strays(known).await;
        {
            let this = self.clone();
            util::blocking(move || subpath::remove_leftovers(&this.inner.config)).await;
        }
        let mut alive = Vec::new();
        let mut unreached = Vec::new();
        let mut ended = Vec::new();
        let mut idle = Vec::new();
        let found = futures::future::join_all(loaded.iter().map(|c| self.find_out(c))).await;
        for (c, found) in loaded.iter().zip(found) {
            match found {
                Some(Found::Alive(found)) => alive.push((c.clone(), *found)),
                Some(Found::Unreached(reason)) => unreached.push((c.clone(), reason)),
                Some(Found::Ended(handle, status)) => ended.push((c.clone(), handle, status)),
                Some(Found::Unstarted) | None => idle.push(c.clone()),
            }
        }
        // Once it is known which containers run.
        self.sweep_shims().await;
        if let Err(error) = self.adopt_network(&alive, &unreached, &damaged).await {
            // Its loop goes on trying; a container with half a network is better than none.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "could not take over the network of all containers"
            );
        }
        for c in &renamed {
            if let Err(error) = self.rename_locked(c, &c.name()).await {
                tracing::warn!(
                    container = c.id,
                    error = &error as &dyn std::error::Error,
                    "could not store a container's new name"
                );
            }
        }
        for (c, found) in alive {
            self.adopt_running(&c, found);
        }
        for (c, reason) in unreached {
            self.keep_unreached(&c, reason);
        }
        for (c, handle, status) in ended {
            let this = self.clone();
            c.live(|l| l.handle = handle.map(|h| *h));
            // In the background: a daemon that comes up with many dead containers serves meanwhile.
            tokio::spawn(async move {
                let remove = {
                    let _op = c.op.lock().await;
                    let _turn = this.inner.admission.end().await;
                    let stopped = c.read(|r| r.stopped_by_user);
                    c.live(|l| l.stopping = stopped);
                    this.clear_up(&c, status, Again::AtStart).await
                };
                if remove && let Err(error) = this.remove_container(&c, true, true).await {
                    tracing::warn!(
                        container = c.id,
                        error = &error as &dyn std::error::Error,
                        "could not remove an ended container"
                    );
                }
            });
        }
        futures::stream::iter(idle)
            .for_each_concurrent(AT_ONCE, |c| async move { self.settle_idle(&c).await })
            .await;
        tracing::info!(containers = loaded.len(), "containers adopted");
    }

    /// Reads every record, and removes what an earlier daemon was making or removing.
    fn load_all(&self) -> Result<Loaded> {
        let root = self.inner.config.containers_dir();
        let mut all = Loaded::default();
        for entry in std::fs::read_dir(&root).map_err(EngineError::file("read", &root))? {
            let entry = entry.map_err(EngineError::file("read", &root))?;
            let (dir, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy().into_owned();
            // What cannot be looked at is not gone: what belongs to it stays.
            all.known.insert(name.clone());
            if std::fs::metadata(&dir).is_ok_and(|meta| !meta.is_dir()) {
                continue;
            }
            if name.starts_with(record::MAKING) || name.starts_with(record::REMOVED) {
                match files::remove_tree(&dir) {
                    Ok(()) => {
                        tracing::info!(path = %dir.display(), "removed a container that was half-made or half-removed")
                    }
                    Err(error) => {
                        tracing::warn!(path = %dir.display(), %error, "could not remove a half-made or half-removed container")
                    }
                }
                continue;
            }
            match Record::load(&dir) {
                Ok(record) => {
                    // Of records, which are replaced here. A damaged container's may be of use to its user,
                    // and other folders are not ours.
                    if let Err(error) = files::remove_leftovers(&dir) {
                        tracing::warn!(path = %dir.display(), %error, "could not remove what a crash left");
                    }
                    all.whole.push(Container::new(record, dir));
                }
                Err(error) => match damaged::container(&dir, &error) {
                    Some(c) => all.damaged.push(c),
                    None => tracing::warn!(path = %dir.display(), "this folder is no container's"),
                },
            }
        }
        Ok(all)
    }

    /// Removes root file systems, shared memory and bundles of which there is no container's folder.
    async fn remove_strays(&self, known: HashSet<String>) {
        let bundles = self.inner.config.bundles_dir();
        let strays = names_in(&bundles).into_iter().filter(|id| !known.contains(id));
        for id in strays {
            let bundle = bundles.join(&id);
            match self.inner.runtime.clean_up(&id, &bundle).await {
                Ok(()) => remove_dir(&bundle),
                Err(error) => {
                    tracing::warn!(
                        container = id,
                        error = &error as &dyn std::error::Error,
                        "could not remove a left bundle"
                    );
                }
            }
        }
        let this = self.clone();
        util::blocking(move || {
            for id in names_in(&this.shared_shms()).into_iter().filter(|id| !known.contains(id)) {
                this.take_shared_shm(&id);
            }
            let images = &this.inner.images;
            for id in images.rw_layers().into_iter().filter(|id| !known.contains(id)) {
                if let Err(error) = images.remove_rw(&id) {
                    tracing::warn!(
                        container = id,
                        error = &error as &dyn std::error::Error,
                        "could not remove a left root file system"
                    );
                }
            }
        })
        .await;
    }

    /// What has become of a container. `None` when it did not run, whose remains are cleared away.
    async fn find_out(&self, c: &Arc<Container>) -> Option<Found> {
        let found = match self.ask_shim(c).await {
            // The record says more than a shim that was only made.
            Found::Unstarted if c.phase().is_running() => Found::Ended(None, unseen_end()),
            found => found,
        };
        self.make_up_for(c, &found).await;
        if c.phase().is_running() {
            return Some(found);
        }
        // A crash in the middle of a start: the shim may be there, the record knows nothing of it.
        self.take_down_unfinished(c).await;
        None
    }

    /// Makes up for what did not reach the record, because the disk was full or the daemon was killed: what
    /// runs was started, and goes on. What the shim and the network say of it is newer than any record, which
    /// may be that of an earlier run.
    async fn make_up_for(&self, c: &Arc<Container>, found: &Found) {
        let known = c.read(|r| r.state.clone());
        let recorded = known.phase.is_running();
        let mut state = known.clone();
        match found {
            _ if matches!(known.phase, Phase::Removing | Phase::Dead) => return,
            Found::Alive(found) => {
                state.phase = match found.status {
                    Status::Paused => Phase::Paused,
                    _ => Phase::Running,
                };
                state.pid = found.pid.unwrap_or(0);
                let recorded = known.started_at.filter(|_| recorded);
                state.started_at = found.started_at.or(recorded).or_else(|| Some(util::now()));
            }
            Found::Unreached(_) => {
                state.pid = c.recorded_pid().unwrap_or(0);
                if !recorded {
                    state.phase = Phase::Running;
                    state.started_at = Some(util::now());
                }
            }
            // Not one that the record has seen, and whose remains could not be removed.
            Found::Ended(Some(_), exit)
                if !recorded && known.finished_at.is_none_or(|at| exit.finished_at > at) =>
            {
                state.phase = Phase::Running;
                state.started_at = Some(util::now());
            }
            Found::Ended(..) | Found::Unstarted => return,
        }
        if let Some((sandbox, _)) = self.inner.net.sandbox_of(&c.id) {
            state.sandbox = Some(sandbox.to_string());
        }
        if !recorded || state.started_at != known.started_at {
            state.error.clear();
            (state.exit_code, state.oom_killed) = (0, false);
        }
        if state == known {
            return;
        }
        tracing::info!(
            container = c.id,
            name = c.name(),
            from = known.phase.as_str(),
            to = state.phase.as_str(),
            "a container runs of which its record says something else"
        );
        c.change(|r| r.state = state);
        for volume in c.read(Record::volumes) {
            self.inner.volumes.adopt(&volume, &c.id, true);
        }
        c.save_or_warn().await;
    }

    /// Tells the network room which sandboxes live on; all others go.
    async fn adopt_network(
        &self,
        alive: &[(Arc<Container>, Alive)],
        unreached: &[(Arc<Container>, String)],
        damaged: &[Arc<Container>],
    ) -> Result<()> {
        let damaged = futures::future::join_all(damaged.iter().map(|c| async move {
            self.find_sandbox(c).await.map(|(id, handle)| (c, id, handle))
        }));
        let damaged = damaged.await.into_iter().flatten();
        // Whoever holds the sockets of one that cannot be reached, the network room makes others.
        let alive = alive.iter().map(|(c, found)| (c, Some(found.handle.clone())));
        let alive = alive.chain(unreached.iter().map(|(c, _)| (c, None)));
        let alive = alive.filter_map(|(c, handle)| {
            let id = c.read(|r| r.state.sandbox.clone())?;
            Some((c, SandboxId::new(id), handle))
        });
        let adoptions = alive.chain(damaged).map(|(c, id, handle)| async move {
            let dns_sockets = match handle {
                Some(handle) => match fetch_sockets(c, &handle).await {
                    Ok(sockets) => sockets.into_iter().collect(),
                    Err(error) => {
                        tracing::warn!(
                            container = c.id,
                            error = &error as &dyn std::error::Error,
                            "the shim holds no resolver sockets"
                        );
                        Vec::new()
                    }
                },
                None => Vec::new(),
            };
            SandboxAdoption { id, dns_sockets }
        });
        let adoptions = futures::future::join_all(adoptions).await;
        for missing in self.inner.net.adopt(adoptions).await? {
            tracing::warn!(
                sandbox = missing.as_str(),
                "the network of a running container is not known any more"
            );
        }
        Ok(())
    }

    /// Goes on with a running container as if nothing had happened.
    pub(super) fn adopt_running(&self, c: &Arc<Container>, found: Alive) {
        let Alive { handle, status, pid, .. } = found;
        let phase = if status == Status::Paused { Phase::Paused } else { Phase::Running };
        let health = self.has_health_check(c);
        let run = c.live(|l| {
            l.handle = Some(handle.clone());
            l.unreached = None;
            l.run += 1;
            if health {
                l.health.status = HealthStatus::Starting;
            }
            l.run
        });
        c.change(|r| {
            r.state.phase = phase;
            r.state.pid = pid.unwrap_or(0);
        });
        c.tell(|g| g.health = if health { HealthStatus::Starting } else { HealthStatus::None });
        tracing::info!(container = c.id, name = c.name(), pid, "container adopted");
        let sandbox = c.read(|r| r.state.sandbox.clone()).map(SandboxId::new);
        self.watch_end(c, handle.clone(), run);
        self.hold_resolver(c, &handle, sandbox);
        if health {
            self.begin_health_checks(c);
        }
    }

    /// A container that did not run: its policy may want it to, after a host's restart for example.
    async fn settle_idle(&self, c: &Arc<Container>) {
        c.change(|r| r.state.sandbox = None);
        self.forget_grants(c);
        let record = c.record();
        match record.state.phase {
            Phase::Removing | Phase::Dead => {
                c.change(|r| r.state.phase = Phase::Dead);
                if let Err(error) = self.remove_container(c, true, false).await {
                    tracing::warn!(
                        container = c.id,
                        error = &error as &dyn std::error::Error,
                        "could not finish a removal"
                    );
                }
            }
            Phase::Restarting => self.restart_after(c, std::time::Duration::ZERO, Again::AtStart),
            Phase::Exited => {
                if record.auto_remove() {
                    if let Err(error) = self.remove_container(c, true, true).await {
                        tracing::warn!(
                            container = c.id,
                            error = &error as &dyn std::error::Error,
                            "could not remove an ended container"
                        );
                    }
                    return;
                }
                // `always` means also after a manual stop, once the daemon starts anew.
                let input = restart_input(&record, record.state.exit_code, false);
                let again = match input.policy {
                    Policy::ALWAYS => true,
                    Policy::UNLESS_STOPPED => !record.stopped_by_user,
                    _ => false,
                };
                if again && wants_restart(&input) {
                    c.change(|r| r.state.phase = Phase::Restarting);
                    self.restart_after(c, std::time::Duration::ZERO, Again::AtStart);
                }
            }
            Phase::Created | Phase::Running | Phase::Paused => {}
        }
    }
}

/// The sockets of the resolver that a shim holds.
async fn fetch_sockets(
    c: &Container,
    handle: &Handle,
) -> Result<BTreeMap<String, OwnedFd>, ControlError> {
    let fetched = tokio::time::timeout(STATE_LIMIT, handle.fetch_fds(&[])).await;
    fetched.unwrap_or_else(|_| Err(ControlError::Hung { id: c.id.clone(), op: "fetch" }))
}

/// Names in a folder of ours; none if it cannot be read, which is told.
fn names_in(dir: &Path) -> Vec<String> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "could not look for what was left");
            Vec::new()
        }
    }
}

fn remove_dir(dir: &Path) {
    if let Err(error) = files::remove_tree(dir) {
        tracing::warn!(path = %dir.display(), %error, "could not remove a left bundle");
    }
}
