//! `skep daemon`: everything is built, sockets are bound, and only then is anything served.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use skep_api::{Backend, Metrics, MetricsSource, Product};
use skep_engine::{Engine, EngineConfig, Reloadable};
use skep_node::{NodeConfig, SwarmNode};
use skep_types::Cidr;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::args::DaemonFlags;
use crate::config::Settings;
use crate::executor::{EngineExecutor, announce_ports};
use crate::listen::Activated;
use crate::lock::{DataRoot, PidFile};
use crate::logging::LogLevel;
use crate::reload::{Reloader, reloadable};
use crate::service_manager::ServiceManager;
use crate::warnings::Roots;
use crate::{checks, listen, logging, memory};

/// Runs until SIGTERM or SIGINT. Containers go on running afterwards.
pub fn main(flags: &DaemonFlags) -> ExitCode {
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skep daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &DaemonFlags) -> Result<()> {
    let settings = Settings::load(flags)?;
    let log = logging::start(&settings.log_level);
    let activated = Activated::from_env();
    let manager = service_manager();
    // Whatever started this: nothing that is made without a thought is open to others. What must have
    // a mode is given it by `skep_sys::files`.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    raise_descriptor_limit();
    let config = engine_config(&settings)?;
    // A data root that is there tells who has it. One that is not is made once no other daemon keeps this one from
    // starting, so that nothing is left of a start that was refused.
    let there = settings.data_root.exists();
    let root = there.then(|| DataRoot::claim(&settings.data_root)).transpose()?;
    let network = skep_net::HostClaim::take()?;
    let _pid = PidFile::write(&settings.pidfile)?;
    let _root = match root {
        Some(root) => root,
        None => DataRoot::claim(&settings.data_root)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("skep")
        .build()
        .context("start the runtime")?;
    let config = (config, network);
    let ended = runtime.block_on(serve(flags, settings, config, log, activated, manager));
    end(runtime);
    ended
}

/// Ends the runtime with everything that is still at work on it. A call of the kernel that hangs (a file server that
/// does not answer, a device) is not waited for: it ends with the process, and with it the locks go.
fn end(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_timeout(Duration::from_secs(2));
}

async fn serve(
    flags: &DaemonFlags,
    settings: Settings,
    (config, network): (EngineConfig, skep_net::HostClaim),
    log: LogLevel,
    activated: Activated,
    manager: ServiceManager,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("watch for SIGHUP")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for SIGINT")?;
    let version = env!("CARGO_PKG_VERSION");
    info!(version, data_root = %settings.data_root.display(), "skep daemon starts");

    let listeners = listen::bind(&settings, activated).await?;
    let metrics_listener = match &settings.metrics_addr {
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("serve metrics on {address}"))?,
        ),
        None => None,
    };
    for check in checks::host().iter().filter(|check| !check.available) {
        warn!(feature = check.feature, found = %check.detail, disables = check.disables, "this host lacks something");
    }

    gather_namespaces(&settings.exec_root, &config.netns_dir());
    // Containers are adopted meanwhile: a node with many must not fall silent over it.
    let engine = Engine::open_claimed(config, network).await.context("start the engine")?;
    for check in engine.net().checks().iter().filter(|check| !check.available) {
        warn!(feature = check.feature, found = %check.detail, disables = check.disables, "this host lacks something");
    }
    let files = settings.exec_root.join("swarm");
    let executor = Arc::new(EngineExecutor::new(engine.clone(), files));
    let swarm = SwarmNode::start(NodeConfig {
        data_root: settings.data_root.clone(),
        default_advertise_addr: String::new(),
        is_own_interface: Arc::new(is_own_interface),
        host_routes: {
            let net = engine.net().clone();
            Arc::new(move || net.routes_beside_overlays())
        },
        executor: Arc::clone(&executor) as _,
        host: Arc::clone(&executor) as _,
    })
    .await
    .context("resume the swarm membership")?;
    engine.set_network_provider(Arc::new(executor.networks(Arc::clone(&swarm))));

    let metrics = Arc::new(Metrics::default());
    let product = Product {
        name: "skep".to_owned(),
        version: version.to_owned(),
        commit: option_env!("SKEP_COMMIT").unwrap_or_default().to_owned(),
        built: String::new(),
    };
    let backend = Backend {
        engine: engine.clone(),
        swarm: Arc::clone(&swarm),
        product,
        metrics: Arc::clone(&metrics),
        warnings: {
            let of_listeners: Vec<String> =
                listeners.iter().filter_map(|listener| listener.warning()).collect();
            let roots =
                Roots { data: settings.data_root.clone(), exec: settings.exec_root.clone() };
            let net = engine.net().clone();
            Arc::new(move || {
                let mute = net.gossip_trouble().map(|why| format!("WARNING: {why}"));
                of_listeners.iter().cloned().chain(mute).chain(roots.warnings()).collect()
            })
        },
    };

    let shutdown = CancellationToken::new();
    let mut served = tokio::task::JoinSet::new();
    served.spawn(announce_ports(engine.clone(), shutdown.clone()));
    served.spawn(memory::tend(shutdown.clone()));
    for listener in &listeners {
        info!(address = %listener, "the Engine API is served");
        if listener.warning().is_some() {
            warn!(
                address = %listener,
                "the Engine API is accessible without encryption: who reaches it is root on this host"
            );
        }
    }
    served.spawn(skep_api::serve(listeners, backend, shutdown.clone()));
    if let Some(listener) = metrics_listener {
        info!(address = ?settings.metrics_addr, "metrics are served");
        let net = engine.net().clone();
        let member = Arc::clone(&swarm);
        let sources: Vec<MetricsSource> =
            vec![Box::new(move || net.metrics()), Box::new(move || member.metrics())];
        served.spawn(skep_api::serve_metrics(listener, metrics, sources, shutdown.clone()));
    }
    manager.ready();

    let mut reloader = Reloader::new(flags.clone(), settings, engine.clone(), log);
    let signal = loop {
        tokio::select! {
            _ = hangup.recv() => {
                manager.reloading();
                reloader.reload();
                manager.ready();
            }
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
        }
    };
    info!(signal, "the daemon ends, containers go on running");
    manager.stopping();
    shutdown.cancel();
    while served.join_next().await.is_some() {}
    swarm.shutdown().await;
    engine.shutdown().await;
    info!("skep daemon has ended");
    Ok(())
}

