//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "skep", version, about = "Containers on one host or a swarm of hosts")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon that serves the Docker Engine API
    Daemon(Box<DaemonFlags>),
    /// Ask the network what it does and why
    #[command(subcommand)]
    Net(crate::net::NetCommand),
}

/// Flags of `skep daemon`, with the names of Docker's daemon. What is absent here may stand in the
/// configuration file; see [`crate::config`].
#[derive(Args, Clone, Debug, Default)]
pub struct DaemonFlags {
    /// Where to listen: unix://PATH, tcp://HOST:PORT, or fd:// for sockets of the service manager (may be
    /// given several times)
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    pub hosts: Vec<String>,
    /// Folder for all persistent state
    #[arg(long, value_name = "FOLDER")]
    pub data_root: Option<PathBuf>,
    /// Folder for state that ends with the boot
    #[arg(long, value_name = "FOLDER")]
    pub exec_root: Option<PathBuf>,
    /// File to hold the daemon's process id
    #[arg(short = 'p', long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Configuration file (JSON)
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// debug, info, warn, error or fatal
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// The same as --log-level=debug
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Label of this daemon, KEY=VALUE (may be given several times)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Registry, or network of registries, to reach without verified TLS
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    pub insecure_registries: Vec<String>,
    /// Mirror of Docker Hub to ask first
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub registry_mirrors: Vec<String>,
    /// Pool for new local networks, base=CIDR,size=BITS
    #[arg(long = "default-address-pool", value_name = "POOL")]
    pub default_address_pools: Vec<String>,
    /// MTU of local networks
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u32>,
    /// Address and prefix of the default bridge
    #[arg(long, value_name = "CIDR")]
    pub bip: Option<String>,
    /// Parent cgroup of all containers
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Default log driver of containers
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Option of the default log driver, KEY=VALUE
    #[arg(long = "log-opt", value_name = "KEY=VALUE")]
    pub log_opts: Vec<String>,
    /// Where to serve metrics for Prometheus, HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_addr: Option<String>,
    /// Serve TLS; refused without --tlsverify, which implies it
    #[arg(long)]
    pub tls: bool,
    /// Serve TLS and verify clients
    #[arg(long)]
    pub tlsverify: bool,
    /// Trust clients with a certificate of this authority
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
    /// This daemon's certificate
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,
}
