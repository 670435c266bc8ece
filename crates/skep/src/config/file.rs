use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::AddressPool;
use crate::args::DaemonFlags;

/// The configuration file, with the keys of Docker's `daemon.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FileSettings {
    pub hosts: Vec<String>,
    pub data_root: Option<PathBuf>,
    pub exec_root: Option<PathBuf>,
    pub pidfile: Option<PathBuf>,
    pub log_level: Option<String>,
    pub debug: bool,
    pub labels: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: Vec<String>,
    pub default_address_pools: Vec<AddressPool>,
    pub mtu: Option<u32>,
    pub bip: Option<String>,
    pub cgroup_parent: Option<String>,
    pub log_driver: Option<String>,
    pub log_opts: BTreeMap<String, String>,
    pub metrics_addr: Option<String>,
    pub tls: bool,
    pub tlsverify: bool,
    pub tlscacert: Option<PathBuf>,
    pub tlscert: Option<PathBuf>,
    pub tlskey: Option<PathBuf>,
    /// Accepted for files written for Docker: containers always outlive the daemon here.
    #[serde(rename = "live-restore")]
    pub _live_restore: Option<bool>,
}

impl FileSettings {
    /// An empty text is an empty configuration. The error names the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Keys that the flags set as well.
    pub fn also_in(&self, flags: &DaemonFlags) -> Vec<&'static str> {
        let both: [(&'static str, bool); 21] = [
            ("hosts", !self.hosts.is_empty() && !flags.hosts.is_empty()),
            ("data-root", self.data_root.is_some() && flags.data_root.is_some()),
            ("exec-root", self.exec_root.is_some() && flags.exec_root.is_some()),
            ("pidfile", self.pidfile.is_some() && flags.pidfile.is_some()),
            ("log-level", self.log_level.is_some() && flags.log_level.is_some()),
            ("debug", self.debug && flags.debug),
            ("labels", !self.labels.is_empty() && !flags.labels.is_empty()),
            (
                "insecure-registries",
                !self.insecure_registries.is_empty() && !flags.insecure_registries.is_empty(),
            ),
            (
                "registry-mirrors",
                !self.registry_mirrors.is_empty() && !flags.registry_mirrors.is_empty(),
            ),
            (
                "default-address-pools",
                !self.default_address_pools.is_empty() && !flags.default_address_pools.is_empty(),
            ),
            ("mtu", self.mtu.is_some() && flags.mtu.is_some()),
            ("bip", self.bip.is_some() && flags.bip.is_some()),
            ("cgroup-parent", self.cgroup_parent.is_some() && flags.cgroup_parent.is_some()),
            ("log-driver", self.log_driver.is_some() && flags.log_driver.is_some()),
            ("log-opts", !self.log_opts.is_empty() && !flags.log_opts.is_empty()),
            ("metrics-addr", self.metrics_addr.is_some() && flags.metrics_addr.is_some()),
            ("tls", self.tls && flags.tls),
            ("tlsverify", self.tlsverify && flags.tlsverify),
            ("tlscacert", self.tlscacert.is_some() && flags.tlscacert.is_some()),
            ("tlscert", self.tlscert.is_some() && flags.tlscert.is_some()),
            ("tlskey", self.tlskey.is_some() && flags.tlskey.is_some()),
        ];
        both.into_iter().filter_map(|(key, twice)| twice.then_some(key)).collect()
    }
}
