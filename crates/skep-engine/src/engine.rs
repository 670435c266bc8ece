//! The handle, and how an engine starts and ends.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use bollard_stubs::models::{EventMessageScopeEnum as Scope, EventMessageTypeEnum as Type};
use skep_container::Runtime;
use skep_container::logs::LogWatcher;
use skep_image::Images;
use skep_net::{DnsOptions, HostClaim, Net, NetConfig};
use skep_sys::files::{self, Durability};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::config::{EngineConfig, Reloadable};
use crate::container::{Execs, Registry};
use crate::error::{EngineError, Result};
use crate::events::Bus;
use crate::provider::NetworkProvider;
use crate::system::apparmor::AppArmor;
use crate::util;
use crate::volume::Volumes;

/// One host's engine. Clones share one.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: EngineConfig,
    pub id: String,
    pub images: Images,
    pub net: Net,
    pub runtime: Runtime,
    pub containers: Registry,
    pub execs: Execs,
    pub volumes: Volumes,
    pub events: Bus,
    /// Notices that logs grow, for all who follow one.
    pub log_watcher: LogWatcher,
    /// What may change without a new start; `config` keeps what it was at the start.
    pub reloadable: RwLock<Reloadable>,
    /// Who has networks beyond this host; set after the start, if at all.
    pub provider: watch::Sender<Option<Arc<dyn NetworkProvider>>>,
    /// Counts changes of what containers were granted by the provider.
    pub grants: watch::Sender<u64>,
    /// Whether every container of an earlier daemon has been taken over.
    pub adopted: watch::Sender<bool>,
    /// Whose turn it is to be started or cleared up.
    pub admission: Admission,
    /// Ends the engine's own tasks; containers go on.
    pub closing: CancellationToken,
}

impl Engine {
    /// [`Engine::open`], and waits for [`Engine::adopted`].
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn start(config: EngineConfig) -> Result<Self> {
        let engine = Self::open(config).await?;
        engine.adopted().await;
        Ok(engine)
    }

    /// Opens the state of images, volumes, networks and containers; then, in the background, adopts
    /// running containers and applies restart policies to those that ended meanwhile. What this
    /// itself costs hardly grows with the containers, so that a host with many can be asked, and
    /// can tell its swarm that it lives, at once.
    ///
    /// Until [`Engine::adopted`], containers and networks may be listed and looked at, as the last
    /// daemon knew them; who wants to change them, or to talk to a container, has to wait for it.
    ///
    /// # Errors
    /// When a folder cannot be used, another process holds the state, or the network cannot be
    /// opened. Single containers and volumes that cannot be read are reported and left alone.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        let claim = util::blocking(HostClaim::take).await?;
        Self::open_claimed(config, claim).await
    }

    /// The same for who has claimed the host's network before, so as to make nothing if another daemon has it.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn open_claimed(config: EngineConfig, claim: HostClaim) -> Result<Self> {
        // What is there already is the user's; what is below it is ours.
        for dir in [&config.data_root, &config.exec_root] {
            files::make_dirs(dir, 0o711).map_err(EngineError::file("create", dir))?;
        }
        // Users put folders and files beside those of containers, too.
        let dir = config.containers_dir();
        files::dir_of_mode(&dir, 0o711).map_err(EngineError::file("create", &dir))?;
        for dir in [&config.bundles_dir(), &config.root_point()] {
            files::own_dir(dir, 0o711).map_err(EngineError::file("create", dir))?;
        }
        match util::blocking(AppArmor::host).await {
            AppArmor::Absent => {}
            AppArmor::Ready => tracing::info!("containers are confined by AppArmor"),
            AppArmor::Unloaded(error) => tracing::warn!(
                error = error as &dyn std::error::Error,
                "AppArmor is enabled, but containers run unconfined"
            ),
        }
        let id = engine_id(&config.data_root);
        let registry = skep_image::RegistryConfig {
            insecure_registries: config.insecure_registries.clone(),
            mirrors: config.registry_mirrors.clone(),
            certs_dir: Some(PathBuf::from("/etc/docker/certs.d")),
        };
        let images = {
            let root = config.data_root.join("image");
            util::blocking(move || Images::open(root, registry)).await?
        };
        let volumes = {
            let root = config.data_root.join("volumes");
            util::blocking(move || Volumes::open(root)).await?
        };
        let net = Net::open_claimed(net_config(&config), claim).await?;
        let engine = Self {
            inner: Arc::new(Inner {
                runtime: Runtime::new(config.shim.clone()),
                reloadable: RwLock::new(Reloadable::of(&config)),
                config,
                id,
                images,
                net,
                containers: Registry::default(),
                execs: Execs::default(),
                volumes,
                events: Bus::default(),
                log_watcher: LogWatcher::default(),
                provider: watch::Sender::new(None),
                grants: watch::Sender::new(0),
                adopted: watch::Sender::new(false),
                admission: Admission::of_host(),
                closing: CancellationToken::new(),
            }),
        };
        let loaded = engine.load().await?;
        let this = engine.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = this.adopt_all(loaded) => {}
                () = this.inner.closing.cancelled() => return,
            }
            this.inner.adopted.send_replace(true);
            this.follow_shims().await;
        });
        Ok(engine)
    }

    /// Waits until every container that an earlier daemon left has been taken over. Never comes if
    /// the engine is shut down before that.
    pub async fn adopted(&self) {
        // Fails only without a sender, which this engine has.
        let _ = self.inner.adopted.subscribe().wait_for(|adopted| *adopted).await;
    }

    /// Whether [`Engine::adopted`] has come.
    pub fn is_adopted(&self) -> bool {
        *self.inner.adopted.borrow()
    }

    /// Ends the engine's tasks. Containers go on running; a later [`Engine::start`] adopts them.
    pub async fn shutdown(&self) {
        self.inner.closing.cancel();
        // It may hold this engine.
        self.inner.provider.send_replace(None);
        self.inner.net.shutdown().await;
    }

    /// What it was started with; see [`Engine::reloadable`] for what may have changed since.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// The network room, for task sandboxes, overlays and service bindings.
    pub fn net(&self) -> &Net {
        &self.inner.net
    }

    /// The image room.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// This host's lasting id, a UUID.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Publishes an event of something that is not the engine's (services, nodes, …).
    pub fn publish_event(
        &self,
        typ: Type,
        action: &str,
        id: &str,
        attributes: Vec<(String, String)>,
        scope: Scope,
    ) {
        let attributes: HashMap<String, String> = attributes.into_iter().collect();
        self.inner.events.publish(typ, action, id, attributes, scope);
    }
}

