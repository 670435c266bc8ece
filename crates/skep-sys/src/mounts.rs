//! Mounts that are in nobody's table, and mount namespaces of one's own.
//!
//! A mount namespace belongs to a process's threads one by one, like a network namespace: what must
//! not happen in the caller's runs on a thread that ends with the work.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

/// Runs `work` on a thread with a mount namespace of its own, into which the outside's mounts still
/// come and from which nothing goes out. What it mounts goes with it.
pub fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS)?;
        receive_only()?;
        work()
    })
}

/// Gives this process, which must have one thread, a mount namespace of its own. What passes between
/// it and the old one stays as it is for each mount.
pub fn leave_namespace() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNS)?)
}

/// In this namespace, mounts of others are still received and nothing is passed on
/// (mount_namespaces(7), `MS_SLAVE`).
pub fn receive_only() -> io::Result<()> {
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    Ok(mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?)
}

/// The same for the one mount that holds `path`, in both directions.
pub fn keep_private(path: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_PRIVATE;
    Ok(mount(None::<&str>, &mount_point_of(path)?, None::<&str>, flags, None::<&str>)?)
}

/// Where the mount that holds `path` is mounted.
fn mount_point_of(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    for folder in path.ancestors() {
        if is_mount_point(folder)? {
            return Ok(folder.to_owned());
        }
    }
    Ok(PathBuf::from("/"))
}

/// Whether something is mounted exactly there. Links are not followed.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(CWD, path, flags, StatxFlags::TYPE)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Puts a detached mount on `path`, in the calling thread's namespace.
pub fn attach(mount: impl AsFd, path: &Path) -> io::Result<()> {
    move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// A detached copy of the mount at `path`, without what is mounted below it. It goes with its last
/// descriptor.
pub fn copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, path, flags)?)
}

/// The same of the root of a process's mount namespace.
pub fn copy_root_of(pid: i32) -> io::Result<OwnedFd> {
    let space = File::open(format!("/proc/{pid}/ns/mnt"))?;
    on_a_thread(|| {
        // The kernel moves only threads that share their root with nobody.
        unshare(CloneFlags::CLONE_FS)?;
        setns(&space, CloneFlags::CLONE_NEWNS)?;
        copy(Path::new("/"))
    })
}

/// A handle of a program by which it can be executed and nobody can change it, whatever rights he has: its mount is
/// read-only, and in no namespace any more in which that could be undone. `/proc/<pid>/exe` of who executes it leads
/// there, so that a container cannot reach the host's file by it.
pub fn read_only(program: &Path) -> io::Result<OwnedFd> {
    let program = program.canonicalize()?;
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some(&program), &program, none, MsFlags::MS_BIND, none)?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(none, &program, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, none)?;
        // The namespace ends with this thread, and the mount stays with the handle.
        Ok(File::open(&program)?.into())
    })
}

/// Makes a folder a mount of its own, so that all that is mounted in it can be left out of a
/// namespace at once ([`leave_out`]). What is mounted in it later is passed on as before. Nothing
/// happens if it is one, or if it holds anything: what is mounted there already would be covered.
pub fn gather(folder: &Path) -> io::Result<()> {
    if is_mount_point(folder)? || folder.read_dir()?.next().is_some() {
        return Ok(());
    }
    mount(Some(folder), folder, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    // A copy of a shared mount would pass all on to its origin, which is below it.
    for flags in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(None::<&str>, folder, None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

/// Takes a folder's mount and all below it out of this namespace, which must pass nothing on.
/// Nothing happens where nothing is mounted.
pub fn leave_out(folder: &Path) -> io::Result<()> {
    match umount2(folder, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A panic inside is passed on to the caller, as if it had run the work itself.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> usize {
        std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo").lines().count()
    }

    fn tmpfs(at: &Path) -> io::Result<()> {
        Ok(mount(Some("t"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>)?)
    }

    #[test]
    fn a_program_is_executed_by_a_handle_that_changes_nothing() {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("tempdir");
        let program = dir.path().join("program");
        std::fs::copy("/bin/sleep", &program).expect("copy");
        let before = lines();
        let handle = read_only(&program).expect("handle");
        assert_eq!(lines(), before);
        let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let mut child = std::process::Command::new(&by_handle).arg("60").spawn().expect("spawn");
        let exe = PathBuf::from(format!("/proc/{}/exe", child.id()));
        let mode = std::fs::Permissions::from_mode(0o4777);
        for place in [Path::new(&by_handle), &exe] {
            let refused = [
                std::fs::set_permissions(place, mode.clone()).err(),
                std::os::unix::fs::chown(place, Some(1), None).err(),
            ];
            for error in refused {
                let error = error.and_then(|error| error.raw_os_error());
                assert_eq!(error, Some(nix::libc::EROFS), "{}", place.display());
            }
            File::options().write(true).open(place).expect_err("written while it runs");
            // Nor can the mount be made writable, or taken over, where it is.
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
            let none = None::<&str>;
            mount(none, place, none, flags, none).expect_err("remounted");
            copy(place).expect_err("copied");
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        let error = File::options().write(true).open(&by_handle).expect_err("written");
        assert_eq!(error.raw_os_error(), Some(nix::libc::EROFS));
        let mode = std::fs::metadata(&program).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7002, 0, "{mode:o}");
    }

    #[test]
    fn what_is_mounted_apart_is_seen_by_nobody_else() {
        let dir = tempfile::tempdir().expect("tempdir");
        let before = lines();
        let (inside, kept) = apart(|| {
            tmpfs(dir.path())?;
            std::fs::write(dir.path().join("f"), "x")?;
            Ok((lines(), copy(dir.path())?))
        })
        .expect("apart");
        assert_eq!((inside, lines()), (before + 1, before));
        assert!(!is_mount_point(dir.path()).expect("stat"));
        // The copy outlives the namespace it was made in.
        let file =
            rustix::fs::openat(&kept, "f", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
        assert!(file.is_ok(), "{file:?}");
        apart(|| attach(&kept, dir.path()).and_then(|()| is_mount_point(dir.path())))
            .map(|there| assert!(there))
            .expect("attach");
    }

    #[test]
    fn a_gathered_folder_is_left_out_at_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        apart(|| {
            gather(dir.path())?;
            gather(dir.path())?;
            let one = lines();
            for name in ["a", "b", "c"] {
                std::fs::create_dir(dir.path().join(name))?;
                tmpfs(&dir.path().join(name))?;
            }
            // Each is there once, not a second time below what gathers it.
            assert_eq!(lines(), one + 3);
            let inside = apart(|| leave_out(dir.path()).map(|()| lines()))?;
            assert_eq!((inside, lines()), (one - 1, one + 3));
            leave_out(Path::new("/nothing/here"))
        })
        .expect("apart");
    }

    #[test]
    fn a_process_s_root_is_copied_without_what_is_mounted_in_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let own = i32::try_from(std::process::id()).expect("a pid");
        let root = copy_root_of(own).expect("copy");
        let inside = dir.path().strip_prefix("/").expect("absolute");
        let there = rustix::fs::statat(&root, inside, rustix::fs::AtFlags::empty());
        // Unless temporary files have a mount of their own.
        let own_mount = mount_point_of(dir.path()).expect("mount point") != Path::new("/");
        assert!(there.is_ok() || own_mount, "{there:?}");
    }
}
