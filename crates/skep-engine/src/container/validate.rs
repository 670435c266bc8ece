//! Checks of a create request, and the defaults that a container shows afterwards.

use bollard_stubs::models::{
    ContainerConfig, HostConfig, RestartPolicy, RestartPolicyNameEnum as Policy,
};
use skep_container::spec;
use skep_types::Ulimit;
use skep_types::check::{self, Sharing, Text};

use super::{ports, security};
use crate::config::EngineConfig;
use crate::error::{EngineError, Result};
use crate::system::apparmor::AppArmor;

/// Checks the portable half; gives warnings.
///
/// # Errors
/// `Invalid`, naming the value.
pub fn config(config: &ContainerConfig) -> Result<Vec<String>> {
    if let Some(stop_signal) = config.stop_signal.as_deref().filter(|s| !s.is_empty()) {
        check::signal(stop_signal)?;
    }
    for port in config.exposed_ports.iter().flatten() {
        ports::parse_port(port)?;
    }
    for (what, value) in [("hostname", &config.hostname), ("domainname", &config.domainname)] {
        check::hostname(what, value.as_deref().unwrap_or(""), Text::Plain)?;
    }
    check::user(config.user.as_deref().unwrap_or(""), Text::Plain)?;
    Ok(Vec::new())
}

