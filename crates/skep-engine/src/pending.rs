//! Published signatures whose bodies are being written.
use std::net::Ipv4Addr;
use bollard_stubs::models::*;
use bytes::Bytes;
use skep_image::{Credentials, ImageUser, Images, Platform};
use skep_net::Net;
use tokio::io::AsyncRead;
use tokio::sync::watch;
use super::Engine;
use crate::*;

fn no<T>() -> Result<T> { Err(EngineError::NotImplemented("not there yet".into())) }

#[allow(unused_variables, clippy::unused_async, missing_docs)]
impl Engine {
    // ---- life
    /// Opens the state, starts images and network, adopts running containers, applies restart policies.
    pub async fn start(config: EngineConfig) -> Result<Engine> { no() }
    /// Ends the engine's tasks. Containers go on running.
    pub async fn shutdown(&self) {}
    pub fn config(&self) -> &EngineConfig { &self.inner.config }
    /// The network room, for task sandboxes, overlays and service bindings.
    pub fn net(&self) -> &Net { &self.inner.net }
    /// The image room.
    pub fn images(&self) -> &Images { &self.inner.images }
    /// This host's lasting id, a UUID.
    pub fn id(&self) -> &str { "" }

    // ---- containers. Every `container: &str` is an id, name or unique id prefix
    pub async fn container_create(&self, name: Option<&str>, platform: Option<&str>, body: ContainerCreateBody) -> Result<ContainerCreateResponse> { no() }
    pub async fn container_create_with(&self, name: Option<&str>, platform: Option<&str>, body: ContainerCreateBody, extras: CreateExtras) -> Result<ContainerCreateResponse> { no() }
    /// `NotModified` if it runs.
    pub async fn container_start(&self, container: &str) -> Result<()> { no() }
    /// `NotModified` if it does not run.
    pub async fn container_stop(&self, container: &str, options: StopOptions) -> Result<()> { no() }
    pub async fn container_restart(&self, container: &str, options: StopOptions) -> Result<()> { no() }
    pub async fn container_kill(&self, container: &str, signal: Option<&str>) -> Result<()> { no() }
    pub async fn container_pause(&self, container: &str) -> Result<()> { no() }
    pub async fn container_unpause(&self, container: &str) -> Result<()> { no() }
    pub async fn container_rename(&self, container: &str, name: &str) -> Result<()> { no() }
    pub async fn container_remove(&self, container: &str, options: RemoveOptions) -> Result<()> { no() }
    /// Registers at once; the returned future resolves when the condition is met. Send the HTTP
    /// response's head between the two: clients wait for it before they start the container.
    pub fn container_wait(&self, container: &str, condition: WaitCondition) -> Result<impl Future<Output = ContainerWaitResponse> + Send + 'static> { if false { return Ok(async { ContainerWaitResponse::default() }) } no() }
    pub async fn container_list(&self, options: ListOptions) -> Result<Vec<ContainerSummary>> { no() }
    pub async fn container_inspect(&self, container: &str, size: bool) -> Result<ContainerInspectResponse> { no() }
    pub async fn container_logs(&self, container: &str, options: LogsOptions) -> Result<LogsSession> { no() }
    /// Also before the start: the session then waits for it and misses nothing.
    pub async fn container_attach(&self, container: &str, options: AttachOptions) -> Result<AttachSession> { no() }
    pub async fn container_resize(&self, container: &str, size: Size) -> Result<()> { no() }
    pub async fn container_top(&self, container: &str, ps_args: &str) -> Result<ContainerTopResponse> { no() }
    pub async fn container_stats(&self, container: &str, options: StatsOptions) -> Result<StatsStream> { no() }
    pub async fn container_update(&self, container: &str, body: ContainerUpdateBody) -> Result<ContainerUpdateResponse> { no() }
    pub async fn container_changes(&self, container: &str) -> Result<Vec<FilesystemChange>> { no() }
    pub async fn container_export(&self, container: &str) -> Result<ByteStream> { no() }
    pub async fn container_archive_stat(&self, container: &str, path: &str) -> Result<PathStat> { no() }
    pub async fn container_archive_get(&self, container: &str, path: &str) -> Result<(PathStat, ByteStream)> { no() }
    /// `archive` is a tar, perhaps compressed with gzip.
    pub async fn container_archive_put<R>(&self, container: &str, path: &str, options: PutArchiveOptions, archive: R) -> Result<()>
    where R: AsyncRead + Send + Unpin + 'static { no() }
    pub async fn container_prune(&self, filters: &Filters) -> Result<ContainerPruneResponse> { no() }
    /// Changes of a container as they happen, with the present state at once.
    pub fn container_watch(&self, container: &str) -> Result<watch::Receiver<Glance>> { no() }
    /// The sandbox in the network room while the container runs.
    pub fn container_sandbox(&self, container: &str) -> Result<Option<skep_net::SandboxId>> { no() }
    /// `docker commit`.
    pub async fn container_commit(&self, container: &str, reference: Option<&str>, changes: Vec<String>, author: &str, message: &str, pause: bool) -> Result<String> { no() }

