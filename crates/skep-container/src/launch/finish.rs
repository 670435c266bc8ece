//! The last steps in the container's process: limits, filter, user, capabilities, execve.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, PROC_SUPER_MAGIC, TMPFS_MAGIC, fstatfs, statfs};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};
use oci_spec::runtime::{Capabilities, Capability, PosixRlimit, PosixRlimitType, Process, Spec};
use skep_sys::files;
use skep_sys::seccomp::Instruction;

use super::command::execute;
use super::report::{Report, Reporter};
use crate::init;
use crate::seccomp;
use crate::spec::{ALL_CAPABILITIES, home_of};

/// The exit code of a process that could not be set up, as Docker's.
const SETUP_FAILED: i32 = 128;

/// What is left to do, worked out before any fork. libcontainer calls it as its executor.
#[derive(Clone)]
pub(crate) struct Finish(Rc<Plan>);

struct Plan {
    args: Vec<String>,
    env: Vec<String>,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    caps: CapabilityPlan,
    no_new_privileges: bool,
    /// AppArmor profile from execve on.
    apparmor: Option<String>,
    rlimits: Vec<PosixRlimit>,
    filter: Option<Vec<Instruction>>,
    /// Whether to stay as process 1 and run the command as a child.
    init: bool,
    /// Where control groups are mounted and must not be written.
    read_only_cgroups: Option<PathBuf>,
    reporter: Reporter,
}

#[derive(Default)]
struct CapabilityPlan {
    bounding: u64,
    permitted: u64,
    effective: u64,
    inheritable: u64,
    ambient: u64,
}

impl Finish {
    /// For a container's init process.
    pub(super) fn of_spec(
        spec: &Spec,
        init: bool,
        reporter: Reporter,
    ) -> Result<Finish, Box<dyn std::error::Error>> {
        let process = spec.process().as_ref().ok_or("the spec has no process")?;
        let cgroups = spec.mounts().iter().flatten().find(|mount| {
            mount.typ().as_deref() == Some("cgroup")
                && mount.options().iter().flatten().any(|option| option == "ro")
        });
        let cgroups = cgroups.map(|mount| mount.destination().clone());
        Finish::new(process, spec, init, cgroups, reporter)
    }

    /// For a process in the container of `spec`, whose filter applies to all its processes.
    pub(super) fn of_process(
        process: &Process,
        spec: &Spec,
        reporter: Reporter,
    ) -> Result<Finish, Box<dyn std::error::Error>> {
        Finish::new(process, spec, false, None, reporter)
    }

    fn new(
        process: &Process,
        spec: &Spec,
        init: bool,
        read_only_cgroups: Option<PathBuf>,
        reporter: Reporter,
    ) -> Result<Finish, Box<dyn std::error::Error>> {
        let profile = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
        let filter = profile.map(seccomp::compile).transpose()?;
        let mask = |set: &Option<Capabilities>| set.as_ref().map_or(0, mask_of);
        let caps = process.capabilities().as_ref().map_or_else(CapabilityPlan::default, |caps| {
            CapabilityPlan {
                bounding: mask(caps.bounding()),
                permitted: mask(caps.permitted()),
                effective: mask(caps.effective()),
                inheritable: mask(caps.inheritable()),
                ambient: mask(caps.ambient()),
            }
        });
        let user = process.user();
        Ok(Finish(Rc::new(Plan {
            args: process.args().clone().unwrap_or_default(),
            env: process.env().clone().unwrap_or_default(),
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            caps,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            apparmor: process.apparmor_profile().clone().filter(|name| !name.is_empty()),
            rlimits: process.rlimits().clone().unwrap_or_default(),
            filter,
            init,
            read_only_cgroups,
            reporter,
        })))
    }
}

impl Executor for Finish {
    /// Never returns: the process either becomes its command or ends here.
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let plan = &self.0;
        let code = match plan.prepare() {
            Ok(env) if plan.init => init::run(|| plan.execute(&env)),
            Ok(env) => plan.execute(&env),
            Err((what, error)) => {
                plan.reporter.send(&Report::Failed { message: format!("{what}: {error}") });
                SETUP_FAILED
            }
        };
        std::process::exit(code)
    }

    /// Commands are judged where they are executed, as the user they run as.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// The environment is handed to execve, so this process needs none.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

