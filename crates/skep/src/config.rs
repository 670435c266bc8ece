//! The daemon's configuration: flags and the configuration file become [`Settings`].
//!
//! As with Docker, a setting may stand in one of the two but not in both; lists too. A key that
//! nobody knows is an error, so that a misspelt one does not pass unseen.

mod address;
mod file;
mod pool;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

pub use address::{DEFAULT_SOCKET, ListenAddress};
pub use file::FileSettings;
pub use pool::AddressPool;

use crate::args::DaemonFlags;

pub const DEFAULT_CONFIG_FILE: &str = "/etc/skep/daemon.json";

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("read the configuration file {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {path} is not valid: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error(
        "unable to configure the daemon with file {path}: the following directives are specified \
         both as a flag and in the configuration file: {keys}"
    )]
    Twice { path: PathBuf, keys: String },
    #[error("invalid {what} {value:?}: {reason}")]
    Value { what: &'static str, value: String, reason: String },
    #[error("--tlsverify needs --tlscacert, --tlscert and --tlskey")]
    TlsFiles,
    #[error(
        "{given} without --tlsverify would let in everybody who reaches the port, and whoever gets in is \
         root here; use --tlsverify with --tlscacert, --tlscert and --tlskey"
    )]
    TlsWithoutVerification { given: &'static str },
    #[error(
        "refused to listen on tcp://{address}: without --tlsverify everybody who reaches that \
         address would be root here; use TLS, or an address of the loopback interface"
    )]
    OpenTcp { address: SocketAddr },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Everything the daemon needs to know, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Empty: what the service manager hands over, or else Docker's socket.
    pub hosts: Vec<ListenAddress>,
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub pidfile: PathBuf,
    pub log_level: String,
    pub labels: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: Vec<String>,
    pub default_address_pools: Vec<AddressPool>,
    /// Bytes; `None` follows the host's links.
    pub mtu: Option<u32>,
    pub bip: Option<String>,
    pub cgroup_parent: Option<String>,
    pub log_driver: String,
    pub log_opts: BTreeMap<String, String>,
    pub metrics_addr: Option<String>,
    pub tls: Option<TlsFiles>,
}

impl Settings {
    /// Reads the configuration file, if there is one, and merges the flags with it. A file that is
    /// named by a flag must exist.
    pub fn load(flags: &DaemonFlags) -> Result<Self, ConfigError> {
        let path = flags.config_file.clone().unwrap_or_else(|| DEFAULT_CONFIG_FILE.into());
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => FileSettings::parse(&text)
                .map_err(|reason| ConfigError::Parse { path: path.clone(), reason })?,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && flags.config_file.is_none() =>
            {
                FileSettings::default()
            }
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let twice = file.also_in(flags);
        if !twice.is_empty() {
            return Err(ConfigError::Twice { path, keys: twice.join(", ") });
        }
        Self::merge(flags, file)
    }

