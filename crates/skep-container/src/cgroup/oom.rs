//! Learning of kills for want of memory as they happen.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::group::Cgroup;
use super::layout::Version;

/// Becomes readable when the kernel may have killed a process of the group. Then call
/// [`OomWatch::clear`] and compare [`Cgroup::oom_kills`] with the last count.
#[derive(Debug)]
pub enum OomWatch {
    /// Version 1: an event descriptor that the kernel counts up, and the file it watches.
    Event(EventFd, File),
    /// Version 2: a watch on `memory.events`.
    Inotify(Inotify),
}

impl OomWatch {
    /// `Ok(None)` if the host has no memory controller.
    pub fn new(group: &Cgroup) -> io::Result<Option<OomWatch>> {
        Ok(match group.controller("memory") {
            None => None,
            Some((Version::V1, dir)) => Some(watch_v1(&dir)?),
            Some((Version::V2, dir)) => {
                let file = dir.join("memory.events");
                if !file.exists() {
                    return Ok(None);
                }
                let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
                inotify.add_watch(&file, AddWatchFlags::IN_MODIFY)?;
                Some(OomWatch::Inotify(inotify))
            }
        })
    }

    /// Takes off what made it readable.
    pub fn clear(&self) {
        match self {
            // An error means that there was nothing to take.
            OomWatch::Event(event, _) => drop(event.read()),
            OomWatch::Inotify(inotify) => drop(inotify.read_events()),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            OomWatch::Event(event, _) => event.as_fd(),
            OomWatch::Inotify(inotify) => inotify.as_fd(),
        }
    }
}

fn watch_v1(dir: &Path) -> io::Result<OomWatch> {
    let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
    let control = File::open(dir.join("memory.oom_control"))?;
    let registration = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    OpenOptions::new()
        .write(true)
        .open(dir.join("cgroup.event_control"))?
        .write_all(registration.as_bytes())?;
    Ok(OomWatch::Event(event, control))
}