fn net_config(config: &EngineConfig) -> NetConfig {
    NetConfig {
        mtu: config.mtu,
        default_bridge: config.default_bridge.clone(),
        address_pools: config.address_pools.clone(),
        dns: DnsOptions {
            servers: config.dns.clone(),
            search: config.dns_search.clone(),
            options: config.dns_options.clone(),
        },
        host_gateway: config.host_gateway,
        default_binding: config.default_binding,
        ..NetConfig::new(config.exec_root.clone(), config.data_root.clone())
    }
}

/// Reads or makes the host's id. One that cannot be one is set aside and made anew: nothing depends on it
/// but who tells hosts apart by it. On a disk that takes no change the host has another until it is started again.
fn engine_id(data_root: &Path) -> String {
    let path = data_root.join("engine-id");
    let found = files::read_own(&path, 0o600);
    let id = found.as_ref().ok().and_then(Option::as_deref);
    let id = id.map(|bytes| str::from_utf8(bytes).map_or("", str::trim));
    if let Some(id) = id.filter(|id| is_id(id)) {
        return id.to_owned();
    }
    let id = uuid(rand::random());
    let make = || {
        // `None` only if there is nothing.
        if !matches!(found, Ok(None)) {
            let kept = files::set_aside(&path)?;
            tracing::warn!(kept = %kept.display(), "this host's id cannot be read, it gets another");
        }
        files::replace(&path, id.as_bytes(), 0o600, Durability::Lasting)
    };
    if let Err(error) = make() {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(path = %path.display(), error, "this host's id cannot be stored, the next start makes another");
    }
    id
}

/// Ours are UUIDs; others may come from a Docker daemon's folder.
fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A version 4 UUID (RFC 9562) from chance.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_sys::testing::{SmallDisk, Trouble, in_own_mounts};

    #[test]
    fn a_host_whose_id_cannot_be_stored_has_one() {
        in_own_mounts("engine::tests::a_host_whose_id_cannot_be_stored_has_one", || {
            let disk = SmallDisk::mount("size=1m");
            let path = disk.path().join("engine-id");
            std::fs::create_dir_all(path.join("x")).unwrap();
            let refusing = disk.begin(Trouble::ReadOnly);
            assert!(is_id(&engine_id(disk.path())));
            drop(refusing);
            let id = engine_id(disk.path());
            assert!(disk.path().join("engine-id.damaged/x").is_dir());
            assert_eq!(
                (engine_id(disk.path()), std::fs::read_to_string(path).unwrap()),
                (id.clone(), id)
            );
        });
    }
}