/// Checks the host's half and fills in defaults; gives warnings.
///
/// # Errors
/// `Invalid`, naming the value.
pub fn host_config(
    host: &mut HostConfig,
    config: &ContainerConfig,
    engine: &EngineConfig,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    defaults(host, engine);
    restart_policy(host.restart_policy.as_ref(), host.auto_remove.unwrap_or(false))?;
    resources(host)?;
    modes(host, config)?;
    ports::specs(
        host.port_bindings.as_ref().unwrap_or(&Default::default()),
        &config.exposed_ports.clone().unwrap_or_default(),
        host.publish_all_ports.unwrap_or(false),
    )?;
    check::capabilities(
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
    )?;
    let options = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    warnings.extend(options.warnings(AppArmor::host()));
    if let security::Seccomp::Profile(json) = &options.seccomp {
        skep_container::seccomp::parse_profile(json, &spec::default_capabilities()).map_err(
            |e| {
                EngineError::Invalid(format!(
                    "Decoding seccomp profile failed: {}",
                    crate::error::report(&e)
                ))
            },
        )?;
    }
    for limit in host.ulimits.iter().flatten() {
        check::ulimit(&Ulimit {
            name: limit.name.clone().unwrap_or_default(),
            soft: limit.soft.unwrap_or(0),
            hard: limit.hard.unwrap_or(0),
        })?;
    }
    for entry in host.extra_hosts.iter().flatten() {
        check::extra_host(entry)?;
    }
    for server in host.dns.iter().flatten() {
        check::nameserver(server)?;
    }
    let published = host.port_bindings.as_ref().is_some_and(|bindings| !bindings.is_empty());
    if host.network_mode.as_deref() == Some("host") && published {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    if host.links.as_ref().is_some_and(|l| !l.is_empty()) {
        warnings.push("Links are not supported and were ignored: containers on a user-defined network find each other by name.".to_owned());
    }
    if host.storage_opt.as_ref().is_some_and(|o| !o.is_empty()) {
        return Err(EngineError::invalid(
            "--storage-opt is not supported for the overlay storage of this host",
        ));
    }
    if let Some(request) = host.device_requests.iter().flatten().next() {
        return Err(EngineError::Invalid(format!(
            "could not select device driver {:?} with capabilities: {:?}",
            request.driver.as_deref().unwrap_or(""),
            request.capabilities.clone().unwrap_or_default()
        )));
    }
    match host.runtime.as_deref().unwrap_or("") {
        "" | "runc" | "io.containerd.runc.v2" => {}
        other => {
            return Err(EngineError::Invalid(format!("unknown or invalid runtime name: {other}")));
        }
    }
    Ok(warnings)
}

fn defaults(host: &mut HostConfig, engine: &EngineConfig) {
    let empty = |s: &Option<String>| s.as_deref().is_none_or(str::is_empty);
    if empty(&host.network_mode) || host.network_mode.as_deref() == Some("default") {
        host.network_mode = Some("bridge".to_owned());
    }
    if empty(&host.ipc_mode) {
        host.ipc_mode = Some("private".to_owned());
    }
    if host.shm_size.unwrap_or(0) == 0 {
        host.shm_size = i64::try_from(engine.default_shm_size).ok();
    }
    if host.runtime.as_deref().is_none_or(str::is_empty) {
        host.runtime = Some("runc".to_owned());
    }
    let policy = host.restart_policy.get_or_insert_with(RestartPolicy::default);
    if matches!(policy.name, None | Some(Policy::EMPTY)) {
        policy.name = Some(Policy::NO);
    }
    policy.maximum_retry_count.get_or_insert(0);
    if !host.privileged.unwrap_or(false) {
        host.masked_paths.get_or_insert_with(spec::masked_paths);
        host.readonly_paths.get_or_insert_with(spec::readonly_paths);
    }
    host.port_bindings.get_or_insert_default();
    // Memory without a swap limit: as much swap as memory again, as Docker has it.
    if let Some(memory) = host.memory.filter(|m| *m > 0)
        && host.memory_swap.unwrap_or(0) == 0
    {
        host.memory_swap = Some(memory.saturating_mul(2));
    }
}

/// Checks a restart policy.
///
/// # Errors
/// `Invalid`.
pub fn restart_policy(policy: Option<&RestartPolicy>, auto_remove: bool) -> Result<()> {
    let Some(policy) = policy else { return Ok(()) };
    let name = policy.name.unwrap_or(Policy::NO);
    let count = policy.maximum_retry_count.unwrap_or(0);
    if count != 0 && name != Policy::ON_FAILURE {
        return Err(EngineError::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    if count < 0 {
        return Err(EngineError::invalid(
            "invalid restart policy: maximum retry count cannot be negative",
        ));
    }
    if auto_remove && !matches!(name, Policy::NO | Policy::EMPTY) {
        return Err(EngineError::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(())
}

/// Checks limits.
///
/// # Errors
/// `Invalid`.
pub fn resources(host: &HostConfig) -> Result<()> {
    let fail = |text: String| Err(EngineError::Invalid(text));
    let memory = host.memory.unwrap_or(0);
    let swap = host.memory_swap.unwrap_or(0);
    let reservation = host.memory_reservation.unwrap_or(0);
    if memory != 0 && memory < check::MIN_MEMORY {
        return fail("Minimum memory limit allowed is 6MB".into());
    }
    if memory == 0 && swap > 0 {
        return fail(
            "You should always set the Memory limit when using Memoryswap limit, see usage".into(),
        );
    }
    if memory > 0 && swap > 0 && swap < memory {
        return fail(
            "Minimum memoryswap limit should be larger than memory limit, see usage".into(),
        );
    }
    if reservation != 0 && reservation < check::MIN_MEMORY {
        return fail("Minimum memory reservation allowed is 6MB".into());
    }
    if memory > 0 && reservation > memory {
        return fail(
            "Minimum memory limit can not be less than memory reservation limit, see usage".into(),
        );
    }
    check::swappiness(host.memory_swappiness.unwrap_or(-1))?;
    let (nano, period, quota) =
        (host.nano_cpus.unwrap_or(0), host.cpu_period.unwrap_or(0), host.cpu_quota.unwrap_or(0));
    if nano > 0 && period > 0 {
        return fail("Conflicting options: Nano CPUs and CPU Period cannot both be set".into());
    }
    if nano > 0 && quota > 0 {
        return fail("Conflicting options: Nano CPUs and CPU Quota cannot both be set".into());
    }
    let cpus = crate::system::cpus();
    if nano < 0 || nano > cpus.saturating_mul(1_000_000_000) {
        return fail(format!(
            "Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return fail(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
                .into(),
        );
    }
    if quota > 0 && quota < 1000 {
        return fail("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    if host.cpu_shares.is_some_and(|s| s < 0) {
        return fail(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares.unwrap_or(0)
        ));
    }
    if let Some(set) = host.cpuset_cpus.as_deref().filter(|s| !s.is_empty()) {
        match parse_set(set) {
            None => return fail(format!("Invalid value {set} for cpuset cpus")),
            Some(list) if list.iter().any(|c| i64::from(*c) >= cpus) => {
                return fail(format!(
                    "Requested CPUs are not available - requested {set}, available: 0-{}",
                    cpus - 1
                ));
            }
            Some(_) => {}
        }
    }
    if let Some(set) = host.cpuset_mems.as_deref().filter(|s| !s.is_empty()) {
        let nodes = crate::system::memory_nodes();
        let known = parse_set(&nodes).unwrap_or_default();
        match parse_set(set) {
            None => return fail(format!("Invalid value {set} for cpuset mems")),
            Some(list) if !known.is_empty() && list.iter().any(|node| !known.contains(node)) => {
                return fail(format!(
                    "Requested memory nodes are not available - requested {set}, available: {nodes}"
                ));
            }
            Some(_) => {}
        }
    }
    if host.blkio_weight.is_some_and(|w| w != 0 && !(10..=1000).contains(&w)) {
        return fail("Range of blkio weight is from 10 to 1000".into());
    }
    check::oom_score_adj(host.oom_score_adj.unwrap_or(0))?;
    if host.shm_size.is_some_and(|s| s < 0) {
        return fail("SHM size can not be less than 0".into());
    }
    Ok(())
}

fn modes(host: &HostConfig, config: &ContainerConfig) -> Result<()> {
    let fail = |text: String| Err(EngineError::Invalid(text));
    let network = host.network_mode.as_deref().unwrap_or("bridge");
    let container = |mode: &str| mode.strip_prefix("container:").is_some_and(|c| !c.is_empty());
    if network.starts_with("container:") {
        if !container(network) {
            return fail("invalid container format container:<name|id>".into());
        }
        if config.hostname.as_deref().is_some_and(|h| !h.is_empty()) {
            return fail("conflicting options: hostname and the network mode".into());
        }
        let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
        if some(&host.dns) {
            return fail("conflicting options: dns and the network mode".into());
        }
        if some(&host.extra_hosts) {
            return fail(
                "conflicting options: custom host-to-IP mapping and the network mode".into(),
            );
        }
        let published = host.port_bindings.as_ref().is_some_and(|p| !p.is_empty());
        if published || host.publish_all_ports.unwrap_or(false) {
            return fail(
                "conflicting options: port publishing and the container type network mode".into(),
            );
        }
    }
    let ipc = host.ipc_mode.as_deref().unwrap_or("");
    if !(matches!(ipc, "" | "none" | "private" | "shareable" | "host") || container(ipc)) {
        return fail(format!("invalid IPC mode: {ipc}"));
    }
    let pid = host.pid_mode.as_deref().unwrap_or("");
    if !(matches!(pid, "" | "private" | "host") || container(pid)) {
        return fail(format!("invalid PID mode: {pid}"));
    }
    let uts = host.uts_mode.as_deref().unwrap_or("");
    if !matches!(uts, "" | "host") {
        return fail(format!("invalid UTS mode: {uts}"));
    }
    if uts == "host" && config.hostname.as_deref().is_some_and(|h| !h.is_empty()) {
        return fail("conflicting options: hostname and the UTS mode".into());
    }
    if !matches!(host.userns_mode.as_deref().unwrap_or(""), "" | "host") {
        return fail(format!(
            "invalid user namespace mode: {}",
            host.userns_mode.as_deref().unwrap_or("")
        ));
    }
    let parent = host.cgroup_parent.as_deref().unwrap_or("");
    if parent.split('/').any(|p| p == "..") {
        return fail(format!("invalid cgroup parent: {parent}"));
    }
    let sharing = Sharing { network: network == "host", ipc: ipc == "host", uts: uts == "host" };
    for name in host.sysctls.iter().flatten().map(|(name, _)| name) {
        check::sysctl(name, sharing)?;
        if name.starts_with("net.") && !exists(name) {
            return fail(format!("sysctl {name:?} does not exist on this host"));
        }
    }
    Ok(())
}

/// Whether this host's kernel has a setting. Those of single network interfaces are taken as given:
/// they come with the container's own interfaces.
fn exists(name: &str) -> bool {
    const PER_INTERFACE: [&str; 4] =
        ["net.ipv4.conf.", "net.ipv4.neigh.", "net.ipv6.conf.", "net.ipv6.neigh."];
    PER_INTERFACE.iter().any(|prefix| name.starts_with(prefix))
        || std::path::Path::new("/proc/sys").join(name.replace('.', "/")).exists()
}

/// Numbers of `0-2,4`.
pub fn parse_set(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        // More CPUs than any kernel knows is a slip of the finger.
        if first > last || last > 8192 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(host: HostConfig) -> Result<HostConfig> {
        let mut host = host;
        let engine = EngineConfig::new("/d", "/e", "/x");
        host_config(&mut host, &ContainerConfig::default(), &engine)?;
        Ok(host)
    }

    #[test]
    fn fills_defaults() {
        let host = run(HostConfig { memory: Some(64 << 20), ..Default::default() }).unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("bridge"));
        assert_eq!(host.memory_swap, Some(128 << 20));
        assert_eq!(host.shm_size, Some(64 << 20));
        assert_eq!(host.restart_policy.unwrap().name, Some(Policy::NO));
        assert!(host.masked_paths.unwrap().contains(&"/proc/kcore".to_owned()));
    }

    #[test]
    fn refuses() {
        let some = |s: &str| Some(s.to_owned());
        let list = |s: &str| Some(vec![s.to_owned()]);
        for (host, want) in [
            (HostConfig { memory: Some(1024), ..Default::default() }, "6MB"),
            (HostConfig { memory_swap: Some(1 << 30), ..Default::default() }, "Memoryswap"),
            (HostConfig { nano_cpus: Some(1 << 60), ..Default::default() }, "Range of CPUs"),
            (HostConfig { cpu_quota: Some(10), ..Default::default() }, "quota"),
            (HostConfig { cpuset_cpus: some("0-9999"), ..Default::default() }, "9999"),
            (HostConfig { cpuset_cpus: some("x"), ..Default::default() }, "cpuset"),
            (HostConfig { oom_score_adj: Some(2000), ..Default::default() }, "oom"),
            (HostConfig { ipc_mode: some("foo"), ..Default::default() }, "IPC"),
            (HostConfig { pid_mode: some("container:"), ..Default::default() }, "PID"),
            (HostConfig { cap_add: list("FOO"), ..Default::default() }, "FOO"),
            (HostConfig { security_opt: list("foo"), ..Default::default() }, "foo"),
            (HostConfig { dns: list("nope"), ..Default::default() }, "nope"),
            (HostConfig { extra_hosts: list("nope"), ..Default::default() }, "nope"),
            (HostConfig { runtime: some("kata"), ..Default::default() }, "kata"),
            (
                HostConfig {
                    sysctls: Some([("kernel.foo".to_owned(), "1".to_owned())].into()),
                    ..Default::default()
                },
                "kernel.foo",
            ),
            (
                HostConfig {
                    auto_remove: Some(true),
                    restart_policy: Some(RestartPolicy {
                        name: Some(Policy::ALWAYS),
                        maximum_retry_count: None,
                    }),
                    ..Default::default()
                },
                "AutoRemove",
            ),
            (
                HostConfig {
                    restart_policy: Some(RestartPolicy {
                        name: Some(Policy::ALWAYS),
                        maximum_retry_count: Some(3),
                    }),
                    ..Default::default()
                },
                "maximum retry",
            ),
        ] {
            let error = run(host).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
            assert_eq!(error.kind(), crate::ErrorKind::InvalidParameter);
        }
    }

    #[test]
    fn sets() {
        assert_eq!(parse_set("0-2,4").unwrap(), [0, 1, 2, 4]);
        for bad in ["", "a", "2-1", "0-99999"] {
            assert_eq!(parse_set(bad), None);
        }
    }
}
