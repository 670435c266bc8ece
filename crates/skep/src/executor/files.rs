//! A task's secrets and configs as files: written below the exec root, which is on memory, and
//! bind-mounted into the container.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use skep_agent::{Dependencies, ExecError};
use skep_types::{Driver, FileTarget, Mount, MountType, Task, TaskId};

fn folder(root: &Path, task: &TaskId) -> PathBuf {
    root.join(task.as_str())
}

/// Writes the task's files and returns the mounts that show them. Written again after a restart of
/// the daemon, with the same contents.
pub fn write(
    root: &Path,
    task: &Task,
    dependencies: &Dependencies,
) -> Result<Vec<Mount>, ExecError> {
    let Some(spec) = &task.spec.container_spec else { return Ok(Vec::new()) };
    let folder = folder(root, &task.id);
    let mut mounts = Vec::new();
    for (number, reference) in spec.secrets.iter().enumerate() {
        let Some(target) = &reference.file else { continue };
        let secret = dependencies
            .secret(&reference.secret_id)
            .ok_or_else(|| not_yet("secret", &reference.secret_name))?;
        let data = rendered(dependencies, secret.spec.templating.as_ref(), &secret.spec.data.0)?;
        let source = put(&folder.join("secrets"), number, target, &data)?;
        mounts.push(mount(&source, &absolute("/run/secrets", &target.name)));
    }
    for (number, reference) in spec.configs.iter().enumerate() {
        let Some(target) = &reference.file else { continue };
        let config = dependencies
            .config(&reference.config_id)
            .ok_or_else(|| not_yet("config", &reference.config_name))?;
        let data = rendered(dependencies, config.spec.templating.as_ref(), &config.spec.data.0)?;
        let source = put(&folder.join("configs"), number, target, &data)?;
        mounts.push(mount(&source, &absolute("/", &target.name)));
    }
    Ok(mounts)
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
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        let mut file = File::create(&path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(data)?;
        chown(&path, Some(uid), Some(gid))?;
        file.set_permissions(Permissions::from_mode(target.mode & 0o777))
    };
    write().map_err(|source| ExecError::temporary(format!("write {}", path.display()), source))?;
    Ok(path)
}

/// Removes the task's files, if it has any.
pub fn remove(root: &Path, task: &TaskId) -> io::Result<()> {
    gone(&folder(root, task))
}

/// Removes every task's files.
pub fn remove_all(root: &Path) -> io::Result<()> {
    gone(root)
}

fn gone(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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

    #[test]
    fn a_secret_becomes_a_private_file_and_goes_again() {
        let root = tempfile::tempdir().unwrap();
        let mut secret = Secret { id: "s1".into(), ..Default::default() };
        secret.spec.data = b"hush".to_vec().into();
        let task = task();
        let dependencies = Dependencies::fixed(&task, vec![secret], Vec::new());
        let mounts = write(root.path(), &task, &dependencies).unwrap();
        assert_eq!(mounts[0].target, "/run/secrets/pw");
        assert!(mounts[0].read_only);
        let data = fs::metadata(&mounts[0].source).unwrap();
        assert_eq!(data.permissions().mode() & 0o777, 0o440);
        assert_eq!(fs::read(&mounts[0].source).unwrap(), b"hush");
        remove(root.path(), &task.id).unwrap();
        remove(root.path(), &task.id).unwrap();
        assert!(!Path::new(&mounts[0].source).exists());
    }

    #[test]
    fn a_missing_secret_is_named_and_waited_for() {
        let task = task();
        let dependencies = Dependencies::fixed(&task, Vec::new(), Vec::new());
        let error = write(Path::new("/nowhere"), &task, &dependencies).unwrap_err();
        assert!(
            matches!(&error, ExecError::Temporary { action, .. } if action.contains("pw")),
            "{error}"
        );
    }
}