/// A service manager that cannot be reached does not keep the daemon from its work.
fn service_manager() -> ServiceManager {
    ServiceManager::connect(std::env::var_os("NOTIFY_SOCKET").as_deref()).unwrap_or_else(|error| {
        warn!(
            error = &*error as &dyn std::error::Error,
            "nobody will hear that the daemon is ready"
        );
        ServiceManager::default()
    })
}

/// Makes the folder of network namespaces a mount of its own, which the set-up of containers leaves out
/// as a whole. Where that cannot be, each container costs a little more for each that is there.
fn gather_namespaces(exec_root: &Path, folder: &Path) {
    let gathered = skep_sys::files::make_dirs(exec_root, 0o711)
        .and_then(|()| skep_sys::files::make_dirs(folder, 0o700))
        .and_then(|()| skep_sys::mounts::gather(folder));
    if let Err(error) = gathered {
        warn!(path = %folder.display(), %error, "network namespaces have no mount of their own");
    }
}

/// Links that this daemon makes; their addresses are never advertised to a swarm.
fn is_own_interface(name: &str) -> bool {
    name == "docker0"
        || name == "docker_gwbridge"
        || name.starts_with("br-")
        || name.starts_with("veth")
}

fn engine_config(settings: &Settings) -> Result<EngineConfig> {
    // After an upgrade the running file is another; shims of new containers are the new one.
    let shim = std::env::current_exe().context("find the running executable")?;
    let mut config = EngineConfig::new(&settings.data_root, &settings.exec_root, shim);
    let Reloadable { labels, insecure_registries, registry_mirrors, debug } = reloadable(settings);
    config.labels = labels;
    config.insecure_registries = insecure_registries;
    config.registry_mirrors = registry_mirrors;
    config.debug = debug;
    config.address_pools = settings
        .default_address_pools
        .iter()
        .map(|pool| {
            let base =
                pool.base.parse().with_context(|| format!("use the address pool {}", pool.base))?;
            Ok(skep_net::AddressPool { base, size: pool.size })
        })
        .collect::<Result<_>>()?;
    if let Some(mtu) = settings.mtu {
        config.mtu = u16::try_from(mtu).context("use the MTU")?;
    }
    if let Some(bip) = &settings.bip {
        let address: Cidr = bip.parse().with_context(|| format!("use --bip {bip}"))?;
        if let Some(why) = address.unusable() {
            bail!("use --bip {bip}: {why}");
        }
        config.default_bridge.address = Some(address);
    }
    if let Some(parent) = &settings.cgroup_parent {
        config.cgroup_parent.clone_from(parent);
    }
    config.log_driver.clone_from(&settings.log_driver);
    config.log_options = settings.log_opts.clone().into_iter().collect();
    config.default_binding = Ipv4Addr::UNSPECIFIED;
    Ok(config)
}

/// A busy host needs many descriptors: each container has a shim's socket and its resolver's.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_call_that_hangs_does_not_keep_the_daemon() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("runtime");
        let (_never, hangs) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        runtime.spawn_blocking(move || {
            begun.send(()).expect("somebody waits");
            let _ = hangs.recv();
        });
        begins.recv().expect("it has begun");
        std::thread::spawn(move || {
            end(runtime);
            ended.send(()).expect("somebody waits");
        });
        ends.recv_timeout(Duration::from_secs(30)).expect("the runtime does not end");
    }
}
