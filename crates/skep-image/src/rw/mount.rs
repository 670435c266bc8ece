//! Overlay mounts with any number of layers, in nobody's table.
//!
//! A mount in the host's table is copied with every mount namespace that is made and read by all who
//! look for theirs, so that each container would cost every other something. These are detached
//! (fsmount(2)): who holds one looks into it by its descriptor, and whoever runs the container
//! attaches it in the container's own namespace.
//!
//! Linux 6.8 takes lower directories one by one through `fsconfig`. Before that all must fit into
//! one page of mount options; then the short links in `l/`, relative to the store's root, are used,
//! which fits far more layers than images may have.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::mount::{MntFlags, MsFlags};
use rustix::{
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen,
    },
};
use skep_sys::{files::remove_tree, mounts};

use super::{RwLayer, error::RwError};
use crate::root::Root;

/// How a container's root is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Never sync it to disk (overlayfs `volatile`): for containers that are removed when they
    /// end. Unmounting then does not wait for the disk.
    pub volatile: bool,
    /// SELinux mount label.
    pub label: Option<String>,
}

/// Features that would make an upper directory depend on more than itself and the names below it:
/// `docker diff`, `commit` and copying rely on plain uppers.
const PLAIN: [(&str, &str); 3] = [("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")];

pub(super) fn mount(
    root: &Path,
    rw: &RwLayer,
    links: &[String],
    options: &MountOptions,
) -> Result<Root, RwError> {
    // Left by an earlier volatile mount, also by one that was taken away in order, and in the way of
    // every later one: an ended container is looked into with an ordinary mount. It tells that the upper
    // may be incomplete after a crash, which for such a container does not matter.
    let marker = rw.work.join("work/incompat/volatile");
    if marker.exists() {
        let marker = rw.work.join("work/incompat");
        remove_tree(&marker).map_err(RwError::io("remove", &marker))?;
    }
    static WAYS: Ways = Ways::new();
    WAYS.mount(|| by_context(rw, options), || by_string(root, rw, links, options))
        .map(Root::from)
        .map_err(RwError::io("mount the overlay of", &rw.upper))
}

/// Which way of mounting this kernel has. Asked once: before 6.8 each attempt leaves a line in the
/// kernel's log.
struct Ways {
    no_context: AtomicBool,
}

impl Ways {
    const fn new() -> Self {
        Self { no_context: AtomicBool::new(false) }
    }

    fn mount<T>(
        &self,
        by_context: impl FnOnce() -> Result<T, Errno>,
        by_string: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.no_context.load(Ordering::Relaxed) {
            return by_string();
        }
        match by_context() {
            // ENOSYS: no such calls; EINVAL: no lowerdir+ before 6.8, or an option this kernel lacks.
            Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
                let mounted = by_string()?;
                // Only now is it clear that the layers were not at fault.
                self.no_context.store(true, Ordering::Relaxed);
                Ok(mounted)
            }
            other => other.map_err(io::Error::from),
        }
    }
}

/// The new mount interface.
fn by_context(rw: &RwLayer, options: &MountOptions) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", "overlay")?;
    for dir in &rw.lowerdirs {
        fsconfig_set_string(context, "lowerdir+", dir)?;
    }
    fsconfig_set_string(context, "upperdir", &rw.upper)?;
    fsconfig_set_string(context, "workdir", &rw.work)?;
    for (key, value) in PLAIN {
        fsconfig_set_string(context, key, value)?;
    }
    if options.volatile {
        fsconfig_set_flag(context, "volatile")?;
    }
    if let Some(label) = &options.label {
        fsconfig_set_string(context, "context", label.as_str())?;
    }
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// One string of options, from the store's root so that it stays short. Changing directory would
/// move the whole process, and such a mount is born attached: so it is made on a thread with a
/// directory and a mount namespace of its own, which leaves a detached copy.
fn by_string(
    root: &Path,
    rw: &RwLayer,
    links: &[String],
    options: &MountOptions,
) -> io::Result<OwnedFd> {
    let relative = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let lowers: Vec<String> = if links.len() == rw.lowerdirs.len() {
        links.iter().map(|link| format!("l/{link}")).collect()
    } else {
        rw.lowerdirs.iter().map(relative).collect()
    };
    let mut text = format!(
        "lowerdir={},upperdir={},workdir={}",
        lowers.join(":"),
        relative(&rw.upper),
        relative(&rw.work)
    );
    let plain: String = PLAIN.iter().map(|(key, value)| format!(",{key}={value}")).collect();
    let mut more = String::new();
    if options.volatile {
        more.push_str(",volatile");
    }
    if let Some(label) = &options.label {
        more.push_str(&format!(",context=\"{label}\""));
    }
    text.push_str(&more);
    let in_root = |data: String| {
        mounts::apart(|| {
            // A mount namespace comes with a directory of its own.
            std::env::set_current_dir(root)?;
            let target = rw.merged.strip_prefix(root).unwrap_or(&rw.merged);
            nix::mount::mount(
                Some("overlay"),
                target,
                Some("overlay"),
                MsFlags::empty(),
                Some(data.as_str()),
            )?;
            mounts::copy(target)
        })
    };
    match in_root(format!("{text}{plain}")) {
        // A kernel built without one of the features refuses even to turn it off.
        Err(e) if e.raw_os_error() == Some(nix::libc::EINVAL) => in_root(text),
        other => other,
    }
}

