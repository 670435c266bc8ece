//! The files of this crate in a container's bundle.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use skep_sys::files::{self, Durability};

use crate::blocking::blocking;
use crate::cgroup::Cgroup;
use crate::error::{CreateError, DeleteError};
use crate::proto::{self, ExitStatus, ShimConfig};

/// Writes what the shim reads, and removes what an earlier container left.
pub(super) async fn write(
    id: &str,
    bundle: &Path,
    config: &ShimConfig,
    spec: &Spec,
) -> Result<(), CreateError> {
    let encode = |what, source| CreateError::Encode { id: id.to_owned(), what, source };
    let spec = serde_json::to_vec(spec).map_err(|e| encode("spec", e))?;
    let config = serde_json::to_vec(config).map_err(|e| encode("shim settings", e))?;
    let bundle = bundle.to_owned();
    blocking(move || {
        let at = |path: PathBuf| move |source| CreateError::Bundle { path, source };
        files::make_dirs(&bundle, 0o700).map_err(at(bundle.clone()))?;
        remove_files(&bundle).map_err(|(path, source)| CreateError::Bundle { path, source })?;
        for (name, bytes) in [(proto::SPEC_FILE, &spec), (proto::CONFIG_FILE, &config)] {
            let path = bundle.join(name);
            files::replace(&path, bytes, 0o600, Durability::Volatile).map_err(at(path.clone()))?;
        }
        Ok(())
    })
    .await
}

/// The control group of a bundle's container: from the shim's settings or, where those cannot be read, from the spec.
/// `None` if both are missing.
///
/// # Errors
/// Those of the settings.
pub(super) async fn find_cgroup(bundle: &Path) -> io::Result<Option<PathBuf>> {
    let bundle = bundle.to_owned();
    blocking(move || {
        let read = |name: &str| files::read(&bundle.join(name));
        let settings = read(proto::CONFIG_FILE).and_then(|bytes| {
            let settings = bytes.map(|bytes| serde_json::from_slice::<ShimConfig>(&bytes));
            Ok(settings.transpose()?.map(|settings| settings.cgroup))
        });
        if let Ok(Some(cgroup)) = settings {
            return Ok(Some(cgroup));
        }
        let spec = read(proto::SPEC_FILE).ok().flatten();
        let spec = spec.and_then(|bytes| serde_json::from_slice::<Spec>(&bytes).ok());
        let cgroup = spec.and_then(|spec| spec.linux().as_ref()?.cgroups_path().clone());
        cgroup.map_or(settings, |cgroup| Ok(Some(cgroup)))
    })
    .await
}

/// The exit status in a bundle, if it has one. One that makes no sense is none: it will not get better.
pub(super) async fn read_exit(bundle: &Path) -> io::Result<Option<ExitStatus>> {
    let path = bundle.join(proto::EXIT_FILE);
    let file = path.clone();
    match blocking(move || files::read(&file)).await? {
        Some(bytes) => match serde_json::from_slice(&bytes) {
            Ok(status) => Ok(Some(status)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an exit status makes no sense");
                Ok(None)
            }
        },
        None => Ok(None),
    }
}

/// Kills what is left in the control groups, removes them and our files in the bundle.
pub(super) async fn remove_remains(
    id: &str,
    bundle: &Path,
    cgroup: &Cgroup,
) -> Result<(), DeleteError> {
    let (id, bundle, cgroup) = (id.to_owned(), bundle.to_owned(), cgroup.clone());
    blocking(move || {
        cgroup.kill_and_remove().map_err(|source| DeleteError::Cgroup { id, source })?;
        remove_files(&bundle).map_err(|(path, source)| DeleteError::File { path, source })
    })
    .await
}

/// Removes everything this crate puts into a bundle. The settings go last: as long as they are
/// there, a repeated clean-up finds the control group.
fn remove_files(bundle: &Path) -> Result<(), (PathBuf, io::Error)> {
    let state = bundle.join(crate::launch::STATE_DIR);
    files::remove_tree(&state).map_err(|source| (state, source))?;
    for name in [
        proto::SOCKET,
        crate::shim::LOG_FILE,
        proto::EXIT_FILE,
        proto::SPEC_FILE,
        proto::CONFIG_FILE,
    ] {
        let path = bundle.join(name);
        files::remove_tree(&path).map_err(|source| (path, source))?;
    }
    Ok(())
}
