//! What the owner of the store decides.

use std::{path::PathBuf, time::Duration};

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// `host[:port]` or CIDR blocks that may be spoken to without verified TLS, or in plain HTTP.
    /// Loopback addresses always may, as in Docker.
    pub insecure_registries: Vec<String>,
    /// Base URLs tried before Docker Hub, in this order, for images of Docker Hub only.
    pub mirrors: Vec<String>,
    /// Folder with `<host[:port]>/*.crt` (more trusted roots) and `client.cert` with `client.key`,
    /// as Docker's `/etc/docker/certs.d`. `None`: only the system's roots.
    pub certs_dir: Option<PathBuf>,
}

/// Everything that can be set about a store; `RegistryConfig::into` gives the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How registries are reached.
    pub registry: RegistryConfig,
    /// Bounds against hostile content.
    pub limits: Limits,
    /// How broken connections are treated.
    pub retry: Retry,
    /// Layers downloaded at a time, over all pulls.
    pub max_downloads: usize,
    /// Layers uploaded at a time, over all pushes.
    pub max_uploads: usize,
}

/// Bounds on what foreign bytes may make this host do. All counts are inclusive.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes one layer may unpack to, tar headers included.
    pub layer_bytes: u64,
    /// Entries in one layer or archive.
    pub entries: u64,
    /// Bytes an image archive may unpack to.
    pub archive_bytes: u64,
    /// Bytes that must stay free on the disk of the store; 0: not looked at.
    pub min_free_bytes: u64,
    /// Bytes of a manifest or index.
    pub manifest_bytes: u64,
    /// Bytes of an image configuration.
    pub config_bytes: u64,
    /// Layers of an image. Overlayfs takes 500; Docker allows 127.
    pub layers: usize,
}

/// Retries of interrupted transfers and overloaded registries.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Attempts in a row without a new byte before giving up.
    pub attempts: u32,
    /// First pause; doubles each time.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
    /// Silence on a connection that counts as broken.
    pub idle: Duration,
    /// Time to connect, TLS included.
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: 256 << 30,
            entries: 4_000_000,
            archive_bytes: 512 << 30,
            min_free_bytes: 64 << 20,
            manifest_bytes: 4 << 20,
            config_bytes: 8 << 20,
            layers: 256,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            connect: Duration::from_secs(30),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        RegistryConfig::default().into()
    }
}

impl From<RegistryConfig> for Settings {
    fn from(registry: RegistryConfig) -> Self {
        Self {
            registry,
            limits: Limits::default(),
            retry: Retry::default(),
            max_downloads: 3,
            max_uploads: 5,
        }
    }
}