impl Plan {
    /// Becomes the command, or tells why not and gives the exit code.
    fn execute(&self, env: &[String]) -> i32 {
        if let Err(e) = skep_sys::signals::reset_signals() {
            self.reporter
                .send(&Report::Failed { message: format!("could not reset signals: {e}") });
            return SETUP_FAILED;
        }
        let failure = execute(&self.args, env);
        let code = failure.exit_code();
        self.reporter.send(&Report::NotExecuted { failure });
        code
    }

    /// Everything up to execve; gives the environment. The order matters: without no_new_privs the
    /// filter needs CAP_SYS_ADMIN, so it comes before the capabilities go; the bounding set and the
    /// user need capabilities too, so those go last.
    fn prepare(&self) -> Result<Vec<String>, (&'static str, io::Error)> {
        let step = |what| move |e: io::Error| (what, e);
        let errno = |what| move |e: nix::errno::Errno| (what, io::Error::from(e));

        if let Some(at) = &self.read_only_cgroups {
            lock_cgroups(at).map_err(step("could not make the control groups read-only"))?;
        }
        for limit in &self.rlimits {
            self.set_limit(limit);
        }
        self.own_stdio().map_err(step("could not give the standard streams to the user"))?;
        if let Some(profile) = &self.apparmor {
            confine_on_exec(profile).map_err(step("unable to apply apparmor profile"))?;
        }
        let mut env = self.env.clone();
        if !env.iter().any(|e| e.starts_with("HOME=")) {
            // The container's, which may be anything.
            let passwd = files::read(Path::new("/etc/passwd")).ok().flatten().unwrap_or_default();
            let passwd = String::from_utf8_lossy(&passwd);
            env.push(format!("HOME={}", home_of(&passwd, self.uid)));
        }
        if !self.no_new_privileges {
            self.install_filter().map_err(step("could not install the seccomp filter"))?;
        }
        skep_sys::caps::limit_bounding(self.caps.bounding)
            .map_err(step("could not limit the bounding set"))?;
        nix::sys::prctl::set_keepcaps(true).map_err(errno("could not keep capabilities"))?;
        let groups: Vec<Gid> = self.groups.iter().map(|&g| Gid::from_raw(g)).collect();
        setgroups(&groups).map_err(errno("could not set supplementary groups"))?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setresgid(gid, gid, gid).map_err(errno("could not set the group"))?;
        setresuid(uid, uid, uid).map_err(errno("could not set the user"))?;
        // What the host's bounding set lacks cannot be had; asking for it would fail everything.
        let held = skep_sys::caps::get().map_err(step("could not read capabilities"))?.permitted;
        let permitted = self.caps.permitted & held;
        skep_sys::caps::set(skep_sys::caps::Sets {
            effective: self.caps.effective & permitted,
            permitted,
            inheritable: self.caps.inheritable & (held | self.caps.bounding),
        })
        .map_err(step("could not set capabilities"))?;
        skep_sys::caps::set_ambient(self.caps.ambient & permitted & self.caps.inheritable)
            .map_err(step("could not set ambient capabilities"))?;
        if self.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().map_err(errno("could not set no_new_privs"))?;
            self.install_filter().map_err(step("could not install the seccomp filter"))?;
        }
        Ok(env)
    }

    fn install_filter(&self) -> io::Result<()> {
        self.filter.as_deref().map_or(Ok(()), skep_sys::seccomp::install)
    }

    /// Pipes and terminals belong to root; a user who opens /dev/stdout anew must own them.
    fn own_stdio(&self) -> io::Result<()> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        for fd in [
            std::os::fd::AsFd::as_fd(&stdin),
            std::os::fd::AsFd::as_fd(&stdout),
            std::os::fd::AsFd::as_fd(&stderr),
        ] {
            let stat = fstat(fd)?;
            let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
            let is_null = kind == SFlag::S_IFCHR && stat.st_rdev == nix::sys::stat::makedev(1, 3);
            if !is_null && stat.st_uid != self.uid {
                match fchown(fd, Some(Uid::from_raw(self.uid)), None) {
                    // A read-only file as standard stream stays as it is.
                    Ok(()) | Err(nix::errno::Errno::EROFS | nix::errno::Errno::EPERM) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
    }

    /// Sets a limit. Without CAP_SYS_RESOURCE the hard limit cannot be raised: then it becomes the
    /// highest this host allows, with a warning.
    fn set_limit(&self, limit: &PosixRlimit) {
        let Some(resource) = resource(limit.typ()) else {
            self.reporter.warn(format!("limit {:?} is not known here", limit.typ()));
            return;
        };
        if setrlimit(resource, limit.soft(), limit.hard()).is_ok() {
            return;
        }
        let highest = getrlimit(resource).map_or(0, |(_, hard)| hard);
        let (soft, hard) = (limit.soft().min(highest), limit.hard().min(highest));
        match setrlimit(resource, soft, hard) {
            Ok(()) => self.reporter.warn(format!(
                "{:?} cannot be {}:{} here; it is {soft}:{hard}",
                limit.typ(),
                limit.soft(),
                limit.hard()
            )),
            Err(e) => self.reporter.warn(format!("{:?} cannot be set here: {e}", limit.typ())),
        }
    }
}

/// Makes the hierarchies of control groups below `at`, and the folder they are in, read-only. libcontainer
/// does it for version 2 only.
fn lock_cgroups(at: &Path) -> io::Result<()> {
    if statfs(at)?.filesystem_type() != TMPFS_MAGIC {
        return Ok(());
    }
    let lock = |path: &Path| {
        let flags = MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV
            | MsFlags::MS_NOEXEC;
        mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
    };
    for entry in std::fs::read_dir(at)? {
        let entry = entry?;
        // Links are other names of the same; what the user mounted here has its own mode.
        if entry.file_type()?.is_dir()
            && statfs(&entry.path())?.filesystem_type() == CGROUP_SUPER_MAGIC
        {
            lock(&entry.path())?;
        }
    }
    Ok(lock(at)?)
}

/// Makes the next execve of this thread (and of children forked before it) enter an AppArmor profile.
///
/// The file is written only if it is the kernel's: an image can make `/proc` a volume with files of its
/// own, and would run unconfined.
fn confine_on_exec(profile: &str) -> io::Result<()> {
    // Kernels with several security modules have a folder for each; before, there was one for all.
    let own = OpenOptions::new().write(true).open("/proc/thread-self/attr/apparmor/exec");
    let mut file = match own {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().write(true).open("/proc/thread-self/attr/exec")?
        }
        other => other?,
    };
    if fstatfs(&file)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(io::Error::other("/proc is not the kernel's"));
    }
    file.write_all(format!("exec {profile}").as_bytes())
}

