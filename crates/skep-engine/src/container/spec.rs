//! From a container's record to the OCI spec that the runtime takes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard_stubs::models::HostConfigCgroupnsModeEnum as CgroupnsMode;
use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceCgroup, Mount, PosixRlimit, Process, Root, Spec, User,
    UserBuilder,
};
use skep_container::cgroup::Layout;
use skep_container::spec::{self, Environment, Namespace, Namespaces, ResolvedUser};
use skep_container::{seccomp, spec::rootfs};

use super::mounts::{self, MountEntry, MountKind};
use super::record::Record;
use super::resources;
use super::security::{self, Seccomp};
use super::subpath::PrivateBind;
use crate::config::EngineConfig;
use crate::error::{EngineError, Result};
use crate::system::apparmor::AppArmor;

/// What the spec depends on beside the record.
#[derive(Debug)]
pub struct SpecInput<'a> {
    pub record: &'a Record,
    pub config: &'a EngineConfig,
    /// The mounted root, to look into.
    pub rootfs: &'a Path,
    pub network: Namespace,
    pub pid: Namespace,
    pub ipc: Namespace,
    /// Another's or the host's `/dev/shm` instead of an own one.
    pub shm: Option<PathBuf>,
    /// Folder with `hosts`, `hostname` and `resolv.conf`.
    pub files: Option<PathBuf>,
    /// Parts of volumes: what the runtime gets in place of their names.
    pub parts: &'a [PrivateBind],
}

/// Builds the spec. Blocks: it reads the container's user database, looks at devices and makes the
/// working directory.
///
/// # Errors
/// `Invalid` for users, devices and options that cannot be; system errors.
pub fn build(input: &SpecInput<'_>) -> Result<Spec> {
    let record = input.record;
    let host = &record.host_config;
    let privileged = host.privileged.unwrap_or(false);

    let mut process = process(input.record, input.rootfs, &input.config.default_ulimits)?;
    let mut args = vec![record.path.clone()];
    args.extend(record.args.clone());
    process.set_args(Some(args));
    make_workdir(input.rootfs, process.cwd())?;

    let mut mounts = base_mounts(input, privileged);
    let extra = user_mounts(record, input.parts)?;
    mounts.retain(|m| !extra.iter().any(|e| e.destination() == m.destination()));
    let base = mounts.len();
    mounts.extend(file_mounts(input, &extra));
    mounts.extend(extra);
    follow_links(input.rootfs, &mut mounts, base)?;
    // Parents before children; within one depth in the order given.
    mounts.sort_by_key(|m| m.destination().components().count());

    let (devices, rules) = devices(record, privileged)?;
    let mut limits = resources::resources(host)?;
    limits.set_devices(Some(rules));

    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(input).to_spec()))
        .set_cgroups_path(Some(cgroup_path(record, input.config)))
        .set_resources(Some(limits))
        .set_devices(Some(devices))
        .set_sysctl(Some(sysctls(input)))
        .set_masked_paths(host.masked_paths.clone().filter(|_| !privileged))
        .set_readonly_paths(host.readonly_paths.clone().filter(|_| !privileged))
        .set_rootfs_propagation(rootfs_propagation(&record.mounts).map(str::to_owned))
        .set_seccomp(None);
    let caps = process_caps(record, privileged)?;
    let options = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let profile =
        |e: seccomp::ProfileError| EngineError::system("could not prepare the seccomp profile", e);
    linux.set_seccomp(match &options.seccomp {
        Seccomp::Unconfined => None,
        Seccomp::Default if privileged => None,
        Seccomp::Default => Some(seccomp::default_profile(&caps).map_err(profile)?),
        Seccomp::Profile(json) => Some(seccomp::parse_profile(json, &caps).map_err(profile)?),
    });

    let mut root = Root::default();
    root.set_path(input.config.root_point())
        .set_readonly(Some(host.readonly_rootfs.unwrap_or(false)));
    let mut spec = Spec::default();
    let own_uts = host.uts_mode.as_deref() != Some("host");
    let text = |s: &Option<String>| s.clone().filter(|s| !s.is_empty() && own_uts);
    spec.set_root(Some(root))
        .set_mounts(Some(mounts))
        .set_process(Some(process))
        .set_hostname(text(&record.config.hostname))
        .set_domainname(text(&record.config.domainname))
        .set_annotations(host.annotations.clone())
        .set_linux(Some(linux));
    Ok(spec)
}

