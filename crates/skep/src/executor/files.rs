//! A task's secrets and configs as files: on memory, whatever the exec root lies on, and bind-mounted into
//! the container.

use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use skep_agent::{Dependencies, ExecError};
use skep_sys::files::{self, Durability};
use skep_types::{Driver, FileTarget, Mount, MountType, Task, TaskId};

/// `RAMFS_MAGIC` of `linux/magic.h`.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// The folder of all tasks' files. A daemon that starts finds what an earlier one wrote.
#[derive(Debug)]
pub struct TaskFiles {
    root: PathBuf,
    /// Held while it is looked what the folder lies on, so that memory is mounted once.
    opening: Mutex<()>,
}

impl TaskFiles {
    pub fn new(root: PathBuf) -> Self {
        Self { root, opening: Mutex::default() }
    }

    fn folder(&self, task: &TaskId) -> PathBuf {
        self.root.join(task.as_str())
    }

    /// Writes the task's files and returns the mounts that show them. Written again after a restart of
    /// the daemon, with the same contents.
    pub fn write(&self, task: &Task, dependencies: &Dependencies) -> Result<Vec<Mount>, ExecError> {
        let Some(spec) = &task.spec.container_spec else { return Ok(Vec::new()) };
        if spec.secrets.is_empty() && spec.configs.is_empty() {
            return Ok(Vec::new());
        }
        self.open().map_err(|source| {
            ExecError::temporary(
                format!("keep secrets on memory at {}", self.root.display()),
                source,
            )
        })?;
        let folder = self.folder(&task.id);
        let mut mounts = Vec::new();
        for (number, reference) in spec.secrets.iter().enumerate() {
            let Some(target) = &reference.file else { continue };
            let secret = dependencies
                .secret(&reference.secret_id)
                .ok_or_else(|| not_yet("secret", &reference.secret_name))?;
            let data =
                rendered(dependencies, secret.spec.templating.as_ref(), &secret.spec.data.0)?;
            let source = put(&folder.join("secrets"), number, target, &data)?;
            mounts.push(mount(&source, &absolute("/run/secrets", &target.name)));
        }
        for (number, reference) in spec.configs.iter().enumerate() {
            let Some(target) = &reference.file else { continue };
            let config = dependencies
                .config(&reference.config_id)
                .ok_or_else(|| not_yet("config", &reference.config_name))?;
            let data =
                rendered(dependencies, config.spec.templating.as_ref(), &config.spec.data.0)?;
            let source = put(&folder.join("configs"), number, target, &data)?;
            mounts.push(mount(&source, &absolute("/", &target.name)));
        }
        Ok(mounts)
    }

    /// Removes the task's files, if it has any.
    pub fn remove(&self, task: &TaskId) -> io::Result<()> {
        files::remove_tree(&self.folder(task))
    }

    /// Removes every task's files, and the memory they lie on if it was mounted for them.
    pub fn remove_all(&self) -> io::Result<()> {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.root.exists() {
            return Ok(());
        }
        if is_mount_point(&self.root)? {
            for entry in std::fs::read_dir(&self.root)? {
                files::remove_tree(&entry?.path())?;
            }
            umount2(&self.root, MntFlags::MNT_DETACH)?;
        }
        files::remove_tree(&self.root)
    }

    /// Makes the folder, and memory for it where the exec root lies on a disk.
    fn open(&self) -> io::Result<()> {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.root.exists() && !on_memory(&self.root)? {
            // What an earlier version left on the disk. Containers keep the files that they have mounted.
            files::remove_tree(&self.root)?;
        }
        files::own_dir(&self.root, 0o700)?;
        if on_memory(&self.root)? {
            return Ok(());
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount_at(Some("skep-secrets"), &self.root, Some("tmpfs"), flags, Some("mode=0700"))?;
        Ok(())
    }
}

fn on_memory(path: &Path) -> io::Result<bool> {
    Ok(matches!(statfs(path)?.filesystem_type(), TMPFS_MAGIC | RAMFS_MAGIC))
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    let Some(parent) = path.parent() else { return Ok(true) };
    Ok(std::fs::metadata(path)?.dev() != std::fs::metadata(parent)?.dev())
}

/// A session with a manager brings it; until then the task waits.
fn not_yet(kind: &str, name: &str) -> ExecError {
    let missing = io::Error::new(io::ErrorKind::NotFound, "it has not arrived with the task");
    ExecError::temporary(format!("write {kind} {name}"), missing)
}

/// The contents, with their templates filled in where the spec asks for it.
fn rendered(
    dependencies: &Dependencies,
    templating: Option<&Driver>,
    data: &[u8],
) -> Result<Vec<u8>, ExecError> {
    dependencies
        .render(templating, data)
        .map_err(|source| ExecError::fatal("fill in a template", source))
}

fn absolute(base: &str, name: &str) -> String {
    if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("{}/{name}", base.trim_end_matches('/'))
    }
}

fn mount(source: &Path, target: &str) -> Mount {
    Mount {
        kind: MountType::Bind,
        source: source.display().to_string(),
        target: target.to_owned(),
        read_only: true,
        ..Default::default()
    }
}

