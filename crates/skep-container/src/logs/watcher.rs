//! Noticing that logs grow.
//!
//! The kernel gives all of root's programs together 128 inotify instances by default, and tens of
//! thousands of watches. So all followers of a daemon share one instance, and followers of one log one
//! watch.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Where other programs have used up the host's instances or watches, logs are looked at this often.
const LOOK_ANYWAY: Duration = Duration::from_millis(500);

/// How long the instance may outlive its last user.
const LOOK_UP: Duration = Duration::from_secs(10);

/// Tells followers when something happened in the folders of their logs. Clones share one inotify
/// instance, which is made for the first follower.
#[derive(Clone, Debug, Default)]
pub struct LogWatcher {
    instance: Arc<Mutex<Option<Arc<Instance>>>>,
}

#[derive(Debug)]
struct Instance {
    inotify: AsyncFd<Descriptor>,
    folders: Mutex<HashMap<WatchDescriptor, Folder>>,
}

#[derive(Debug)]
struct Descriptor(Inotify);

#[derive(Debug)]
struct Folder {
    followers: usize,
    changes: watch::Sender<u64>,
}

/// Changes of one folder. The watch ends when the last one of a folder is dropped.
#[derive(Debug)]
pub(super) struct Changes {
    receiver: watch::Receiver<u64>,
    /// `None` when the host had no instance or watch left.
    watched: Option<(Arc<Instance>, WatchDescriptor)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section leaves the tables whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogWatcher {
    /// Follows a folder from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the folder is not there. That nothing can be watched any more is no error: see
    /// [`Changes::next`].
    pub(super) fn follow(&self, folder: &Path) -> io::Result<Changes> {
        match self.instance().and_then(|instance| instance.add(folder)) {
            Err(e) if is_used_up(&e) => {
                tracing::warn!(
                    path = %folder.display(),
                    error = %e,
                    "this host watches as many files as it can; a log is looked at now and then instead"
                );
                Ok(Changes { receiver: watch::channel(0).1, watched: None })
            }
            other => other,
        }
    }

    fn instance(&self) -> io::Result<Arc<Instance>> {
        let mut slot = lock(&self.instance);
        if let Some(instance) = &*slot {
            return Ok(instance.clone());
        }
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // Deprecated because a type could change the descriptor it gives; an inotify instance does not.
        #[expect(deprecated, reason = "the replacement is an unsafe function")]
        let inotify = AsyncFd::new(Descriptor(inotify))?;
        let instance = Arc::new(Instance { inotify, folders: Mutex::default() });
        tokio::spawn(listen(Arc::downgrade(&instance)));
        *slot = Some(instance.clone());
        Ok(instance)
    }
}

fn is_used_up(e: &io::Error) -> bool {
    let errno = e.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC | Errno::ENOMEM))
}

impl Instance {
    fn add(self: Arc<Self>, folder: &Path) -> io::Result<Changes> {
        // The folder, not the file: files come and go.
        let events =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let mut folders = lock(&self.folders);
        // The same folder has the same descriptor.
        let descriptor = self.inotify.get_ref().0.add_watch(folder, events)?;
        let known = folders
            .entry(descriptor)
            .or_insert_with(|| Folder { followers: 0, changes: watch::Sender::new(0) });
        known.followers += 1;
        let receiver = known.changes.subscribe();
        drop(folders);
        Ok(Changes { receiver, watched: Some((self, descriptor)) })
    }

    /// Tells the followers of what has happened.
    fn take(&self) -> io::Result<()> {
        loop {
            let events = match self.inotify.get_ref().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let folders = lock(&self.folders);
            for event in events {
                let tell = |folder: &Folder| folder.changes.send_modify(|n| *n = n.wrapping_add(1));
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    folders.values().for_each(tell);
                } else if let Some(folder) = folders.get(&event.wd) {
                    tell(folder);
                }
            }
        }
    }
}

/// Takes events until the last watcher and follower are gone.
async fn listen(instance: Weak<Instance>) {
    loop {
        let Some(strong) = instance.upgrade() else { return };
        // It looks up now and then, so that it does not keep alive what nobody else needs.
        let ready = tokio::time::timeout(LOOK_UP, strong.inotify.readable()).await;
        let taken = match ready {
            Err(_) => continue,
            Ok(Ok(mut guard)) => {
                let taken = strong.take();
                guard.clear_ready();
                taken
            }
            Ok(Err(error)) => Err(error),
        };
        if let Err(error) = taken {
            tracing::error!(%error, "cannot read what happens to logs");
            return;
        }
    }
}

impl Changes {
    /// Waits until something has happened since the last call, or since the beginning. Where nothing
    /// could be watched, until it is time to look again.
    pub(super) async fn next(&mut self) {
        match self.watched {
            // Fails only without the sender, which lives as long as this follower.
            Some(_) => drop(self.receiver.changed().await),
            None => tokio::time::sleep(LOOK_ANYWAY).await,
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let Some((instance, descriptor)) = &self.watched else { return };
        let mut folders = lock(&instance.folders);
        let Some(folder) = folders.get_mut(descriptor) else { return };
        folder.followers -= 1;
        if folder.followers == 0 {
            folders.remove(descriptor);
            // It is gone already if the folder is.
            let _ = instance.inotify.get_ref().0.rm_watch(*descriptor);
        }
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