/// The process of a container or, with other arguments, of an exec: user, environment, directory,
/// capabilities and limits. Arguments are left empty.
///
/// # Errors
/// `Invalid` for unknown users; system errors.
pub fn process(
    record: &Record,
    root: &Path,
    default_ulimits: &[(String, i64, i64)],
) -> Result<Process> {
    let host = &record.host_config;
    let privileged = host.privileged.unwrap_or(false);
    let user = user(
        root,
        record.config.user.as_deref().unwrap_or(""),
        host.group_add.as_deref().unwrap_or_default(),
    )?;
    let mut env = Environment::base(record.config.hostname.as_deref().unwrap_or(""), record.tty());
    env.extend(record.config.env.iter().flatten().map(String::as_str));
    env.set_default(&format!("HOME={}", user.home));
    let options = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let cwd = record.config.working_dir.as_deref().filter(|d| !d.is_empty()).unwrap_or("/");
    let mut process = Process::default();
    process
        .set_terminal(Some(record.tty()))
        .set_user(oci_user(&user)?)
        .set_env(Some(env.into_entries()))
        .set_cwd(cwd.into())
        .set_args(None)
        .set_capabilities(Some(capability_sets(&process_caps(record, privileged)?)?))
        .set_rlimits(Some(rlimits(record, default_ulimits)?))
        .set_no_new_privileges(Some(options.no_new_privileges))
        .set_apparmor_profile(AppArmor::host().profile(options.apparmor.as_deref(), privileged))
        .set_oom_score_adj(
            host.oom_score_adj.and_then(|v| i32::try_from(v).ok()).filter(|v| *v != 0),
        );
    Ok(process)
}

/// Capability sets of a process in the OCI's shape.
///
/// # Errors
/// System errors.
pub fn capability_sets(
    caps: &oci_spec::runtime::Capabilities,
) -> Result<oci_spec::runtime::LinuxCapabilities> {
    spec::process_capabilities(caps)
        .map_err(|e| EngineError::system("could not build the capability sets", e))
}

/// Looks a user up in a container's files.
///
/// # Errors
/// `Invalid` with Docker's texts.
pub fn user(root: &Path, user: &str, groups: &[String]) -> Result<ResolvedUser> {
    spec::resolve_user(root, user, groups)
        .map_err(|e| EngineError::Invalid(crate::error::report(&e)))
}

/// A user in the OCI's shape.
///
/// # Errors
/// System errors.
pub fn oci_user(user: &ResolvedUser) -> Result<User> {
    UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.groups.clone())
        .build()
        .map_err(|e| EngineError::system("could not build the user", e))
}

fn process_caps(record: &Record, privileged: bool) -> Result<oci_spec::runtime::Capabilities> {
    if privileged {
        return Ok(spec::all_capabilities());
    }
    let host = &record.host_config;
    spec::capabilities(
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
    )
    .map_err(|e| EngineError::Invalid(crate::error::report(&e)))
}

fn rlimits(record: &Record, defaults: &[(String, i64, i64)]) -> Result<Vec<PosixRlimit>> {
    let mut all: Vec<(String, i64, i64)> = defaults.to_vec();
    for own in record.host_config.ulimits.iter().flatten() {
        let name = own.name.clone().unwrap_or_default();
        all.retain(|(n, ..)| *n != name);
        all.push((name, own.soft.unwrap_or(0), own.hard.unwrap_or(0)));
    }
    all.iter()
        .map(|(name, soft, hard)| {
            spec::rlimit(name, *soft, *hard).map_err(|e| EngineError::Invalid(e.to_string()))
        })
        .collect()
}

