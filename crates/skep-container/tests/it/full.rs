//! Bundles on a disk that is full.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use oci_spec::runtime::LinuxNamespaceType;
use skep_container::ControlError;
use skep_container::cgroup::Cgroup;

use crate::fixture::{Bed, Options, PATIENCE, wait};

const PAGE: usize = 4096;

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    fn new(path: &Path, options: &str) -> Small {
        std::fs::create_dir_all(path).expect("folder");
        mount(Some("small"), path, Some("tmpfs"), MsFlags::empty(), Some(options)).expect("mount");
        Small(path.to_owned())
    }

    /// Fills it but `pages`.
    fn fill(&self, pages: usize) {
        let room = nix::sys::statvfs::statvfs(&self.0).expect("statvfs").blocks_available();
        let room = usize::try_from(room).expect("pages").saturating_sub(pages);
        std::fs::write(self.0.join("fill"), vec![1; room * PAGE]).expect("fill");
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("fill")).expect("free");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Who waits for a launch holds a lock and perhaps a turn.
async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} does not end"))
}

/// Tries to run a container with more and more of `limit` until one runs; each try before must end with an error
/// and leave nothing.
async fn launches_end(limit: impl Fn(&Path, usize) -> Small) {
    for room in 0..64 {
        let mut bed = Bed::new();
        bed.nest("small");
        let small = limit(&bed.dir.path().join("small"), room);
        let mut options = Options::new(&["sleep", "7777"]);
        // As the daemon has it: then there is something to write when the process waits already.
        options.adapt = Box::new(|spec| {
            let mut linux = spec.linux().clone().expect("linux");
            let mut namespaces = linux.namespaces().clone().expect("namespaces");
            for namespace in &mut namespaces {
                if namespace.typ() == LinuxNamespaceType::Network {
                    namespace.set_path(Some("/proc/self/ns/net".into()));
                }
            }
            linux.set_namespaces(Some(namespaces));
            spec.set_linux(Some(linux));
        });
        let group = Cgroup::at(&Path::new("/").join(&bed.id));
        match within("create", bed.try_create(options)).await {
            Err(_) => {
                assert_eq!(group.pids().expect("pids"), [0; 0], "with {room}");
                drop(small);
            }
            Ok(handle) => {
                within("start", handle.start()).await.expect("start");
                within("kill", handle.kill(9)).await.expect("kill");
                // There is no room to say so, and it is said all the same.
                assert_eq!(wait(&handle).await.code, 137);
                within("delete", handle.delete()).await.expect("delete");
                assert!(room > 3, "the limit limits nothing");
                return;
            }
        }
    }
    panic!("it never runs");
}

#[tokio::test]
async fn wherever_the_room_ends_a_launch_ends() {
    launches_end(|path, pages| {
        let small = Small::new(path, "size=4m");
        small.fill(pages);
        small
    })
    .await;
}

#[tokio::test]
async fn wherever_the_inodes_end_a_launch_ends() {
    // The bundle itself is one, and the file system's root.
    launches_end(|path, inodes| Small::new(path, &format!("nr_inodes={}", inodes + 2))).await;
}

#[tokio::test]
async fn a_container_whose_disk_filled_up_ends_with_its_own_code_and_runs_again() {
    let mut bed = Bed::new();
    bed.nest("small");
    let small = Small::new(&bed.dir.path().join("small"), "size=4m");
    let handle = bed.create(Options::new(&["sleep", "7777"])).await;
    handle.start().await.expect("start");
    small.fill(0);
    handle.kill(9).await.expect("kill");
    match tokio::time::timeout(Duration::from_secs(20), handle.wait()).await.expect("in time") {
        Ok(status) => assert_eq!(status.code, 137),
        Err(ControlError::Gone { .. }) => panic!("the shim has ended over a full disk"),
        Err(error) => panic!("{error}"),
    }
    within("state", handle.state()).await.expect("state");
    within("delete", handle.delete()).await.expect("delete");
    small.free();
    let (status, ..) = bed.run(Options::new(&["true"])).await;
    assert_eq!(status.code, 0);
}
