//! Learning of kills for want of memory as they happen.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::group::Cgroup;
use super::layout::Version;

/// Has [`OomWatch::events`] when the kernel may have killed a process of the group. Then call
/// [`OomWatch::clear`] and compare [`Cgroup::oom_kills`] with the last count.
#[derive(Debug)]
pub enum OomWatch {
    /// Version 1: an event descriptor that the kernel counts up, and the file it watches.
    Event(EventFd, File),
    /// Version 2: `memory.events`, which has an exceptional event after each change that was not read
    /// yet. Not an inotify instance: root's programs have 128 of those, and each container one of these.
    File(File),
}

impl OomWatch {
    /// `Ok(None)` if the host has no memory controller.
    pub fn new(group: &Cgroup) -> io::Result<Option<OomWatch>> {
        Ok(match group.controller("memory") {
            None => None,
            Some((Version::V1, dir)) => Some(watch_v1(&dir)?),
            Some((Version::V2, dir)) => {
                match File::open(dir.join("memory.events")) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                    file => {
                        // What was never read has no changes.
                        Some(OomWatch::File(file?)).filter(OomWatch::clear)
                    }
                }
            }
        })
    }

    /// What to poll for.
    pub fn events(&self) -> PollFlags {
        match self {
            OomWatch::Event(..) => PollFlags::POLLIN,
            // It is readable always.
            OomWatch::File(_) => PollFlags::POLLPRI,
        }
    }

    /// Takes off what was told. False when the group is gone: then there is nothing to tell any more,
    /// and the events do not end.
    pub fn clear(&self) -> bool {
        match self {
            OomWatch::Event(event, _) => {
                // An error means that there was nothing to take.
                let _ = event.read();
                true
            }
            OomWatch::File(file) => {
                let mut file = file;
                file.rewind().and_then(|()| file.read(&mut [0; 512])).is_ok()
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            OomWatch::Event(event, _) => event.as_fd(),
            OomWatch::File(file) => file.as_fd(),
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