/// Takes away what earlier versions mounted on the host itself, lazily: a process that still has a
/// file open does not stop a removal.
pub(super) fn unmount(merged: &Path) -> Result<(), RwError> {
    while is_mounted(merged)? {
        match nix::mount::umount2(merged, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Somebody else was faster.
            Err(nix::errno::Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(RwError::io("unmount", merged)(errno.into())),
        }
    }
    Ok(())
}

fn is_mounted(path: &Path) -> Result<bool, RwError> {
    match mounts::is_mount_point(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map_err(RwError::io("look at", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_asked_for_the_new_way_once() {
        let asked = std::cell::Cell::new(0);
        let context = |answer: Result<(), Errno>| {
            asked.set(asked.get() + 1);
            answer
        };
        let ways = Ways::new();
        ways.mount(|| context(Ok(())), || unreachable!()).unwrap();
        // A mount that fails both ways says nothing about the kernel.
        let refused = || Err(io::Error::from(Errno::INVAL));
        ways.mount(|| context(Err(Errno::INVAL)), refused).unwrap_err();
        ways.mount(|| context(Err(Errno::NOENT)), || unreachable!()).unwrap_err();
        assert_eq!(asked.get(), 3);
        ways.mount(|| context(Err(Errno::INVAL)), || Ok(())).unwrap();
        ways.mount(|| context(Ok(())), || Ok(())).unwrap();
        assert_eq!(asked.get(), 4);
    }

    /// What kernels before 6.8 get, with more layers than fit into a page under their full names.
    #[test]
    fn one_string_of_options_takes_many_layers() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let dir = |path: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let mut rw = RwLayer {
            container: "c".into(),
            lowerdirs: Vec::new(),
            upper: dir("rw/c/upper"),
            work: dir("rw/c/work"),
            merged: dir("rw/c/merged"),
        };
        dir("l");
        let mut links = Vec::new();
        for n in 0..200 {
            let layer = dir(&format!("layers/{n:064}/diff"));
            std::fs::write(layer.join(format!("f{n}")), b"x").unwrap();
            links.push(format!("{n:010}"));
            std::os::unix::fs::symlink(&layer, root.join("l").join(&links[n])).unwrap();
            rw.lowerdirs.push(layer);
        }
        let options = MountOptions { volatile: true, label: None };
        let mount = Root::from(by_string(&root, &rw, &links, &options).unwrap());
        assert_eq!(std::fs::read_dir(mount.path()).unwrap().count(), 200);
        assert!(!is_mounted(&rw.merged).unwrap());
    }

    /// A container that was mounted `volatile` while it ran is copied from when it has ended.
    #[test]
    fn what_was_mounted_volatile_can_be_mounted_again() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let dir = |path: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let rw = RwLayer {
            container: "c".into(),
            lowerdirs: vec![dir("layers/one/diff")],
            upper: dir("rw/c/upper"),
            work: dir("rw/c/work"),
            merged: dir("rw/c/merged"),
        };
        let volatile = MountOptions { volatile: true, label: None };
        let ran = mount(&root, &rw, &[], &volatile).unwrap();
        std::fs::write(ran.path().join("made"), b"x").unwrap();
        drop(ran);
        for options in [MountOptions::default(), volatile] {
            let again = mount(&root, &rw, &[], &options).unwrap();
            assert_eq!(std::fs::read(again.path().join("made")).unwrap(), b"x");
        }
    }
}
