//! The mount namespace in which a launch works.
//!
//! libcontainer and the kernel go through the whole table of mounts several times for each process
//! they start: it is copied with each mount namespace, and read to find control groups. So a launch
//! leaves the host's table first and takes out what grows with the number of containers. The
//! container's own root is attached here, and so is in no other table than the container's.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use skep_sys::mounts;

use super::Failure;

/// For a new container, whose spec then names namespaces by descriptors; those are open as long as
/// what this returns lives.
pub(super) fn for_container(
    spec: &mut Spec,
    root: Option<OwnedFd>,
    leave_out: &[PathBuf],
) -> Result<Vec<File>, Failure> {
    let namespaces = open_namespaces(spec)?;
    let target = spec.root().as_ref().map(|root| root.path().clone());
    mounts::leave_namespace()?;
    if passes_on(spec) {
        // Its mounts are passed on to the host by those they lie on, which must stay as they are.
        if let (Some(_), Some(target)) = (&root, &target) {
            mounts::keep_private(target)?;
        }
    } else {
        // As the runtime would do a moment later.
        mounts::receive_only()?;
        for folder in leave_out.iter().filter(|folder| !shows(spec, folder)) {
            mounts::leave_out(folder)?;
        }
    }
    if let (Some(root), Some(target)) = (root, target) {
        mounts::attach(root, &target)?;
    }
    Ok(namespaces)
}

/// For a further process, which joins the container's namespace.
pub(super) fn for_exec(leave_out: &[PathBuf]) -> Result<(), Failure> {
    if leave_out.is_empty() {
        return Ok(());
    }
    mounts::leave_namespace()?;
    mounts::receive_only()?;
    for folder in leave_out {
        mounts::leave_out(folder)?;
    }
    Ok(())
}

/// Whether mounts made in the container are to be seen on the host.
fn passes_on(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    linux.and_then(|linux| linux.rootfs_propagation().as_deref()) == Some("shared")
}

/// Whether a mount of the container has the folder, something in it or something above it as source.
fn shows(spec: &Spec, folder: &Path) -> bool {
    let sources = spec.mounts().iter().flatten().filter_map(|mount| mount.source().as_ref());
    let Ok(folder) = folder.canonicalize() else { return false };
    sources
        .filter_map(|source| source.canonicalize().ok())
        .any(|source| source.starts_with(&folder) || folder.starts_with(source))
}

/// Opens the namespaces that the spec names by paths, which may be in what is left out.
fn open_namespaces(spec: &mut Spec) -> Result<Vec<File>, Failure> {
    let Some(mut linux) = spec.linux().clone() else { return Ok(Vec::new()) };
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    let mut open = Vec::new();
    for namespace in &mut namespaces {
        let Some(path) = namespace.path() else { continue };
        let file = File::open(path)
            .map_err(|error| format!("could not open namespace {}: {error}", path.display()))?;
        namespace.set_path(Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into()));
        open.push(file);
    }
    linux.set_namespaces(Some(namespaces));
    spec.set_linux(Some(linux));
    Ok(open)
}

/// Names the namespaces that were named by paths as a process has them.
pub(super) fn name_namespaces(spec: &mut Spec, pid: i32) {
    let Some(mut linux) = spec.linux().clone() else { return };
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    for namespace in namespaces.iter_mut().filter(|n| n.path().is_some()) {
        let kind = match namespace.typ() {
            LinuxNamespaceType::Mount => "mnt",
            LinuxNamespaceType::Cgroup => "cgroup",
            LinuxNamespaceType::Uts => "uts",
            LinuxNamespaceType::Ipc => "ipc",
            LinuxNamespaceType::User => "user",
            LinuxNamespaceType::Pid => "pid",
            LinuxNamespaceType::Network => "net",
            LinuxNamespaceType::Time => "time",
        };
        namespace.set_path(Some(format!("/proc/{pid}/ns/{kind}").into()));
    }
    linux.set_namespaces(Some(namespaces));
    spec.set_linux(Some(linux));
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Mount;

    #[test]
    fn what_a_container_is_to_see_is_not_left_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        let base = dir.path().canonicalize().expect("path");
        let folder = base.join("run/netns");
        std::fs::create_dir_all(folder.join("in")).expect("mkdir");
        std::fs::create_dir_all(base.join("run/other")).expect("mkdir");
        std::os::unix::fs::symlink(base.join("run"), base.join("link")).expect("link");
        for (source, shown) in [
            ("run", true),
            ("run/netns", true),
            ("run/netns/in", true),
            ("link", true),
            ("run/other", false),
            ("missing", false),
        ] {
            let mut mount = Mount::default();
            mount.set_source(Some(base.join(source)));
            let mut spec = Spec::default();
            spec.set_mounts(Some(vec![mount]));
            assert_eq!(shows(&spec, &folder), shown, "{source}");
        }
        let mut device = Mount::default();
        device.set_source(Some("tmpfs".into()));
        let mut spec = Spec::default();
        spec.set_mounts(Some(vec![device]));
        assert!(!shows(&spec, &folder));
    }
}