    // ---- exec
    pub async fn exec_create(&self, container: &str, body: ExecConfig) -> Result<IdResponse> { no() }
    /// `None` when detached.
    pub async fn exec_start(&self, exec: &str, options: ExecStartOptions) -> Result<Option<AttachSession>> { no() }
    pub async fn exec_resize(&self, exec: &str, size: Size) -> Result<()> { no() }
    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecInspectResponse> { no() }

    // ---- volumes
    pub async fn volume_create(&self, request: VolumeCreateRequest) -> Result<Volume> { no() }
    pub async fn volume_list(&self, filters: &Filters) -> Result<VolumeListResponse> { no() }
    pub async fn volume_inspect(&self, name: &str) -> Result<Volume> { no() }
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> { no() }
    /// Anonymous ones, or with filter `all=true` every unused one.
    pub async fn volume_prune(&self, filters: &Filters) -> Result<VolumePruneResponse> { no() }

    // ---- networks (local ones; and overlays as far as this host knows them)
    pub async fn network_create(&self, request: NetworkCreateRequest) -> Result<NetworkCreateResponse> { no() }
    /// Filters `name id driver type scope label dangling`.
    pub async fn network_list(&self, filters: &Filters) -> Result<Vec<NetworkSummary>> { no() }
    pub async fn network_inspect(&self, network: &str, verbose: bool) -> Result<NetworkInspect> { no() }
    pub async fn network_remove(&self, network: &str) -> Result<()> { no() }
    pub async fn network_connect(&self, network: &str, request: NetworkConnectRequest) -> Result<()> { no() }
    pub async fn network_disconnect(&self, network: &str, request: NetworkDisconnectRequest) -> Result<()> { no() }
    pub async fn network_prune(&self, filters: &Filters) -> Result<NetworkPruneResponse> { no() }

    // ---- images
    pub async fn image_list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> { no() }
    pub async fn image_inspect(&self, name: &str) -> Result<ImageInspect> { no() }
    pub async fn image_history(&self, name: &str) -> Result<Vec<ImageHistoryResponseItem>> { no() }
    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> { no() }
    pub async fn image_remove(&self, name: &str, options: ImageRemoveOptions) -> Result<Vec<ImageDeleteResponseItem>> { no() }
    pub async fn image_prune(&self, filters: &Filters) -> Result<ImagePruneResponse> { no() }
    /// Parameters are checked before this returns; a failure later is the last item. Dropping the
    /// stream cancels the pull.
    pub async fn image_pull(&self, options: PullOptions) -> Result<ProgressStream> { no() }
    /// Every tag of the repository when `tag` is `None`.
    pub async fn image_push(&self, name: &str, tag: Option<&str>, credentials: Credentials) -> Result<ProgressStream> { no() }
    pub async fn image_load<R>(&self, archive: R, quiet: bool) -> Result<ProgressStream>
    where R: AsyncRead + Send + Unpin + 'static { no() }
    pub async fn image_save(&self, names: &[String]) -> Result<ByteStream> { no() }
    /// `docker import`: gives the image's id.
    pub async fn image_import<R>(&self, archive: R, reference: Option<&str>, changes: Vec<String>, message: Option<String>, platform: Option<&str>) -> Result<String>
    where R: AsyncRead + Send + Unpin + 'static { no() }
    pub async fn image_distribution(&self, name: &str, credentials: Credentials) -> Result<DistributionInspect> { no() }
    /// Checks credentials; an identity token if the registry gives one.
    pub async fn registry_login(&self, server: &str, credentials: Credentials) -> Result<Option<String>> { no() }

    // ---- system
    /// Everything but what a swarm adds (`Swarm`).
    pub async fn system_info(&self) -> Result<SystemInfo> { no() }
    /// Kernel, operating system and component versions; API versions are the door's.
    pub fn system_version(&self) -> SystemVersion { SystemVersion::default() }
    pub async fn system_df(&self) -> Result<SystemDataUsageResponse> { no() }
    /// Past events first, then those that come; ends at `until`.
    pub fn system_events(&self, options: EventsOptions) -> Result<BoxStream<EventMessage>> { no() }
    /// Publishes an event of something that is not the engine's (services, nodes, …).
    pub fn publish_event(&self, typ: EventMessageTypeEnum, action: &str, id: &str, attributes: Vec<(String, String)>, scope: EventMessageScopeEnum) {}
}
