//! `docker inspect` of a container.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_stubs::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
    DriverData, EndpointSettings, NetworkSettings,
};
use skep_net::{EndpointInfo, SandboxInfo};

use super::attachment::Attachment;
use super::cell::Container;
use super::health;
use super::ports;
use super::record::Record;
use super::security;
use super::watch::Phase;
use crate::engine::Engine;
use crate::error::Result;
use crate::system::apparmor::AppArmor;
use crate::util;

impl Engine {
    /// Everything about a container; with `size` also what its files take.
    ///
    /// # Errors
    /// `NoSuchContainer`.
    pub async fn container_inspect(
        &self,
        container: &str,
        size: bool,
    ) -> Result<ContainerInspectResponse> {
        let c = self.inner.containers.find_any(container)?;
        let record = c.record();
        let (size_rw, size_root) = if size { self.sizes(&record).await } else { (None, None) };
        let path = |p: std::path::PathBuf| Some(p.to_string_lossy().into_owned());
        let mut config = record.config.clone();
        tidy(&mut config);
        let log = record.host_config.log_config.as_ref().and_then(|l| l.typ.as_deref());
        Ok(ContainerInspectResponse {
            id: Some(record.id.clone()),
            created: Some(util::rfc3339(record.created)),
            path: Some(record.path.clone()),
            args: Some(record.args.clone()),
            state: Some(state(&c, &record)),
            image: Some(record.image_id.clone()),
            resolv_conf_path: path(c.file("resolv.conf")),
            hostname_path: path(c.file("hostname")),
            hosts_path: path(c.file("hosts")),
            log_path: if log == Some("json-file") {
                path(c.log_path())
            } else {
                Some(String::new())
            },
            name: Some(format!("/{}", record.name)),
            restart_count: Some(record.restart_count),
            driver: Some("overlay2".to_owned()),
            platform: Some("linux".to_owned()),
            image_manifest_descriptor: None,
            mount_label: Some(String::new()),
            process_label: Some(String::new()),
            app_armor_profile: Some(apparmor_profile(&record)),
            exec_ids: Some(c.live(|l| l.execs.clone())).filter(|e| !e.is_empty()),
            host_config: Some(record.host_config.clone()),
            graph_driver: self.graph_driver(&record.id),
            storage: None,
            size_rw,
            size_root_fs: size_root,
            mounts: Some(record.mounts.iter().map(|m| m.to_api()).collect()),
            config: Some(config),
            network_settings: Some(self.network_settings(&record)),
        })
    }

    /// `SizeRw` and `SizeRootFs` in bytes.
    pub(crate) async fn sizes(&self, record: &Record) -> (Option<i64>, Option<i64>) {
        let own = self.inner.images.rw_size(&record.id).await.ok();
        let image = self.inner.images.get(&record.image_id).map(|i| i.size).unwrap_or(0);
        let total = own.map(|own| own + image);
        (own.and_then(|n| i64::try_from(n).ok()), total.and_then(|n| i64::try_from(n).ok()))
    }

    fn graph_driver(&self, id: &str) -> Option<DriverData> {
        let rw = self.inner.images.rw(id).ok()?;
        let text = |p: &std::path::Path| p.to_string_lossy().into_owned();
        let lower: Vec<String> = rw.lowerdirs.iter().map(|p| text(p)).collect();
        let data = [
            ("LowerDir", lower.join(":")),
            ("MergedDir", text(&rw.merged)),
            ("UpperDir", text(&rw.upper)),
            ("WorkDir", text(&rw.work)),
        ];
        Some(DriverData {
            name: "overlay2".to_owned(),
            data: data.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        })
    }

    /// What a container's networks are: as they are while it runs, as asked for otherwise.
    pub(crate) fn network_settings(&self, record: &Record) -> NetworkSettings {
        let info = self.sandbox_info(record);
        NetworkSettings {
            sandbox_id: Some(record.state.sandbox.clone().unwrap_or_default()),
            sandbox_key: Some(
                info.as_ref().map_or_else(String::new, |i| i.key.to_string_lossy().into_owned()),
            ),
            ports: Some(port_map(record, info.as_ref())),
            networks: Some(self.network_map(record, info.as_ref())),
        }
    }