    /// Keys whose values differ in `new` and that take a new start. Pure.
    pub fn fixed_changes(&self, new: &Self) -> Vec<&'static str> {
        // Every field is named, so that a new one is either here or said to be reloadable.
        let Self {
            hosts,
            data_root,
            exec_root,
            pidfile,
            log_level: _,
            labels: _,
            insecure_registries: _,
            registry_mirrors: _,
            default_address_pools,
            mtu,
            bip,
            cgroup_parent,
            log_driver,
            log_opts,
            metrics_addr,
            tls,
        } = self;
        let differ = [
            ("hosts", *hosts != new.hosts),
            ("data-root", *data_root != new.data_root),
            ("exec-root", *exec_root != new.exec_root),
            ("pidfile", *pidfile != new.pidfile),
            ("default-address-pools", *default_address_pools != new.default_address_pools),
            ("mtu", *mtu != new.mtu),
            ("bip", *bip != new.bip),
            ("cgroup-parent", *cgroup_parent != new.cgroup_parent),
            ("log-driver", *log_driver != new.log_driver),
            ("log-opts", *log_opts != new.log_opts),
            ("metrics-addr", *metrics_addr != new.metrics_addr),
            ("tlsverify, tlscacert, tlscert, tlskey", *tls != new.tls),
        ];
        differ.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    /// Takes each setting from where it stands, or its default. Pure.
    pub fn merge(flags: &DaemonFlags, file: FileSettings) -> Result<Self, ConfigError> {
        let flags = flags.clone();
        let either =
            |flag: Vec<String>, other: Vec<String>| if flag.is_empty() { other } else { flag };

        let tlsverify = flags.tlsverify || file.tlsverify;
        let ca = flags.tlscacert.or(file.tlscacert);
        let cert = flags.tlscert.or(file.tlscert);
        let key = flags.tlskey.or(file.tlskey);
        let tls = match (tlsverify, ca, cert, key) {
            (true, Some(ca), Some(cert), Some(key)) => Some(TlsFiles { ca, cert, key }),
            (true, ..) => return Err(ConfigError::TlsFiles),
            // Whoever names these files believes that the port is protected.
            (false, ca, cert, key) => {
                let given = [
                    (flags.tls || file.tls, "--tls"),
                    (ca.is_some(), "--tlscacert"),
                    (cert.is_some(), "--tlscert"),
                    (key.is_some(), "--tlskey"),
                ];
                if let Some((_, given)) = given.into_iter().find(|(is_given, _)| *is_given) {
                    return Err(ConfigError::TlsWithoutVerification { given });
                }
                None
            }
        };

        let hosts = either(flags.hosts, file.hosts)
            .iter()
            .map(|text| ListenAddress::parse(text, tls.is_some()))
            .collect::<Result<Vec<_>, _>>()?;

        let debug = flags.debug || file.debug;
        let log_level = match flags.log_level.or(file.log_level) {
            _ if debug => "debug".to_owned(),
            None => "info".to_owned(),
            Some(level) => match level.as_str() {
                "trace" | "debug" | "info" | "warn" | "error" => level,
                // Nothing here logs above error.
                "fatal" | "panic" => "error".to_owned(),
                _ => {
                    return Err(ConfigError::Value {
                        what: "log level",
                        value: level,
                        reason: "use debug, info, warn, error or fatal".to_owned(),
                    });
                }
            },
        };

        let labels = either(flags.labels, file.labels);
        if let Some(label) = labels.iter().find(|label| !label.contains('=')) {
            return Err(ConfigError::Value {
                what: "label",
                value: label.clone(),
                reason: "use KEY=VALUE".to_owned(),
            });
        }

        let mut pools = file.default_address_pools;
        for text in &flags.default_address_pools {
            pools.push(AddressPool::parse_flag(text)?);
        }
        for pool in &pools {
            pool.check()?;
        }

        let mtu = flags.mtu.or(file.mtu);
        if let Some(mtu) = mtu.filter(|mtu| !(68..=65_535).contains(mtu)) {
            return Err(ConfigError::Value {
                what: "MTU",
                value: mtu.to_string(),
                reason: "use 68 to 65535 bytes".to_owned(),
            });
        }

        let mut log_opts = file.log_opts;
        for option in &flags.log_opts {
            let (name, value) = option.split_once('=').ok_or_else(|| ConfigError::Value {
                what: "log option",
                value: option.clone(),
                reason: "use KEY=VALUE".to_owned(),
            })?;
            log_opts.insert(name.to_owned(), value.to_owned());
        }

        Ok(Self {
            hosts,
            data_root: flags.data_root.or(file.data_root).unwrap_or_else(|| "/var/lib/skep".into()),
            exec_root: flags
                .exec_root
                .or(file.exec_root)
                .unwrap_or_else(|| "/var/run/docker".into()),
            pidfile: flags.pidfile.or(file.pidfile).unwrap_or_else(|| "/var/run/docker.pid".into()),
            log_level,
            labels,
            insecure_registries: either(flags.insecure_registries, file.insecure_registries),
            registry_mirrors: either(flags.registry_mirrors, file.registry_mirrors),
            default_address_pools: pools,
            mtu,
            bip: flags.bip.or(file.bip),
            cgroup_parent: flags.cgroup_parent.or(file.cgroup_parent),
            log_driver: flags
                .log_driver
                .or(file.log_driver)
                .unwrap_or_else(|| "json-file".to_owned()),
            log_opts,
            metrics_addr: flags.metrics_addr.or(file.metrics_addr),
            tls,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(hosts: &[&str]) -> DaemonFlags {
        DaemonFlags { hosts: hosts.iter().map(|h| (*h).to_owned()).collect(), ..Default::default() }
    }

    #[test]
    fn defaults_are_dockers_paths() {
        let settings = Settings::merge(&DaemonFlags::default(), FileSettings::default()).unwrap();
        assert_eq!(settings.hosts, []);
        assert_eq!(DEFAULT_SOCKET, "/var/run/docker.sock");
        assert_eq!(settings.exec_root, PathBuf::from("/var/run/docker"));
        assert_eq!(settings.log_level, "info");
    }

    #[test]
    fn tcp_without_tls_is_for_loopback_only() {
        assert!(
            Settings::merge(&flags(&["tcp://127.0.0.1:2375"]), FileSettings::default()).is_ok()
        );
        for open in ["tcp://0.0.0.0:2375", "tcp://192.0.2.1:2375", "tcp://:2375"] {
            let error = Settings::merge(&flags(&[open]), FileSettings::default()).unwrap_err();
            assert!(matches!(error, ConfigError::OpenTcp { .. }), "{open}: {error}");
        }
    }

    #[test]
    fn a_setting_in_both_places_is_named() {
        let file = FileSettings::parse(r#"{"mtu": 1400, "debug": true}"#).unwrap();
        let flags = DaemonFlags { mtu: Some(1300), ..Default::default() };
        assert_eq!(file.also_in(&flags), ["mtu"]);
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_refused() {
        let error = FileSettings::parse(r#"{"storage-drivr": "x"}"#).unwrap_err();
        assert!(error.contains("storage-drivr"), "{error}");
        for (key, value) in [("log_level", "loud"), ("label", "novalue")] {
            let mut flags = DaemonFlags::default();
            match key {
                "log_level" => flags.log_level = Some(value.into()),
                _ => flags.labels = vec![value.into()],
            }
            assert!(Settings::merge(&flags, FileSettings::default()).is_err(), "{key}");
        }
    }

    #[test]
    fn tls_needs_its_three_files() {
        let flags = DaemonFlags { tlsverify: true, ..Default::default() };
        let error = Settings::merge(&flags, FileSettings::default()).unwrap_err();
        assert!(matches!(error, ConfigError::TlsFiles));
    }

    #[test]
    fn tls_without_verification_is_refused() {
        let given = Some("/tls/file.pem".into());
        for flags in [
            DaemonFlags { tls: true, ..Default::default() },
            DaemonFlags { tlscacert: given.clone(), ..Default::default() },
            DaemonFlags { tlscert: given.clone(), ..Default::default() },
            DaemonFlags { tlskey: given, ..Default::default() },
        ] {
            let error = Settings::merge(&flags, FileSettings::default()).unwrap_err();
            assert!(matches!(error, ConfigError::TlsWithoutVerification { .. }), "{error}");
        }
    }

    #[test]
    fn changes_are_told_apart() {
        let old = Settings::merge(&DaemonFlags::default(), FileSettings::default()).unwrap();
        let mut new = old.clone();
        new.labels = vec!["a=b".to_owned()];
        new.registry_mirrors = vec!["http://mirror".to_owned()];
        new.log_level = "debug".to_owned();
        assert_eq!(old.fixed_changes(&new), [""; 0]);
        new.mtu = Some(1400);
        new.data_root = "/elsewhere".into();
        assert_eq!(old.fixed_changes(&new), ["data-root", "mtu"]);
    }
}
