//! One container's group in every hierarchy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skep_sys::files::make_dirs;

use super::CgroupError;
use super::layout::{Layout, Version};

/// How long processes get to freeze or to die. Both take the kernel milliseconds, unless a process
/// hangs in an uninterruptible system call.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between looks at a file that the kernel changes without telling.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The groups at one path, in every hierarchy. All methods block (briefly).
#[derive(Clone, Debug)]
pub struct Cgroup {
    layout: Arc<Layout>,
    /// Relative to a hierarchy's mount point.
    path: PathBuf,
}

impl Cgroup {
    /// The group at an absolute path such as `/skep/<id>`, on this host. Does not look whether it exists.
    pub fn at(path: &Path) -> Cgroup {
        Cgroup::within(Layout::host(), path)
    }

    pub(super) fn within(layout: Arc<Layout>, path: &Path) -> Cgroup {
        // Normal components only: nothing in the path may lead out of the hierarchy.
        let path =
            path.components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect();
        Cgroup { layout, path }
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The group's directory for a controller.
    pub fn controller(&self, name: &'static str) -> Option<(Version, PathBuf)> {
        self.layout.controller(name).map(|(version, point)| (version, point.join(&self.path)))
    }

    /// Makes the groups above it where they are missing. libcontainer makes them too, but not safely
    /// when several containers are the first at once.
    pub fn make_parents(&self) -> Result<(), CgroupError> {
        let Some(parent) = self.path.parent() else { return Ok(()) };
        for point in self.layout.hierarchies() {
            let path = point.join(parent);
            make_dirs(&path, 0o755).map_err(|source| CgroupError::Make { path, source })?;
        }
        Ok(())
    }

    /// All processes in it and in groups below, in no order.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = Vec::new();
        match self.process_dir() {
            Some(dir) => collect_pids(&dir, &mut pids)?,
            None => return Err(CgroupError::NoController { controller: "pids" }),
        }
        Ok(pids)
    }

    /// Freezes all processes; returns when they stand still. Repeating it is harmless.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true).inspect_err(|_| {
            // Half frozen is worse than not at all.
            if let Err(error) = self.set_frozen(false) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not thaw after a failed freeze"
                );
            }
        })
    }

    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    /// Sends a signal to every process in it. Those that appear meanwhile may be missed.
    pub fn signal_all(&self, signal: Signal) -> Result<(), CgroupError> {
        for pid in self.pids()? {
            // A process that has just ended is no failure.
            let _ = kill(Pid::from_raw(pid), signal);
        }
        Ok(())
    }

    /// Kills every process in it, thaws it, waits until all are gone and removes the groups.
    /// Succeeds if there is nothing (any more).
    pub fn kill_and_remove(&self) -> Result<(), CgroupError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let pids = self.pids()?;
            if pids.is_empty() {
                break;
            }
            if Instant::now() > until {
                let path = self.process_dir().unwrap_or_default();
                return Err(CgroupError::Timeout { path, what: "end" });
            }
            self.signal_all(Signal::SIGKILL)?;
            // Only now: thawed before the signal, they would run on for a moment.
            self.thaw()?;
            std::thread::sleep(LOOK_AGAIN);
        }
        for point in self.layout.hierarchies() {
            remove_tree(&point.join(&self.path), until)?;
        }
        Ok(())
    }

    /// How often the kernel has killed a process of it for want of memory; 0 without the controller.
    pub fn oom_kills(&self) -> u64 {
        let Some((version, dir)) = self.controller("memory") else { return 0 };
        let file = match version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        flat_value(&text, "oom_kill").unwrap_or(0)
    }

    /// The hierarchy in which every process of the container surely is.
    fn process_dir(&self) -> Option<PathBuf> {
        if self.layout.is_unified() {
            return self.layout.unified().map(|point| point.join(&self.path));
        }
        ["pids", "memory", "freezer", "devices", "cpu"].into_iter().find_map(|name| {
            match self.controller(name) {
                Some((Version::V1, dir)) => Some(dir),
                _ => None,
            }
        })
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        let controller = "freezer";
        let (version, dir) =
            self.controller(controller).ok_or(CgroupError::NoController { controller })?;
        if !dir.exists() {
            // Nothing in it to freeze or thaw.
            return Ok(());
        }
        let (file, value, watched) = match (version, frozen) {
            (Version::V1, true) => ("freezer.state", "FROZEN", "freezer.state"),
            (Version::V1, false) => ("freezer.state", "THAWED", "freezer.state"),
            (Version::V2, true) => ("cgroup.freeze", "1", "cgroup.events"),
            (Version::V2, false) => ("cgroup.freeze", "0", "cgroup.events"),
        };
        let until = Instant::now() + PATIENCE;
        let watched = dir.join(watched);
        loop {
            // Version 1 wants to be asked again while it says FREEZING.
            write(&dir.join(file), value)?;
            let text = read(&watched)?;
            let reached = match version {
                Version::V1 => text.trim() == value,
                Version::V2 => flat_value(&text, "frozen") == Some(u64::from(frozen)),
            };
            if reached {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(CgroupError::Timeout {
                    path: dir,
                    what: if frozen { "freeze" } else { "thaw" },
                });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Reads a file whole.
pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })
}

/// Writes a value in one system call, as these files want it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|source| CgroupError::Write {
            path: path.to_owned(),
            value: value.to_owned(),
            source,
        })
}

/// The number after `key ` in a file of lines "key number".
pub(super) fn flat_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn collect_pids(dir: &Path, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.procs");
    match fs::read_to_string(&path) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A threaded group has no list of its own; its processes are listed by its parent.
        Err(e) if e.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {}
        Err(e) if e.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(()),
        Err(source) => return Err(CgroupError::Read { path, source }),
    }
    for child in subgroups(dir) {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

fn subgroups(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn remove_tree(dir: &Path, until: Instant) -> Result<(), CgroupError> {
    for child in subgroups(dir) {
        remove_tree(&child, until)?;
    }
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The last process has just ended and the kernel is not done with it.
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                std::thread::sleep(LOOK_AGAIN);
            }
            Err(source) => return Err(CgroupError::Remove { path: dir.to_owned(), source }),
        }
    }
}
