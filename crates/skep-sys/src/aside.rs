//! A mount namespace beside the host's, for mounts that are to last and be in nobody's table: what copies or reads
//! the host's, as each start of a container does, has nothing to do with them.

use crate::files;
use crate::mounts::is_mount_point;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns, unshare};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use nix::unistd::{Pid, chdir, getpid, gettid, pivot_root};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Name of the pin in its folder.
const PIN: &str = "mnt";

type Job = Box<dyn FnOnce() + Send>;

/// The namespace, with a thread that lives in it.
#[derive(Debug)]
pub struct Aside {
    jobs: Sender<Job>,
    root: PathBuf,
}

impl Aside {
    /// The one that is pinned in `folder`, or a new one, which holds an empty tmpfs and nothing else. Where it is new the
    /// folder becomes a mount of its own, passed on to nobody, as the kernel wants it for such a pin.
    pub fn open(folder: &Path) -> io::Result<Self> {
        files::make_dirs(folder, 0o700)?;
        let pin = folder.join(PIN);
        if let Some(known) = pinned(&pin)? {
            return Self::begin(move || Ok(setns(&known, CloneFlags::CLONE_NEWNS)?));
        }
        keep_to_oneself(folder)?;
        OpenOptions::new().create(true).append(true).mode(0o400).open(&pin)?;
        // The kernel pins only what is younger than the namespace that it is pinned in, and tells that by numbers of
        // which each processor has its own supply (Linux 6.18): on the one where ours was made they are higher.
        let processors = sched_getaffinity(Pid::from_raw(0))?;
        let each = (0..CpuSet::count()).filter(|n| processors.is_set(*n).unwrap_or_default());
        let mut last = None;
        for processor in [None].into_iter().chain(each.map(Some)) {
            let place = folder.to_owned();
            let made = Self::begin(move || make(&place, processor, &processors))?;
            let space = made.root.with_file_name("ns").join("mnt");
            match mount(Some(&space), &pin, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
                Ok(()) => return Ok(made),
                Err(error @ nix::Error::EINVAL) => last = Some(error.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::Other.into()))
    }

    /// Starts the thread, which moves inside with `enter`.
    fn begin(enter: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (jobs, inbox) = channel::<Job>();
        let (begun, beginning) = sync_channel(1);
        thread::Builder::new()
            .name("skep-aside".to_owned())
            .spawn(move || live(enter, &begun, inbox))?;
        let thread = beginning.recv().map_err(io::Error::other)??;
        Ok(Self { jobs, root: format!("/proc/{}/task/{thread}/root", getpid()).into() })
    }

    /// Where its root can be reached from outside, for as long as this lives.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs `work` inside, one after the other. Paths are those of the namespace; there is no `/proc`.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (reply, answer) = sync_channel(1);
        let job: Job = Box::new(move || {
            // Whoever gave up needs no answer.
            let _ = reply.send(work());
        });
        self.jobs.send(job).map_err(|_| io::ErrorKind::BrokenPipe)?;
        answer.recv().map_err(io::Error::other)?
    }
}

/// What is pinned there; `None` where there is nothing, or what is left of it after a reboot.
fn pinned(pin: &Path) -> io::Result<Option<OwnedFd>> {
    match open(pin, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty()) {
        Ok(fd) if fstatfs(&fd)?.filesystem_type() == crate::netns::NSFS => Ok(Some(fd)),
        Ok(_) | Err(nix::Error::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn keep_to_oneself(folder: &Path) -> io::Result<()> {
    if !is_mount_point(folder)? {
        mount(Some(folder), folder, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    Ok(mount(None::<&str>, folder, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?)
}

fn live(
    enter: impl FnOnce() -> io::Result<()>,
    begun: &SyncSender<io::Result<Pid>>,
    jobs: Receiver<Job>,
) {
    // The kernel moves only threads that share their root with nobody.
    let alone = unshare(CloneFlags::CLONE_FS).map_err(io::Error::from);
    let entered = alone.and_then(|()| enter());
    let ok = entered.is_ok();
    // Whoever gave up needs no answer.
    let _ = begun.send(entered.map(|()| gettid()));
    if ok {
        jobs.into_iter().for_each(|job| job());
    }
}

/// Moves the calling thread into a new namespace, made on that processor.
fn make(folder: &Path, processor: Option<usize>, processors: &CpuSet) -> io::Result<()> {
    if let Some(processor) = processor {
        let mut only = CpuSet::new();
        only.set(processor)?;
        sched_setaffinity(Pid::from_raw(0), &only)?;
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    if processor.is_some() {
        sched_setaffinity(Pid::from_raw(0), processors)?;
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("skep"), folder, Some("tmpfs"), flags, Some("mode=0700,size=64k"))?;
    // The new root covers the old one, which is then taken away from below it.
    chdir(folder)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use std::fs::{read_dir, read_to_string};

    fn host_mounts() -> usize {
        read_to_string("/proc/thread-self/mountinfo").expect("mountinfo").lines().count()
    }

    #[test]
    fn it_is_made_whichever_processor_made_what_it_is_pinned_in() {
        let processors = sched_getaffinity(Pid::from_raw(0)).expect("processors");
        for processor in (0..CpuSet::count()).filter(|n| processors.is_set(*n).unwrap_or(false)) {
            let dir = tempfile::tempdir().expect("tempdir");
            let on = |processor: usize| {
                let mut only = CpuSet::new();
                only.set(processor).expect("processor");
                sched_setaffinity(Pid::from_raw(0), &only).expect("affinity");
            };
            let path = dir.path();
            thread::scope(|scope| {
                let work = || {
                    on(processor);
                    // What it starts has its processor, at first; so it may be all of them.
                    crate::mounts::apart(|| {
                        sched_setaffinity(Pid::from_raw(0), &processors)?;
                        Aside::open(&path.join("aside")).map(drop)
                    })
                };
                scope.spawn(work).join().expect("thread").expect("made");
            });
        }
    }

    #[test]
    fn what_is_mounted_aside_lasts_and_is_in_no_table() {
        let dir = tempfile::tempdir().expect("tempdir");
        // On a thread with mounts of its own, so that nothing is left behind.
        crate::mounts::apart(|| {
            let folder = dir.path().join("aside");
            let aside = Aside::open(&folder)?;
            let before = host_mounts();
            for n in 0..10 {
                let ns = NetNs::anonymous()?;
                aside.run(move || ns.pin(Path::new(&format!("/{n}"))))?;
            }
            assert_eq!(host_mounts(), before);
            assert_eq!(read_dir(aside.root())?.count(), 10);
            let third = NetNs::open(&aside.root().join("3"))?;
            let refused = aside.run(|| NetNs::open(Path::new("/nosuch")).map(drop));
            assert_eq!(refused.expect_err("nothing there").kind(), io::ErrorKind::NotFound);
            drop(aside);

            // Another daemon's.
            let aside = Aside::open(&folder)?;
            assert_eq!(host_mounts(), before);
            assert!(NetNs::open(&aside.root().join("3"))?.is_same(&third)?);
            aside.run(|| NetNs::remove(Path::new("/3")))?;
            assert_eq!(read_dir(aside.root())?.count(), 9);
            let inside = aside.run(|| Ok(read_dir("/")?.count()))?;
            assert_eq!(inside, 9);
            Ok(())
        })
        .expect("apart");
    }
}
