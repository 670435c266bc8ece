//! For tests: small disks that refuse writes, in a mount namespace of the test's own.
//!
//! Everything here panics instead of returning errors, and needs root. A test without the rights fails, for
//! a green test that looked at nothing would be a lie.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the process that runs inside: a file that it makes to say that the test has begun.
const INSIDE: &str = "SKEP_TEST_INSIDE";

/// Whether this is the process that [`run_inside`] started. The test begins then.
pub fn is_inside() -> bool {
    let Some(begun) = std::env::var_os(INSIDE) else { return false };
    std::fs::write(begun, "").expect("say that the test has begun");
    true
}

/// Runs a test again, by starting this executable with `wrapper`, such as `unshare --mount --`. `name` is the
/// test's path in its crate; it asks [`is_inside`] first. Fails as the test does, and if there is none of this
/// name: a test that was renamed in one place only would be green for ever.
pub fn run_inside(name: &str, wrapper: &mut Command) {
    let begun = std::env::temp_dir().join(format!("skep-begun-{}-{name}", std::process::id()));
    let status = wrapper
        .arg(std::env::current_exe().expect("own path"))
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, &begun)
        .status()
        .expect("unshare, which needs root");
    let has_begun = std::fs::remove_file(&begun).is_ok();
    assert!(status.success(), "{name} failed inside its namespaces");
    assert!(has_begun, "no test of the name {name} has run inside");
}

/// Runs a test in a mount namespace of its own, by starting it again there: mounts go with it, whatever
/// becomes of the test. `name` is the test's path in its crate. Files beyond a limit of size are an error
/// there and no signal.
pub fn in_own_mounts(name: &str, test: impl FnOnce()) {
    if is_inside() {
        return test();
    }
    let unshare = "trap '' XFSZ; exec unshare --mount -- \"$@\"";
    run_inside(name, Command::new("sh").args(["-c", unshare, "sh"]));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "no test of the name testing::tests::by_its_old_name has run")]
    fn a_test_that_does_not_run_is_not_green() {
        run_inside("testing::tests::by_its_old_name", &mut Command::new("env"));
    }
}