fn make_workdir(root: &Path, cwd: &Path) -> Result<()> {
    if cwd == Path::new("/") {
        return Ok(());
    }
    // A mount may provide it, or the root be read only: the runtime then says what is wrong.
    match rootfs::make_dir(root, cwd, 0, 0) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            Err(EngineError::Invalid(format!("Cannot mkdir: {} is not a directory", cwd.display())))
        }
        Err(source) => Err(EngineError::File {
            action: "make the working directory",
            path: cwd.to_owned(),
            source,
        }),
    }
}

fn namespaces(input: &SpecInput<'_>) -> Namespaces {
    let host = &input.record.host_config;
    let unified = Layout::host().is_unified();
    let own_cgroup = match host.cgroupns_mode {
        Some(CgroupnsMode::PRIVATE) => true,
        Some(CgroupnsMode::HOST) => false,
        _ => unified && !host.privileged.unwrap_or(false),
    };
    Namespaces {
        pid: input.pid.clone(),
        network: input.network.clone(),
        ipc: input.ipc.clone(),
        uts: if host.uts_mode.as_deref() == Some("host") {
            Namespace::Host
        } else {
            Namespace::New
        },
        cgroup: if own_cgroup { Namespace::New } else { Namespace::Host },
    }
}

/// The container's control group, equal in every hierarchy.
pub fn cgroup_path(record: &Record, config: &EngineConfig) -> PathBuf {
    let own = record.host_config.cgroup_parent.as_deref().filter(|p| !p.is_empty());
    let parent = own.unwrap_or(&config.cgroup_parent).trim_start_matches('/');
    Path::new("/").join(parent).join(&record.id)
}

/// The control group of a container of which nothing but the id is known.
pub fn default_cgroup(id: &str, config: &EngineConfig) -> PathBuf {
    Path::new("/").join(config.cgroup_parent.trim_start_matches('/')).join(id)
}

