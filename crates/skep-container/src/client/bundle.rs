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

/// The shim's settings in a bundle.
pub(super) async fn read_config(bundle: &Path) -> io::Result<ShimConfig> {
    let bytes = tokio::fs::read(bundle.join(proto::CONFIG_FILE)).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The exit status in a bundle, if it has one. One that makes no sense is none: it will not get better.
pub(super) async fn read_exit(bundle: &Path) -> io::Result<Option<ExitStatus>> {
    let path = bundle.join(proto::EXIT_FILE);
    match tokio::fs::read(&path).await {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(status) => Ok(Some(status)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an exit status makes no sense");
                Ok(None)
            }
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
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
        files::remove_file(&path, Durability::Volatile).map_err(|source| (path, source))?;
    }
    Ok(())
}