/// `number` is the reference's place in the task: one secret may have several files of several owners.
fn put(
    folder: &Path,
    number: usize,
    target: &FileTarget,
    data: &[u8],
) -> Result<PathBuf, ExecError> {
    let owner = |text: &str| -> Result<u32, ExecError> {
        if text.is_empty() {
            return Ok(0);
        }
        text.parse().map_err(|_| {
            ExecError::refused(format!("the owner of {} is no number: {text}", target.name))
        })
    };
    let (uid, gid) = (owner(&target.uid)?, owner(&target.gid)?);
    let path = folder.join(number.to_string());
    let write = || -> io::Result<()> {
        files::make_dirs(folder, 0o700)?;
        files::replace(&path, data, target.mode & 0o777, Durability::Volatile)?;
        chown(&path, Some(uid), Some(gid))
    };
    write().map_err(|source| ExecError::temporary(format!("write {}", path.display()), source))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::{ContainerSpec, Secret, SecretReference};

    fn task() -> Task {
        let mut task = Task { id: "t1".into(), ..Default::default() };
        let file = FileTarget { name: "pw".into(), uid: "0".into(), gid: "0".into(), mode: 0o440 };
        task.spec.container_spec = Some(ContainerSpec {
            secrets: vec![SecretReference {
                file: Some(file),
                secret_id: "s1".into(),
                secret_name: "pw".into(),
            }],
            ..Default::default()
        });
        task
    }

    /// Runs `f` with an exec root on a file system that is not memory, as far as anybody can tell, in a mount
    /// namespace that goes with the thread. `f` also gets the folder where that file system keeps its files.
    fn on_a_disk(f: impl FnOnce(&Path, &Path) + Send) {
        let temp = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let apart = scope.spawn(|| {
                let (none, path) = (None::<&str>, temp.path());
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                mount_at(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
                mount_at(Some("lower"), path, Some("tmpfs"), MsFlags::empty(), none).unwrap();
                let [lower, upper, work, disk] = ["l", "u", "w", "d"].map(|name| path.join(name));
                for folder in [&lower, &upper, &work, &disk] {
                    files::make_dir(folder, 0o700).unwrap();
                }
                let (lower, shown, work) = (lower.display(), upper.display(), work.display());
                let options = format!("lowerdir={lower},upperdir={shown},workdir={work}");
                let options = Some(options.as_str());
                mount_at(Some("o"), &disk, Some("overlay"), MsFlags::empty(), options).unwrap();
                assert!(!on_memory(&disk).unwrap());
                f(&disk, &upper);
            });
            apart.join().unwrap();
        });
    }

    fn dependencies(task: &Task) -> Dependencies {
        let mut secret = Secret { id: "s1".into(), ..Default::default() };
        secret.spec.data = b"hush".to_vec().into();
        Dependencies::fixed(task, vec![secret], Vec::new())
    }

    fn memory_mounts() -> usize {
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        mounts.matches("- tmpfs skep-secrets").count()
    }

    fn mode(path: impl AsRef<Path>) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_secret_becomes_a_private_file_on_memory_and_goes_again() {
        on_a_disk(|disk, kept| {
            let root = disk.join("run/swarm");
            // An earlier version kept them on the disk.
            files::make_dirs(&root.join("t0/secrets"), 0o777).unwrap();
            files::replace(&root.join("t0/secrets/0"), b"old", 0o666, Durability::Lasting).unwrap();
            let task = task();
            // The second daemon finds the first one's memory.
            for _ in 0..2 {
                let task_files = TaskFiles::new(root.clone());
                let mounts = task_files.write(&task, &dependencies(&task)).unwrap();
                assert_eq!(mounts[0].target, "/run/secrets/pw");
                assert!(mounts[0].read_only);
                assert_eq!(std::fs::read(&mounts[0].source).unwrap(), b"hush");
                assert_eq!(mode(&mounts[0].source), 0o440);
                assert_eq!([&root, &root.join("t1")].map(mode), [0o700; 2]);
                assert_eq!(memory_mounts(), 1);
                assert_eq!(std::fs::read_dir(kept.join("run/swarm")).unwrap().count(), 0);
            }
            let task_files = TaskFiles::new(root.clone());
            for _ in 0..2 {
                task_files.remove(&task.id).unwrap();
                assert!(!root.join("t1").exists());
            }
            task_files.write(&task, &dependencies(&task)).unwrap();
            for _ in 0..2 {
                task_files.remove_all().unwrap();
                assert_eq!((memory_mounts(), root.exists()), (0, false));
            }
            assert!(!kept.join("run/swarm").exists());
        });
    }

    #[test]
    fn memory_that_is_there_is_used() {
        on_a_disk(|_, memory| {
            let (task, root) = (task(), memory.join("swarm"));
            let task_files = TaskFiles::new(root.clone());
            task_files.write(&task, &dependencies(&task)).unwrap();
            assert_eq!((memory_mounts(), mode(&root)), (0, 0o700));
            task_files.remove_all().unwrap();
            assert!(!root.exists());
        });
    }

    #[test]
    fn a_missing_secret_is_named_and_waited_for() {
        on_a_disk(|_, memory| {
            let task = task();
            let nothing = Dependencies::fixed(&task, Vec::new(), Vec::new());
            let error = TaskFiles::new(memory.join("swarm")).write(&task, &nothing).unwrap_err();
            assert!(
                matches!(&error, ExecError::Temporary { action, .. } if action.contains("pw")),
                "{error}"
            );
        });
    }
}