fn sysctls(input: &SpecInput<'_>) -> HashMap<String, String> {
    let mut all = HashMap::new();
    let own_network = matches!(input.network, Namespace::New | Namespace::Join(_))
        && !input.record.network_mode().starts_with("container:");
    if own_network {
        // As Docker does, so that images of web servers need neither root nor a capability.
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        all.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    all.extend(input.record.host_config.sysctls.clone().unwrap_or_default());
    all
}

fn base_mounts(input: &SpecInput<'_>, privileged: bool) -> Vec<Mount> {
    let size = input
        .record
        .host_config
        .shm_size
        .and_then(|s| u64::try_from(s).ok())
        .unwrap_or(spec::DEFAULT_SHM_SIZE);
    let mut mounts =
        if privileged { spec::privileged_mounts(size) } else { spec::default_mounts(size) };
    let ipc = input.record.host_config.ipc_mode.as_deref().unwrap_or("");
    if ipc == "none" {
        mounts.retain(|m| m.destination() != Path::new("/dev/shm"));
    }
    if let Some(shm) = &input.shm {
        mounts.retain(|m| m.destination() != Path::new("/dev/shm"));
        mounts.push(mount("/dev/shm", "bind", &shm.to_string_lossy(), &["rbind", "rprivate"]));
    }
    if ipc == "host" {
        mounts.retain(|m| m.destination() != Path::new("/dev/mqueue"));
        if Path::new("/dev/mqueue").is_dir() {
            mounts.push(mount(
                "/dev/mqueue",
                "bind",
                "/dev/mqueue",
                &["rbind", "nosuid", "noexec", "nodev"],
            ));
        }
    }
    if input.pid == Namespace::Host && !privileged {
        // A new proc mount would show the new PID namespace, of which there is none.
        for m in mounts.iter_mut().filter(|m| m.destination() == Path::new("/proc")) {
            m.set_options(Some(["nosuid", "noexec", "nodev"].map(str::to_owned).to_vec()));
        }
    }
    mounts
}

fn file_mounts(input: &SpecInput<'_>, extra: &[Mount]) -> Vec<Mount> {
    let Some(dir) = &input.files else { return Vec::new() };
    let access =
        if input.record.host_config.readonly_rootfs.unwrap_or(false) { "ro" } else { "rw" };
    [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")]
        .into_iter()
        .filter(|(_, target)| !extra.iter().any(|m| m.destination() == Path::new(target)))
        .filter(|(name, _)| dir.join(name).exists())
        .map(|(name, target)| {
            mount(target, "bind", &dir.join(name).to_string_lossy(), &["rbind", "rprivate", access])
        })
        .collect()
}

/// Puts mounts from the `from`th on where links in the root lead, also to what is not there yet: in many
/// images `/etc/resolv.conf` is a link to a file that only a running system has. The runtime makes mount
/// points, but follows links only to what exists.
fn follow_links(root: &Path, mounts: &mut [Mount], from: usize) -> Result<()> {
    let points: Vec<PathBuf> = mounts.iter().map(|m| m.destination().clone()).collect();
    for mount in &mut mounts[from..] {
        let point = mount.destination();
        // What another mount shows there cannot be seen from here.
        if points.iter().any(|other| point != other && point.starts_with(other)) {
            continue;
        }
        let leads = rootfs::resolve(root, point)
            .map_err(EngineError::file("look up the mount point", point))?;
        mount.set_destination(leads);
    }
    Ok(())
}

fn user_mounts(record: &Record, parts: &[PrivateBind]) -> Result<Vec<Mount>> {
    let mut all: Vec<Mount> = record.mounts.iter().map(|m| oci_mount(m, parts)).collect();
    for (path, options) in record.host_config.tmpfs.iter().flatten() {
        all.push(oci_mount(&mounts::parse_tmpfs(path, options)?, &[]));
    }
    Ok(all)
}

fn oci_mount(entry: &MountEntry, parts: &[PrivateBind]) -> Mount {
    match entry.kind {
        MountKind::Tmpfs => {
            let options: Vec<&str> = entry.tmpfs_options.iter().map(String::as_str).collect();
            mount(&entry.destination, "tmpfs", "tmpfs", &options)
        }
        MountKind::Bind | MountKind::Volume => {
            let mut options = vec![if entry.non_recursive { "bind" } else { "rbind" }];
            options.push(if entry.propagation.is_empty() {
                "rprivate"
            } else {
                &entry.propagation
            });
            if !entry.rw {
                options.push("ro");
                if !entry.non_recursive && !entry.read_only_non_recursive {
                    options.push("rro");
                }
            }
            let part = parts.iter().find(|part| part.destination == entry.destination);
            let source = part.map_or(entry.source.as_ref(), |part| part.source.as_path());
            mount(&entry.destination, "bind", &source.to_string_lossy(), &options)
        }
    }
}

/// What mounts pass on between host and container at all; `None` is the runtime's own choice, nothing
/// from the container to the host.
fn rootfs_propagation(mounts: &[MountEntry]) -> Option<&'static str> {
    let any = |words: [&str; 2]| mounts.iter().any(|m| words.contains(&m.propagation.as_str()));
    match () {
        () if any(["shared", "rshared"]) => Some("shared"),
        () if any(["slave", "rslave"]) => Some("slave"),
        () => None,
    }
}

fn devices(
    record: &Record,
    privileged: bool,
) -> Result<(Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>)> {
    let host = &record.host_config;
    let invalid = |e: spec::DeviceError| EngineError::Invalid(crate::error::report(&e));
    if privileged {
        return Ok((spec::host_devices().map_err(invalid)?, spec::privileged_device_rules()));
    }
    let (mut devices, mut rules) = (Vec::new(), spec::default_device_rules());
    for mapping in host.devices.iter().flatten() {
        let on_host = mapping.path_on_host.as_deref().unwrap_or("");
        let inside =
            mapping.path_in_container.as_deref().filter(|p| !p.is_empty()).unwrap_or(on_host);
        let access =
            mapping.cgroup_permissions.as_deref().filter(|p| !p.is_empty()).unwrap_or("rwm");
        for (device, rule) in
            spec::device(Path::new(on_host), Path::new(inside), access).map_err(invalid)?
        {
            devices.push(device);
            rules.push(rule);
        }
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        rules.push(resources::device_rule(rule)?);
    }
    Ok((devices, rules))
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}
