//! Why a container could not be set up, in Docker's words, where the spec and the host can tell.

use std::fs;
use std::path::Path;

use nix::fcntl::OFlag;
use oci_spec::runtime::{Mount, Spec};
use skep_types::errno_text;

use crate::spec::rootfs;

/// Looks for what cannot be: a mount, or a limit. Asked after a failure, so that nothing is refused
/// that the kernel would have done.
pub(super) fn explain(spec: &Spec) -> Option<String> {
    let root = spec.root().as_ref()?.path();
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    mounts.iter().find_map(|mount| fault(root, mount, mounts)).or_else(|| too_few_processes(spec))
}

/// The process that makes the first one counts as well, for a moment.
fn too_few_processes(spec: &Spec) -> Option<String> {
    let pids = (*spec.linux().as_ref()?.resources().as_ref()?.pids())?;
    (pids.limit() == 1).then(|| {
        "a pids limit of 1 leaves no room to start a process: resource temporarily unavailable"
            .to_owned()
    })
}

fn is_bind(mount: &Mount) -> bool {
    mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind")
}

fn fault(root: &Path, mount: &Mount, all: &[Mount]) -> Option<String> {
    let (source, target) = (mount.source().as_ref()?, mount.destination());
    let fail =
        |why: String| Some(format!("error mounting {source:?} to rootfs at {target:?}: {why}"));
    // A whole file system is mounted on a directory.
    let source_is_dir = !is_bind(mount)
        || match fs::metadata(source) {
            Ok(meta) => meta.is_dir(),
            Err(error) => {
                return fail(format!("stat {}: {}", source.display(), errno_text(&error)));
            }
        };
    // What an outer mount shows there cannot be seen from here.
    let covered =
        |other: &&Mount| target.starts_with(other.destination()) && other.destination() != target;
    if all.iter().any(|other| covered(&other)) {
        return None;
    }
    let target_is_dir = rootfs::open(root, target, OFlag::O_PATH)
        .map(fs::File::from)
        .and_then(|file| file.metadata())
        .ok()?
        .is_dir();
    if source_is_dir == target_is_dir {
        return None;
    }
    fail(
        "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? \
         Check if the specified host path exists and is the expected type"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{MountBuilder, RootBuilder, SpecBuilder};
    use std::path::PathBuf;

    fn said(root: &Path, binds: &[(&Path, &str)]) -> Option<String> {
        let mounts = binds.iter().map(|(source, target)| {
            MountBuilder::default()
                .source(*source)
                .destination(PathBuf::from(target))
                .options(vec!["rbind".to_owned()])
                .build()
                .expect("mount")
        });
        let spec = SpecBuilder::default()
            .root(RootBuilder::default().path(root).build().expect("root"))
            .mounts(mounts.collect::<Vec<_>>())
            .build()
            .expect("spec");
        explain(&spec)
    }

    #[test]
    fn binds() {
        let dir = tempfile::tempdir().expect("folder");
        let (root, file) = (dir.path().join("root"), dir.path().join("file"));
        fs::create_dir_all(root.join("etc")).expect("folder");
        fs::write(root.join("etc/passwd"), "").expect("file");
        fs::write(&file, "").expect("file");
        let folder = dir.path();
        for (binds, words) in [
            (&[(file.as_path(), "/etc/passwd"), (folder, "/etc"), (folder, "/new")][..], None),
            (&[(Path::new("/no/such"), "/mnt")], Some("stat /no/such: no such file or directory")),
            (&[(file.as_path(), "/etc")], Some("Are you trying to mount a directory onto a file")),
            (&[(folder, "/etc/passwd")], Some("rootfs at \"/etc/passwd\": not a directory")),
            (&[(folder, "/etc"), (folder, "/etc/passwd")], None),
        ] {
            let said = said(&root, binds);
            match words {
                None => assert_eq!(said, None),
                Some(words) => {
                    assert!(said.as_deref().is_some_and(|s| s.contains(words)), "{said:?}")
                }
            }
        }
    }
}