    /// `Networks` by network name.
    pub(crate) fn network_map(
        &self,
        record: &Record,
        info: Option<&SandboxInfo>,
    ) -> HashMap<String, EndpointSettings> {
        let mut map = HashMap::new();
        for attachment in &record.attachments {
            let network = self.inner.net.network(&attachment.network).ok();
            let (name, id) = match &network {
                Some(n) => (n.name.clone(), n.id.as_str().to_owned()),
                None => (attachment.network.clone(), String::new()),
            };
            let endpoint =
                info.and_then(|i| i.endpoints.iter().find(|e| e.network_id.as_str() == id));
            map.insert(name, endpoint_settings(attachment, &id, endpoint));
        }
        // Attached at run time by others than the record knows of.
        for endpoint in info.iter().flat_map(|i| &i.endpoints) {
            if !map.contains_key(&endpoint.network_name) {
                let bare = Attachment::new(endpoint.network_name.clone());
                map.insert(
                    endpoint.network_name.clone(),
                    endpoint_settings(&bare, endpoint.network_id.as_str(), Some(endpoint)),
                );
            }
        }
        map
    }
}

fn endpoint_settings(
    attachment: &Attachment,
    id: &str,
    endpoint: Option<&EndpointInfo>,
) -> EndpointSettings {
    let mut settings = attachment.settings.clone();
    let live = |text: fn(&EndpointInfo) -> String| Some(endpoint.map(text).unwrap_or_default());
    let addressed = endpoint.filter(|e| !e.ipv4.is_unspecified());
    settings.network_id = Some(id.to_owned());
    settings.endpoint_id = live(|e| e.id.as_str().to_owned());
    settings.gateway = live(|e| e.gateway.map(|g| g.to_string()).unwrap_or_default());
    settings.ip_address = Some(addressed.map(|e| e.ipv4.to_string()).unwrap_or_default());
    settings.ip_prefix_len = Some(addressed.map_or(0, |e| i64::from(e.prefix)));
    settings.ipv6_gateway = Some(String::new());
    settings.global_ipv6_address = Some(String::new());
    settings.global_ipv6_prefix_len = Some(0);
    match addressed {
        Some(e) => settings.mac_address = Some(e.mac.to_string()),
        None if settings.mac_address.is_none() => settings.mac_address = Some(String::new()),
        None => {}
    }
    settings.dns_names = endpoint.map(|e| e.dns_names.clone()).filter(|n| !n.is_empty());
    settings
}

fn port_map(record: &Record, info: Option<&SandboxInfo>) -> bollard_stubs::models::PortMap {
    match info {
        Some(info) => ports::settings(&info.ports, &exposed_or_published(record)),
        None => bollard_stubs::models::PortMap::new(),
    }
}

/// Exposed ports, and those published without being exposed.
pub fn exposed_or_published(record: &Record) -> Vec<String> {
    let mut all = record.exposed();
    for port in record
        .host_config
        .port_bindings
        .iter()
        .flatten()
        .map(|(port, _)| ports::with_protocol(port))
    {
        if !all.contains(&port) {
            all.push(port);
        }
    }
    all
}

/// The profile that the container's processes get here; empty if none.
fn apparmor_profile(record: &Record) -> String {
    let host = &record.host_config;
    let options = security::parse(host.security_opt.as_deref().unwrap_or_default());
    let profile = options.ok().and_then(|options| {
        AppArmor::host().profile(options.apparmor.as_deref(), host.privileged.unwrap_or(false))
    });
    profile.unwrap_or_default()
}

fn state(c: &Arc<Container>, record: &Record) -> ContainerState {
    let s = &record.state;
    let restarting = s.phase == Phase::Restarting;
    ContainerState {
        status: Some(match s.phase {
            Phase::Created => Status::CREATED,
            Phase::Running => Status::RUNNING,
            Phase::Paused => Status::PAUSED,
            Phase::Restarting => Status::RESTARTING,
            Phase::Removing => Status::REMOVING,
            Phase::Exited => Status::EXITED,
            Phase::Dead => Status::DEAD,
        }),
        // Docker counts a container between two runs as running.
        running: Some(s.phase.is_running() || restarting),
        paused: Some(s.phase == Phase::Paused),
        restarting: Some(restarting),
        oom_killed: Some(s.oom_killed),
        dead: Some(s.phase == Phase::Dead),
        pid: Some(i64::from(s.pid)),
        exit_code: Some(s.exit_code),
        error: Some(s.error.clone()),
        started_at: Some(util::rfc3339_or_zero(s.started_at)),
        finished_at: Some(util::rfc3339_or_zero(s.finished_at)),
        health: health::to_api(c),
    }
}

/// Fields that Docker always shows.
fn tidy(config: &mut ContainerConfig) {
    config.hostname.get_or_insert_default();
    config.domainname.get_or_insert_default();
    config.user.get_or_insert_default();
    config.attach_stdin.get_or_insert(false);
    config.attach_stdout.get_or_insert(false);
    config.attach_stderr.get_or_insert(false);
    config.tty.get_or_insert(false);
    config.open_stdin.get_or_insert(false);
    config.stdin_once.get_or_insert(false);
    config.env.get_or_insert_default();
    config.working_dir.get_or_insert_default();
    config.labels.get_or_insert_default();
    config.image.get_or_insert_default();
}
