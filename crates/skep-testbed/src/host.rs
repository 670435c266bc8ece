use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::command::{Finished, run};
use crate::{Daemon, Image, until};

/// Namespaces held open by their first process; dropping this kills all that runs in them.
pub(crate) struct Namespaces {
    holder: Child,
    first: u32,
}

impl Namespaces {
    pub(crate) fn create(name: &str) -> Result<Self> {
        // The holder dies with the process that made it, and the namespaces' processes with it.
        let holder = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--uts",
                "--pid",
                "--fork",
            ])
            .args(["--kill-child", "--mount-proc", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("make the namespaces of {name}"))?;
        let outer = holder.id();
        let first = until("the namespaces' first process", Duration::from_secs(5), || {
            let children = format!("/proc/{outer}/task/{outer}/children");
            let text = std::fs::read_to_string(&children).map_err(|error| anyhow!("{error}"))?;
            let pid: u32 = text.trim().parse().map_err(|_| anyhow!("children: {text:?}"))?;
            // Once it has become `sleep`, its mounts are in place.
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"))?;
            if comm.trim() == "sleep" { Ok(pid) } else { Err(anyhow!("still {comm}")) }
        })?;
        Ok(Self { holder, first })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.first
    }

    /// A command that will run inside.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.first.to_string(), "-n", "-m", "-u", "-p", "-r", "-w"])
            .arg(program)
            .args(args);
        command
    }

    pub(crate) fn sh(&self, script: &str) -> Result<Finished> {
        run(&mut self.command("sh", &["-c", script]))
    }

    /// Runs a shell line in the network namespace only, so that process ids mean what they mean to
    /// the machine.
    pub(crate) fn net_sh(&self, script: &str) -> Result<Finished> {
        run(Command::new("nsenter").args(["-t", &self.first.to_string(), "-n", "sh", "-c", script]))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // The first process is killed with its holder, and all others in the PID namespace with it.
        if let Err(error) = self.holder.kill().and_then(|()| self.holder.wait().map(drop)) {
            eprintln!("stop the namespaces' holder: {error}");
        }
        // It ends after all the others. Whoever inherits it may take its time to collect it.
        let path = format!("/proc/{}/stat", self.first);
        let gone = until("the namespaces' processes to end", Duration::from_secs(10), || {
            let Ok(stat) = std::fs::read_to_string(&path) else { return Ok(()) };
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if state == Some('Z') { Ok(()) } else { Err(anyhow!("its state is {state:?}")) }
        });
        if let Err(error) = gone {
            eprintln!("{error:#}");
        }
    }
}

/// One host of a bed.
pub struct Host {
    name: String,
    address: Ipv4Addr,
    folder: PathBuf,
    spaces: Namespaces,
    skep: PathBuf,
    cgroup_parent: String,
}

impl Host {
    pub(crate) fn new(
        name: &str,
        address: Ipv4Addr,
        folder: PathBuf,
        spaces: Namespaces,
        skep: PathBuf,
        cgroup_parent: String,
    ) -> Self {
        Self { name: name.to_owned(), address, folder, spaces, skep, cgroup_parent }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Control group for the containers of this host, removed with its bed. [`Host::daemon`] sets it.
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// Process id by which `nsenter -t` reaches the host from the machine.
    pub fn pid(&self) -> u32 {
        self.spaces.pid()
    }

    /// Starts `skep daemon` with Docker's default paths and waits until it answers.
    pub fn daemon(&self, more: &[&str]) -> Result<Daemon> {
        Daemon::start(self, &self.skep, &self.cgroup_parent, more)
    }

    /// What [`Host::daemon`] starts, as a line to type on the host.
    pub fn daemon_line(&self, skep: &Path) -> String {
        format!("{} {}", skep.display(), crate::daemon::arguments(&self.cgroup_parent).join(" "))
    }

    /// Where its daemons log, as the machine sees it.
    pub fn log_path(&self) -> PathBuf {
        self.folder.join("daemon.log")
    }

    /// A command that will run on the host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        self.spaces.command(program, args)
    }

    /// Runs a shell line on the host.
    pub fn sh(&self, line: &str) -> Result<Finished> {
        self.spaces.sh(line)
    }

    /// Runs the `docker` client on the host; its output, or an error that shows it.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        self.try_docker(args)?.text()
    }

    /// The same for calls that are expected to fail.
    pub fn try_docker(&self, args: &[&str]) -> Result<Finished> {
        run(&mut self.command("docker", args))
    }

    /// Imports an image through the `docker` client.
    pub fn import(&self, bed: &crate::Bed, image: &Image) -> Result<()> {
        let archive = bed.archive(image)?;
        let archive = archive.to_str().context("a path in UTF-8")?;
        let mut args = vec!["import"];
        for change in image.changes() {
            args.extend(["--change", change]);
        }
        args.extend([archive, image.reference()]);
        self.docker(&args)?;
        Ok(())
    }
}
