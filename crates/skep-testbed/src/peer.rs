use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::{Host, until};

/// Debian's Docker daemon on a host, to measure against. `scripts/peer` unpacks it.
pub struct Peer {
    _child: Child,
}

impl Peer {
    /// `folder` is where Debian's packages were unpacked.
    pub fn start(host: &Host, folder: &Path) -> Result<Self> {
        let folder: PathBuf = folder.canonicalize().context("find the unpacked Docker daemon")?;
        let log = File::create(host.folder().join("dockerd.log")).context("make a log file")?;
        let path = format!(
            "{0}/usr/bin:{0}/usr/sbin:{1}",
            folder.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let child = host
            .command("dockerd", &["--data-root", "/var/lib/skep", "--exec-root", "/run/docker"])
            .env("PATH", path)
            // Or each task would first wait for a registry that is not there.
            .env("DOCKER_SERVICE_PREFER_OFFLINE_IMAGE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        until("dockerd to answer", Duration::from_secs(30), || {
            host.docker(&["version", "--format", "{{.Server.Version}}"]).map_err(|error| {
                let log =
                    std::fs::read_to_string(host.folder().join("dockerd.log")).unwrap_or_default();
                anyhow!("{error:#}\n{log}")
            })
        })?;
        Ok(Self { _child: child })
    }
}
