//! `docker info` and the engine's part of `docker version`.

use std::collections::HashMap;

use bollard_stubs::models::{
    Commit, FirewallInfo, IndexInfo, PluginsInfo, RegistryServiceConfig, Runtime, SystemInfo,
    SystemInfoCgroupDriverEnum as CgroupDriver, SystemInfoCgroupVersionEnum as CgroupVersion,
    SystemInfoDefaultAddressPools, SystemInfoIsolationEnum as Isolation, SystemVersion,
    SystemVersionComponents, SystemVersionPlatform,
};
use skep_container::cgroup::Layout;

use super::apparmor::AppArmor;
use super::{cpus, hostname, memory_total};
use crate::config::Reloadable;
use crate::engine::Engine;
use crate::error::Result;
use crate::util;

/// What does not change while a host runs, or hardly ever; a few cheap look-ups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    pub name: String,
    /// As Rust names it, `x86_64`.
    pub architecture: String,
    pub os: String,
    pub cpus: i64,
    /// Bytes.
    pub memory: i64,
}

impl Engine {
    /// The part of [`Engine::system_info`] by which a host is known and chosen.
    pub fn host_facts(&self) -> HostFacts {
        HostFacts {
            name: self.host_name(),
            architecture: std::env::consts::ARCH.to_owned(),
            os: "linux".to_owned(),
            cpus: cpus(),
            memory: i64::try_from(memory_total()).unwrap_or(i64::MAX),
        }
    }

    /// Everything but what a swarm adds (`Swarm`).
    ///
    /// # Errors
    /// None at present; the signature leaves room for facts that take asking.
    pub async fn system_info(&self) -> Result<SystemInfo> {
        let config = &self.inner.config;
        let reloadable = self.reloadable();
        let (running, paused, stopped) = self.container_counts();
        let count = |n: usize| i64::try_from(n).ok();
        let groups = Layout::host();
        let has = |controller: &str| Some(groups.controller(controller).is_some());
        let os = os_release();
        let proxy = |name: &str| {
            Some(
                std::env::var(name)
                    .or_else(|_| std::env::var(name.to_lowercase()))
                    .unwrap_or_default(),
            )
        };
        let apparmor = util::blocking(AppArmor::host).await;
        let mut warnings = Vec::new();
        for check in self.inner.net.checks().iter().filter(|c| !c.available) {
            warnings.push(format!(
                "WARNING: {} is missing ({}): {}",
                check.feature, check.detail, check.disables
            ));
        }
        let problems = self.inner.net.problems();
        warnings.extend(problems.iter().map(|problem| format!("WARNING: {problem}")));
        if let AppArmor::Unloaded(error) = apparmor {
            warnings.push(format!(
                "WARNING: AppArmor is enabled, but containers run unconfined: {}",
                crate::error::report(error)
            ));
        }
        let volumes = self.volumes_all().await;
        let damaged = self.damaged_containers().into_iter();
        let damaged = damaged.chain(volumes.iter().filter_map(|(record, _)| record.damaged()));
        let damaged = damaged.chain(self.inner.images.problems());
        warnings.extend(damaged.map(|what| format!("WARNING: {what}")));
        warnings.extend(groups.trouble().map(|trouble| format!("WARNING: {trouble}")));
        for (controller, limit) in [
            ("memory", "memory limit"),
            ("cpu", "cpu cfs quota"),
            ("cpuset", "cpuset"),
            ("pids", "pids limit"),
        ] {
            if groups.controller(controller).is_none() {
                warnings.push(format!("WARNING: No {limit} support"));
            }
        }
        let facts = self.host_facts();
        Ok(SystemInfo {
            id: Some(self.inner.id.clone()),
            containers: count(self.inner.containers.len()),
            containers_running: Some(running),
            containers_paused: Some(paused),
            containers_stopped: Some(stopped),
            images: count(self.inner.images.count()),
            driver: Some("overlay2".to_owned()),
            driver_status: Some(vec![
                vec!["Backing Filesystem".to_owned(), backing_filesystem(&config.data_root)],
                vec!["Supports d_type".to_owned(), "true".to_owned()],
                vec!["Using metacopy".to_owned(), "false".to_owned()],
                vec!["Native Overlay Diff".to_owned(), "true".to_owned()],
                vec!["userxattr".to_owned(), "false".to_owned()],
            ]),
            docker_root_dir: Some(config.data_root.to_string_lossy().into_owned()),
            plugins: Some(PluginsInfo {
                volume: Some(vec!["local".to_owned()]),
                network: Some(["bridge", "host", "null", "overlay"].map(str::to_owned).to_vec()),
                authorization: None,
                log: Some(["json-file", "none"].map(str::to_owned).to_vec()),
            }),
            memory_limit: has("memory"),
            swap_limit: has("memory"),
            cpu_cfs_period: has("cpu"),
            cpu_cfs_quota: has("cpu"),
            cpu_shares: has("cpu"),
            cpu_set: has("cpuset"),
            pids_limit: has("pids"),
            oom_kill_disable: Some(!groups.is_unified() && groups.controller("memory").is_some()),
            ipv4_forwarding: Some(flag("/proc/sys/net/ipv4/ip_forward")),
            debug: Some(reloadable.debug),
            nfd: std::fs::read_dir("/proc/self/fd").ok().and_then(|d| count(d.count())),
            // Asynchronous tasks are what comes nearest to goroutines.
            n_goroutines: count(tokio::runtime::Handle::current().metrics().num_alive_tasks()),
            system_time: Some(util::rfc3339(util::now())),
            logging_driver: Some(config.log_driver.clone()),
            cgroup_driver: Some(CgroupDriver::CGROUPFS),
            cgroup_version: Some(if groups.is_unified() {
                CgroupVersion::_2
            } else {
                CgroupVersion::_1
            }),
            n_events_listener: count(self.inner.events.listeners()),
            kernel_version: Some(kernel_version()),
            operating_system: Some(
                os.get("PRETTY_NAME").cloned().unwrap_or_else(|| "Linux".to_owned()),
            ),
            os_version: Some(os.get("VERSION_ID").cloned().unwrap_or_default()),
            os_type: Some(facts.os),
            architecture: Some(facts.architecture),
            ncpu: Some(facts.cpus),
            mem_total: Some(facts.memory),
            index_server_address: Some("https://index.docker.io/v1/".to_owned()),
            registry_config: Some(registry_config(&reloadable)),
            generic_resources: None,
            http_proxy: proxy("HTTP_PROXY"),
            https_proxy: proxy("HTTPS_PROXY"),
            no_proxy: proxy("NO_PROXY"),
            name: Some(facts.name),
            labels: Some(reloadable.labels.clone()),
            experimental_build: Some(false),
            server_version: Some(config.version.clone()),
            runtimes: Some(
                [(
                    "runc".to_owned(),
                    Runtime { path: Some("skep".to_owned()), ..Runtime::default() },
                )]
                .into(),
            ),
            default_runtime: Some("runc".to_owned()),
            swarm: None,
            live_restore_enabled: Some(true),
            isolation: Some(Isolation::EMPTY),
            init_binary: Some("docker-init".to_owned()),
            containerd_commit: Some(Commit { id: Some(String::new()) }),
            runc_commit: Some(Commit { id: Some(String::new()) }),
            init_commit: Some(Commit { id: Some(String::new()) }),
            security_options: Some(security_options(apparmor, groups.is_unified())),
            product_license: None,
            default_address_pools: Some(
                config
                    .address_pools
                    .iter()
                    .map(|p| SystemInfoDefaultAddressPools {
                        base: Some(p.base.to_string()),
                        size: Some(i64::from(p.size)),
                    })
                    .collect(),
            )
            .filter(|p: &Vec<_>| !p.is_empty()),
            firewall_backend: Some(FirewallInfo {
                driver: Some("nftables".to_owned()),
                info: None,
            }),
            discovered_devices: None,
            nri: None,
            warnings: Some(warnings),
            cdi_spec_dirs: None,
            containerd: None,
        })
    }

