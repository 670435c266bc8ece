use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run;

/// An image made of programs that the machine has, with the libraries they need.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    reference: String,
    programs: Vec<(PathBuf, String)>,
    files: Vec<(String, String)>,
    folders: Vec<String>,
    changes: Vec<String>,
}

impl Image {
    /// An empty image that will be known as `reference`.
    pub fn new(reference: &str) -> Self {
        let name = reference.replace(['/', ':'], "-");
        let folders =
            ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/tmp"];
        let files = [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            ),
            ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ];
        Self {
            name,
            reference: reference.to_owned(),
            programs: Vec::new(),
            files: files.map(|(path, text)| (path.to_owned(), text.to_owned())).to_vec(),
            folders: folders.map(str::to_owned).to_vec(),
            changes: Vec::new(),
        }
    }

    /// Debian's static busybox with a link for each of its applets.
    pub fn busybox() -> Self {
        Self::new("busybox:latest").with_busybox().change("CMD [\"sh\"]")
    }

    /// skep's own `whoami`, on port 8000, with busybox beside it.
    pub fn whoami(program: &Path) -> Self {
        Self::new("whoami:latest")
            .with_busybox()
            .program(program, "bin/whoami")
            .change("CMD [\"/bin/whoami\"]")
            .change("EXPOSE 8000")
    }

    /// Debian's nginx on port 80, which answers every path with one line of text. Files are sent as its
    /// own settings have it.
    pub fn nginx() -> Self {
        let settings = "daemon off;\nworker_processes 1;\npid /tmp/nginx.pid;\nerror_log stderr;\n\
             events { worker_connections 1024; }\n\
             http { access_log off; keepalive_requests 1000000; sendfile on; tcp_nopush on;\n\
             client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;\n\
             uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;\n\
             server { listen 80 backlog=4096; location / { return 200 \"$hostname $remote_addr\\n\"; }\n\
             location /big { root /srv; } } }\n";
        Self::new("nginx:latest")
            .with_busybox()
            .program(Path::new("/usr/sbin/nginx"), "usr/sbin/nginx")
            .file("etc/nginx/nginx.conf", settings)
            .folder("var/log/nginx")
            .folder("var/lib/nginx")
            .folder("srv")
            .change("CMD [\"/usr/sbin/nginx\", \"-c\", \"/etc/nginx/nginx.conf\"]")
            .change("EXPOSE 80")
            .change("STOPSIGNAL SIGQUIT")
    }

    /// The same contents under another name.
    pub fn named(mut self, reference: &str) -> Self {
        self.name = reference.replace(['/', ':'], "-");
        self.reference = reference.to_owned();
        self
    }

    fn with_busybox(self) -> Self {
        self.program(Path::new("/bin/busybox"), "bin/busybox")
    }

    pub fn program(mut self, from: &Path, to: &str) -> Self {
        self.programs.push((from.to_owned(), to.to_owned()));
        self
    }

    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    pub fn folder(mut self, path: &str) -> Self {
        self.folders.push(path.to_owned());
        self
    }

    pub fn change(mut self, instruction: &str) -> Self {
        self.changes.push(instruction.to_owned());
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn reference(&self) -> &str {
        &self.reference
    }

    pub fn changes(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().map(String::as_str)
    }

    /// Writes the root file system as a tar archive for `docker import`.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let root = tempfile::tempdir().context("make a folder for the image")?;
        for folder in &self.folders {
            std::fs::create_dir_all(root.path().join(folder))?;
        }
        for (path, text) in &self.files {
            let path = root.path().join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        for (from, to) in &self.programs {
            copy(from, &root.path().join(to))?;
            for library in libraries(from)? {
                let relative = library.strip_prefix("/").context("an absolute library path")?;
                copy(&library, &root.path().join(relative))?;
            }
        }
        if root.path().join("bin/busybox").exists() {
            link_applets(root.path())?;
        }
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(root.path()).args(["--owner=0", "--group=0", "--numeric-owner", "-cf"]);
        run(tar.arg(archive).arg("."))?.text()?;
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

/// The shared libraries a program loads, as `ldd` tells; none for a static one.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let listing = run(Command::new("ldd").arg(program))?;
    if !listing.success() {
        if listing.stderr.contains("not a dynamic executable")
            || listing.stdout.contains("not a dynamic")
        {
            return Ok(BTreeSet::new());
        }
        bail!("ldd {}: {}", program.display(), listing.stderr);
    }
    Ok(listing
        .stdout
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}

fn link_applets(root: &Path) -> Result<()> {
    let list = run(Command::new("/bin/busybox").arg("--list"))?.text()?;
    for applet in list.lines().filter(|applet| *applet != "busybox") {
        let link = root.join("bin").join(applet);
        if !link.exists() {
            std::os::unix::fs::symlink("busybox", &link)
                .with_context(|| format!("link {}", link.display()))?;
        }
    }
    Ok(())
}
