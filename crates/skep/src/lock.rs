//! One daemon for each data root, and its process id file.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The right to use a data root. The kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct DataRoot {
    _lock: File,
}

impl DataRoot {
    /// Makes the folder if needed. Fails at once when another daemon has it, naming its process.
    pub fn claim(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("make the data root {}", path.display()))?;
        let lock_path = path.join("daemon.lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .with_context(|| format!("open {}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                lock.read_to_string(&mut pid).context("read who holds the data root")?;
                bail!(
                    "another skep daemon (process {}) uses the data root {}; stop it, or give this one \
                     its own --data-root and --exec-root",
                    pid.trim(),
                    path.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", lock_path.display()));
            }
        }
        lock.set_len(0).context("write who holds the data root")?;
        lock.rewind().context("write who holds the data root")?;
        writeln!(lock, "{}", std::process::id()).context("write who holds the data root")?;
        Ok(Self { _lock: lock })
    }
}

/// The process id file; removed when dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Fails when the file names another living process that is a daemon.
    pub fn write(path: &Path) -> Result<Self> {
        if let Ok(text) = std::fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && is_daemon(pid)
        {
            bail!(
                "the process id file {} names process {pid}, which is a running daemon; stop it, or start \
                 this one beside it with its own --data-root, --exec-root, --pidfile and --host",
                path.display()
            );
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("make {}", parent.display()))?;
        }
        std::fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "remove the process id file");
        }
    }
}

/// A process id is used again after a reboot: only skep and dockerd count.
fn is_daemon(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| matches!(name.trim(), "skep" | "dockerd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_root_has_one_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataRoot::claim(folder.path()).unwrap();
        let error = DataRoot::claim(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        DataRoot::claim(folder.path()).unwrap();
    }

    #[test]
    fn a_stale_pid_file_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/skep.pid");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "4194304\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), std::process::id().to_string());
        drop(file);
        assert!(!path.exists());
    }
}
