//! For tests: small disks that refuse writes, in a mount namespace of the test's own.
//!
//! Everything here panics instead of returning errors, and needs root. A test without the rights fails, for
//! a green test that looked at nothing would be a lie.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "SKEP_TEST_OWN_MOUNTS";

/// Runs a test in a mount namespace of its own, by starting it again there: mounts go with it, whatever
/// becomes of the test. `name` is the test's path in its crate. Files beyond a limit of size are an error
/// there and no signal.
pub fn in_own_mounts(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec unshare --mount -- \"$@\"", "sh"])
        .arg(std::env::current_exe().expect("own path"))
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare, which needs root");
    assert!(status.success(), "{name} failed in its mount namespace");
}

/// How a disk refuses writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No space.
    Full,
    /// No inodes.
    NoInodes,
    ReadOnly,
}

/// A file system in memory that is mounted while this lives.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `options` are those of tmpfs, such as `size=512k,nr_inodes=64`.
    pub fn mount(options: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skep-small-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("folder");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "small"]).arg(&path));
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it refuse writes until what is returned is dropped.
    pub fn begin(&self, trouble: Trouble) -> Refusing<'_> {
        let many = self.path.join("many");
        match trouble {
            Trouble::Full => {
                let zeros = vec![0; 1 << 20];
                let mut ballast =
                    std::fs::File::create(self.path.join("ballast")).expect("ballast");
                while std::io::Write::write_all(&mut ballast, &zeros).is_ok() {}
            }
            Trouble::NoInodes => {
                std::fs::create_dir(&many).expect("folder");
                let mut numbers = 0_u64..;
                while numbers
                    .next()
                    .is_some_and(|n| std::fs::create_dir(many.join(n.to_string())).is_ok())
                {
                }
            }
            Trouble::ReadOnly => self.remount("ro"),
        }
        Refusing { disk: self, trouble }
    }

    fn remount(&self, how: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.path));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It goes with the namespace at the latest.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// A disk that refuses writes; accepts them again when this is dropped.
pub struct Refusing<'a> {
    disk: &'a SmallDisk,
    trouble: Trouble,
}

impl Drop for Refusing<'_> {
    fn drop(&mut self) {
        let path = &self.disk.path;
        match self.trouble {
            Trouble::Full => std::fs::remove_file(path.join("ballast")).expect("ballast"),
            Trouble::NoInodes => std::fs::remove_dir_all(path.join("many")).expect("folders"),
            Trouble::ReadOnly => self.disk.remount("rw"),
        }
    }
}

fn run(command: &mut Command) {
    let status = command.status().expect("a command that needs root");
    assert!(status.success(), "{command:?}: {status}");
}