    /// Kernel, operating system and component versions; API versions are the door's.
    pub fn system_version(&self) -> SystemVersion {
        let version = self.inner.config.version.clone();
        let arch = go_arch();
        let details: HashMap<String, String> = [
            ("Os".to_owned(), "linux".to_owned()),
            ("Arch".to_owned(), arch.to_owned()),
            ("KernelVersion".to_owned(), kernel_version()),
        ]
        .into();
        SystemVersion {
            platform: Some(SystemVersionPlatform { name: String::new() }),
            components: Some(vec![SystemVersionComponents {
                name: "Engine".to_owned(),
                version: version.clone(),
                details: Some(details),
            }]),
            version: Some(version),
            os: Some("linux".to_owned()),
            arch: Some(arch.to_owned()),
            kernel_version: Some(kernel_version()),
            ..SystemVersion::default()
        }
    }

    /// The name this host goes by.
    pub(crate) fn host_name(&self) -> String {
        self.inner.config.name.clone().unwrap_or_else(hostname)
    }
}

fn registry_config(config: &Reloadable) -> RegistryServiceConfig {
    let (cidrs, hosts): (Vec<String>, Vec<String>) = config
        .insecure_registries
        .iter()
        .cloned()
        .partition(|r| r.parse::<skep_net::Cidr>().is_ok() && r.contains('/'));
    let mut all = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    all.extend(cidrs);
    let index = |name: &str, secure: bool, official: bool, mirrors: Vec<String>| {
        let info = IndexInfo {
            name: Some(name.to_owned()),
            mirrors: Some(mirrors),
            secure: Some(secure),
            official: Some(official),
        };
        (name.to_owned(), info)
    };
    let mut indexes: HashMap<String, IndexInfo> =
        [index("docker.io", true, true, config.registry_mirrors.clone())].into();
    indexes.extend(hosts.iter().map(|host| index(host, false, false, Vec::new())));
    RegistryServiceConfig {
        insecure_registry_cidrs: Some(all),
        index_configs: Some(indexes),
        mirrors: Some(config.registry_mirrors.clone()),
    }
}

/// Go's word for this architecture.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn kernel_version() -> String {
    nix::sys::utsname::uname()
        .map(|u| u.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn flag(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|t| t.trim() == "1")
}

fn security_options(apparmor: &AppArmor, unified: bool) -> Vec<String> {
    let mut options = Vec::new();
    if matches!(apparmor, AppArmor::Ready) {
        options.push("name=apparmor".to_owned());
    }
    if std::path::Path::new("/proc/sys/kernel/seccomp").exists() {
        options.push("name=seccomp,profile=builtin".to_owned());
    }
    if unified {
        options.push("name=cgroupns".to_owned());
    }
    options
}

/// `/etc/os-release`, quotes taken off.
fn os_release() -> HashMap<String, String> {
    let text = std::fs::read_to_string("/etc/os-release")
        .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    text.lines()
        .filter_map(|l| l.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.trim_matches(['"', '\'']).to_owned()))
        .collect()
}

/// Name of the file system a folder is on.
fn backing_filesystem(path: &std::path::Path) -> String {
    let Ok(stat) = rustix::fs::statfs(path) else { return "<unknown>".to_owned() };
    // Magic numbers of linux/magic.h.
    match stat.f_type {
        0xEF53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlayfs",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        _ => "<unknown>",
    }
    .to_owned()
}
