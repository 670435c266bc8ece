//! One daemon for each data root, and its process id file.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use skep_sys::files::{self, Durability};

/// How long a daemon before this one may take to be gone. After `kill -9` the kernel keeps its files, and
/// with them the lock, until it has taken its memory and its threads apart.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The right to use a data root. The kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct DataRoot {
    _lock: File,
}

impl DataRoot {
    /// Makes the folder if needed. Waits some seconds for a daemon that is just ending.
    ///
    /// # Errors
    /// When another daemon has it, which is named by its process.
    pub fn claim(path: &Path) -> Result<Self> {
        Self::claim_within(path, PATIENCE)
    }

    fn claim_within(path: &Path, patience: Duration) -> Result<Self> {
        files::make_dirs(path, 0o711)
            .with_context(|| format!("make the data root {}", path.display()))?;
        let lock_path = path.join("daemon.lock");
        let mut lock = files::open_lock(&lock_path, 0o600)
            .with_context(|| format!("open {}", lock_path.display()))?;
        let mut locked = lock.try_lock();
        if matches!(locked, Err(TryLockError::WouldBlock)) {
            tracing::info!(path = %lock_path.display(), "another daemon has the data root, waiting for its end");
            until(patience, || {
                locked = lock.try_lock();
                !matches!(locked, Err(TryLockError::WouldBlock))
            });
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                if lock.read_to_string(&mut pid).is_err() {
                    // A folder in the lock's place says nothing.
                    "unknown".clone_into(&mut pid);
                }
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
        // Only for who finds it locked; a disk without room is no reason not to start.
        if let Err(error) = name_holder(&mut lock) {
            tracing::warn!(%error, path = %lock_path.display(), "cannot write who holds the data root");
        }
        Ok(Self { _lock: lock })
    }
}

fn name_holder(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// The process id file; removed when dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Waits some seconds for a daemon that is just ending.
    ///
    /// # Errors
    /// When the file names another living process that is a daemon.
    pub fn write(path: &Path) -> Result<Self> {
        Self::write_within(path, PATIENCE)
    }

    fn write_within(path: &Path, patience: Duration) -> Result<Self> {
        if let Ok(Some(text)) = files::read(path)
            && let Ok(text) = String::from_utf8(text)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && !until(patience, || !is_daemon(pid))
        {
            bail!(
                "the process id file {} names process {pid}, which is a running daemon; stop it, or start \
                 this one beside it with its own --data-root, --exec-root, --pidfile and --host",
                path.display()
            );
        }
        if let Some(parent) = path.parent() {
            files::make_dirs(parent, 0o755)
                .with_context(|| format!("make {}", parent.display()))?;
        }
        let text = format!("{}\n", std::process::id());
        files::replace(path, text.as_bytes(), 0o644, Durability::Volatile).with_context(|| {
            format!(
                "write the process id file {} (another can be named with --pidfile)",
                path.display()
            )
        })?;
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

/// Looks again and again until it `is`, for this long at most. Whether it is.
fn until(limit: Duration, mut is: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if is() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Whether a process is a daemon that runs. Numbers are used again: by a shim, which is the same program
/// at other work, by a thread, by whatever comes after a reboot; and one that was killed keeps its number
/// as a zombie until its parent has looked.
fn is_daemon(pid: u32) -> bool {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = String::from_utf8_lossy(&read("status")).into_owned();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let runs = !field("State:").is_empty() && !field("State:").starts_with(['Z', 'X']);
    let is_process = field("Tgid:") == pid.to_string();
    let line = read("cmdline");
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let program =
        words.first().map_or(&[][..], |word| word.rsplit(|b| *b == b'/').next().unwrap_or(word));
    let works = match program {
        b"dockerd" => true,
        b"skep" => words.get(1).is_some_and(|word| *word == b"daemon"),
        _ => false,
    };
    runs && is_process && works
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_root_has_one_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataRoot::claim(folder.path()).unwrap();
        let soon = Duration::from_millis(50);
        let error = DataRoot::claim_within(folder.path(), soon).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        DataRoot::claim(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_in_the_locks_place_keeps_no_daemon_away() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("daemon.lock")).unwrap();
        let first = DataRoot::claim(folder.path()).unwrap();
        let soon = Duration::from_millis(50);
        let error = DataRoot::claim_within(folder.path(), soon).unwrap_err().to_string();
        assert!(error.contains("process unknown"), "{error}");
        drop(first);
        DataRoot::claim(folder.path()).unwrap();
    }

    #[test]
    fn a_daemon_that_is_just_ending_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataRoot::claim(folder.path()).unwrap();
        let (asked, ask) = std::sync::mpsc::channel();
        let path = folder.path().to_owned();
        let second = std::thread::spawn(move || {
            asked.send(()).unwrap();
            DataRoot::claim(&path).map(drop)
        });
        ask.recv().unwrap();
        drop(first);
        second.join().unwrap().unwrap();
    }

    /// A process of this name at this work, until it is dropped.
    struct Process(std::process::Child);

    impl Process {
        fn start(program: &Path) -> Self {
            std::fs::create_dir_all(program.parent().unwrap()).unwrap();
            // A shell that waits for its input.
            std::os::unix::fs::symlink("/bin/sh", program).unwrap();
            let child = std::process::Command::new(program)
                .args(["-c", "read line"])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            Self(child)
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn only_a_running_daemon_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let soon = Duration::from_millis(50);
        let mut dockerd = Process::start(&folder.path().join("a/dockerd"));
        std::fs::write(&path, dockerd.0.id().to_string()).unwrap();
        let error = PidFile::write_within(&path, soon).unwrap_err().to_string();
        assert!(error.contains("is a running daemon"), "{error}");
        // Killed, and not yet collected by its parent.
        dockerd.0.kill().unwrap();
        drop(PidFile::write(&path).unwrap());
        // The same program at other work, as a shim.
        let shim = Process::start(&folder.path().join("b/skep"));
        std::fs::write(&path, shim.0.id().to_string()).unwrap();
        drop(PidFile::write_within(&path, soon).unwrap());
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
