use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::{Host, until};

/// Debian's `docker-registry` on a host, port 5000, without TLS.
pub struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    pub fn start(host: &Host) -> Result<Self> {
        let folder = host.folder().join("registry");
        std::fs::create_dir_all(&folder).context("make the registry's folder")?;
        let settings = folder.join("config.yml");
        std::fs::write(
            &settings,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: 0.0.0.0:5000}}\n",
                folder.join("data").display()
            ),
        )
        .context("write the registry's settings")?;
        let settings = settings.to_str().context("a path in UTF-8")?;
        let child = host
            .command("docker-registry", &["serve", settings])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start docker-registry")?;
        let address = format!("{}:5000", host.address());
        until("the registry to answer", Duration::from_secs(10), || {
            let answer = host.sh(&format!("curl -sf http://{address}/v2/"));
            match answer {
                Ok(answer) if answer.success() => Ok(()),
                Ok(answer) => Err(anyhow!("{:?}", answer.code)),
                Err(error) => Err(error),
            }
        })?;
        Ok(Self { child, address })
    }

    /// host:port, as it stands in image references.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            eprintln!("stop the registry: {error}");
        }
    }
}