fn mask_of(set: &Capabilities) -> u64 {
    set.iter().fold(0, |mask, &cap| mask | (1 << capability_number(cap)))
}

/// The kernel's number of a capability.
pub(crate) fn capability_number(cap: Capability) -> u8 {
    let at = ALL_CAPABILITIES.iter().position(|&c| c == cap);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(63)
}

fn resource(kind: PosixRlimitType) -> Option<Resource> {
    use PosixRlimitType as P;
    Some(match kind {
        P::RlimitCpu => Resource::RLIMIT_CPU,
        P::RlimitFsize => Resource::RLIMIT_FSIZE,
        P::RlimitData => Resource::RLIMIT_DATA,
        P::RlimitStack => Resource::RLIMIT_STACK,
        P::RlimitCore => Resource::RLIMIT_CORE,
        P::RlimitRss => Resource::RLIMIT_RSS,
        P::RlimitNproc => Resource::RLIMIT_NPROC,
        P::RlimitNofile => Resource::RLIMIT_NOFILE,
        P::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        P::RlimitAs => Resource::RLIMIT_AS,
        P::RlimitLocks => Resource::RLIMIT_LOCKS,
        P::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        P::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        P::RlimitNice => Resource::RLIMIT_NICE,
        P::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        P::RlimitRttime => Resource::RLIMIT_RTTIME,
    })
}
