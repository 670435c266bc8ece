//! Creating containers.

use bollard_stubs::models::{
    ContainerConfig, ContainerCreateBody, ContainerCreateResponse, HostConfig,
};
use skep_image::{Image, Platform};
use skep_sys::files;
use tokio::sync::oneshot;

use super::attachment::{Attachment, CreateExtras};
use super::cell::Container;
use super::mounts::{self, MountEntry, MountKind};
use super::record::{Record, State};
use super::start::join_error;
use super::{attachments, log_config, merge, names, validate};
use crate::admission::Turn;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::options::RemoveOptions;
use crate::util;
use crate::volume::{self, VolumeSpec};

/// What is to be made.
struct Plan {
    id: String,
    name: String,
    config: ContainerConfig,
    host: HostConfig,
    image: Image,
    attachments: Vec<Attachment>,
}

impl Engine {
    /// Creates a container; see `POST /containers/create`.
    ///
    /// # Errors
    /// `Invalid` for what cannot be, `NoSuchImage`, `NameInUse`; nothing is left then.
    pub async fn container_create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        body: ContainerCreateBody,
    ) -> Result<ContainerCreateResponse> {
        self.container_create_with(name, platform, body, CreateExtras::default()).await
    }

    /// Creates a container with what the API has no words for.
    ///
    /// When the caller stops waiting, nothing is left of the container; that goes on in the background.
    ///
    /// # Errors
    /// As [`Engine::container_create`].
    pub async fn container_create_with(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        body: ContainerCreateBody,
        extras: CreateExtras,
    ) -> Result<ContainerCreateResponse> {
        let name = name.filter(|n| !n.is_empty()).map(names::check).transpose()?.map(str::to_owned);
        let image = self.image_for(body.image.as_deref().unwrap_or(""), platform)?;
        let config = merge::with_image(merge::from_body(&body), &image.config.config)?;
        let mut host = body.host_config.clone().unwrap_or_default();
        let mut warnings = validate::host_config(&mut host, &config, &self.inner.config)?;
        warnings.extend(validate::config(&config)?);
        host.log_config = Some(log_config::effective(host.log_config.as_ref(), &self.inner.config));
        let attachments = match extras.attachments {
            Some(attachments) => attachments,
            None => attachments::wanted(&host, body.networking_config.as_ref())?,
        };
        for attachment in &attachments {
            attachment.spec()?;
        }

        let turn = self.inner.admission.start().await;
        let id = util::random_id();
        let name = self.inner.containers.reserve(name.as_deref(), &id)?;
        let (answer, made) = oneshot::channel();
        let this = self.clone();
        let plan = Plan { id: id.clone(), name, config, host, image, attachments };
        let under_way = tokio::spawn(async move {
            let (id, name) = (plan.id.clone(), plan.name.clone());
            let mut volumes = Vec::new();
            let made = this.build(plan, turn, &mut volumes).await;
            if made.is_err() {
                this.unmake(&id, &name, std::mem::take(&mut volumes)).await;
            }
            if let Err(Ok(())) = answer.send(made) {
                this.take_back(&id).await;
                this.volumes_take_back(volumes).await;
            }
        });
        match made.await {
            Ok(made) => made.map(|()| ContainerCreateResponse { id, warnings }),
            Err(_) => match under_way.await {
                Err(panicked) => Err(join_error(panicked)),
                Ok(()) => Err(EngineError::system(
                    "cannot create the container",
                    "the create ended without an answer",
                )),
            },
        }
    }

    /// Removes a container whose creator has gone before it could know of it.
    async fn take_back(&self, id: &str) {
        let options = RemoveOptions { force: true, volumes: true, ..RemoveOptions::default() };
        match self.container_remove(id, options).await {
            Ok(()) | Err(EngineError::NoSuchContainer(_)) => {}
            Err(error) => tracing::warn!(
                container = id,
                error = &error as &dyn std::error::Error,
                "could not take back a container that nobody waits for"
            ),
        }
    }

    /// The image of a create request.
    fn image_for(&self, name: &str, platform: Option<&str>) -> Result<Image> {
        if name.is_empty() {
            return Err(EngineError::invalid(
                "config cannot be empty in order to create a container: no image",
            ));
        }
        let image = match self.inner.images.get(name) {
            Ok(image) => image,
            Err(skep_image::Error::NoSuchImage(_)) => {
                return Err(EngineError::NoSuchImage(crate::image::with_default_tag(name)));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(wanted) = platform.filter(|p| !p.is_empty()) {
            let wanted = Platform::parse(wanted).map_err(skep_image::Error::from)?;
            if wanted.rank(&image.config.platform()).is_none() {
                return Err(EngineError::NotFound(format!(
                    "image with reference {name} was found but does not provide the specified platform ({wanted})"
                )));
            }
        }
        Ok(image)
    }

    /// Makes it. Volumes that are new are noted in `volumes`, also when something fails.
    async fn build(&self, plan: Plan, turn: Turn, volumes: &mut Vec<String>) -> Result<()> {
        let Plan { id, name, config, host, image, attachments } = plan;
        let id = id.as_str();
        let dir = self.inner.config.containers_dir().join(id);
        log_config::for_shim(
            &host.log_config.clone().unwrap_or_default(),
            &dir.join("log"),
            &config,
        )?;
        let wanted = self.wanted_mounts(&config, &host)?;
        let rw = self.inner.images.prepare_rw(id, &image.id)?;
        let (mounts, _turn) = self.make_volumes(id, wanted, turn, volumes).await?;
        let (path, args) = merge::command(&config);
        let record = Record {
            id: id.to_owned(),
            name,
            created: util::now(),
            path,
            args,
            image_id: image.id.to_string(),
            config: with_hostname(config, &host, id),
            host_config: host,
            mounts,
            attachments,
            state: State::default(),
            restart_count: 0,
            stopped_by_user: false,
        };
        let container = Container::new(record, dir);
        {
            let container = container.clone();
            util::blocking(move || {
                let rw = rw.upper.parent().unwrap_or(&rw.upper);
                // The file system first: a record without one is a damaged container.
                files::sync_dir(rw)
                    .and_then(|()| files::sync_parent(rw))
                    .map_err(EngineError::file("sync", rw))?;
                container.record().make(container.dir())
            })
            .await?;
        }
        self.inner.containers.insert(container.clone());
        self.container_event(&container, "create", &[]);
        Ok(())
    }

    /// Takes back what a failed create has made, and nothing else.
    async fn unmake(&self, id: &str, name: &str, volumes: Vec<String>) {
        self.inner.containers.release(name, id);
        self.release_volumes(id).await;
        let (this, id) = (self.clone(), id.to_owned());
        util::blocking(move || {
            if let Err(error) = this.inner.images.remove_rw(&id) {
                tracing::warn!(container = id, error = &error as &dyn std::error::Error, "could not remove the file system of a failed create");
            }
            let dir = this.inner.config.containers_dir().join(&id);
            if let Err(error) = skep_sys::files::remove_tree(&dir) {
                tracing::warn!(path = %dir.display(), %error, "could not remove the folder of a failed create");
            }
        })
        .await;
        self.volumes_take_back(volumes).await;
    }

    /// All mounts of a create request, by Docker's precedence; volumes are not made yet.
    fn wanted_mounts(
        &self,
        config: &ContainerConfig,
        host: &HostConfig,
    ) -> Result<Vec<MountEntry>> {
        let driver = host.volume_driver.as_deref().unwrap_or("");
        let mut from = Vec::new();
        for spec in host.volumes_from.iter().flatten() {
            let (other, mode) = mounts::parse_volumes_from(spec)?;
            let other = self.inner.containers.find(other)?;
            let read_only = mode.split(',').any(|m| m == "ro");
            for mut entry in other.read(|r| r.mounts.clone()) {
                if entry.kind == MountKind::Tmpfs {
                    continue;
                }
                entry.rw &= !read_only;
                entry.anonymous = false;
                entry.no_copy = true;
                from.push(entry);
            }
        }
        let mut own = Vec::new();
        for bind in host.binds.iter().flatten() {
            own.push(mounts::parse_bind(bind, driver)?);
        }
        for mount in host.mounts.iter().flatten() {
            own.push(mounts::parse_mount(&mounts::from_api(mount)?, driver)?);
        }
        for (path, options) in host.tmpfs.iter().flatten() {
            // Validated here, mounted from the host configuration: Docker does not list these.
            let tmpfs = mounts::parse_tmpfs(path, options)?;
            if own.iter().any(|e| e.destination == tmpfs.destination) {
                return Err(EngineError::Invalid(format!(
                    "Duplicate mount point: {}",
                    tmpfs.destination
                )));
            }
        }
        for entry in own.iter().filter(|e| e.kind == MountKind::Bind && !e.create_source) {
            if let Err(error) = std::fs::symlink_metadata(&entry.source) {
                return Err(match error.kind() {
                    std::io::ErrorKind::NotFound => EngineError::Invalid(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        entry.source
                    )),
                    _ => EngineError::File {
                        action: "look at",
                        path: entry.source.clone().into(),
                        source: error,
                    },
                });
            }
        }
        let tmpfs: Vec<String> =
            host.tmpfs.iter().flatten().map(|(path, _)| merge::clean(path)).collect();
        let mut images = Vec::new();
        for path in config.volumes.iter().flatten() {
            let entry = mounts::anonymous(path, driver)?;
            if !tmpfs.contains(&entry.destination) {
                images.push(entry);
            }
        }
        mounts::combine(from, own, images)
    }

    /// Makes the volumes that mounts name, holds them for the container, and fills new ones from the
    /// image. The turn is given back while that may hang, because a volume is a mount.
    async fn make_volumes(
        &self,
        id: &str,
        mut wanted: Vec<MountEntry>,
        mut turn: Turn,
        made: &mut Vec<String>,
    ) -> Result<(Vec<MountEntry>, Turn)> {
        let mut fill = Vec::new();
        for entry in wanted.iter_mut().filter(|e| e.kind == MountKind::Volume) {
            let (record, new) = self
                .volume_make(
                    VolumeSpec {
                        name: entry.name.clone(),
                        driver: entry.driver.clone(),
                        options: entry.volume_options.clone(),
                        labels: entry.volume_labels.clone(),
                    },
                    Some(id),
                )
                .await?;
            entry.name = record.name;
            if new {
                made.push(entry.name.clone());
            }
            let data = self.inner.volumes.mountpoint(&entry.name);
            entry.source = data.to_string_lossy().into_owned();
            if !entry.no_copy && entry.subpath.is_empty() {
                fill.push((entry.name.clone(), entry.destination.clone(), data));
            }
        }
        if !fill.is_empty() {
            let id = id.to_owned();
            let names: Vec<String> = fill.iter().map(|(name, ..)| name.clone()).collect();
            let may_hang = self.any_mounted(names.clone()).await;
            if may_hang {
                drop(turn);
                self.with_volumes(names, move |this| this.fill_volumes(&id, &fill)).await?;
                turn = self.inner.admission.start().await;
            } else {
                self.with_volumes(names, move |this| this.fill_volumes(&id, &fill)).await?;
            }
        }
        Ok((wanted, turn))
    }

    fn fill_volumes(&self, id: &str, fill: &[(String, String, std::path::PathBuf)]) -> Result<()> {
        let root = self.inner.images.mount(id, skep_image::MountOptions::default())?;
        fill.iter().try_for_each(|(name, destination, data)| {
            self.inner.volumes.activate(name, id, 0)?;
            let copied = volume::copy_up(&root.path(), destination, data).map_err(|source| {
                EngineError::File {
                    action: "copy the image's content into",
                    path: data.clone(),
                    source,
                }
            });
            self.inner.volumes.deactivate(name, id, 0);
            copied
        })
    }
}

/// Docker's default host name is the short id; containers in the host's UTS namespace have none.
fn with_hostname(mut config: ContainerConfig, host: &HostConfig, id: &str) -> ContainerConfig {
    let own = config.hostname.as_deref().is_some_and(|h| !h.is_empty());
    let mode = |m: &Option<String>| m.clone().unwrap_or_default();
    if !own && !mode(&host.network_mode).starts_with("container:") {
        let of_host = mode(&host.network_mode) == "host" || mode(&host.uts_mode) == "host";
        let hostname = if of_host { crate::system::hostname() } else { util::short(id).to_owned() };
        config.hostname = Some(hostname);
    }
    config
}
