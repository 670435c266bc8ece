//! `docker ps`.

use std::collections::HashSet;
use std::sync::Arc;

use bollard_stubs::models::{
    ContainerSummary, ContainerSummaryHealth, ContainerSummaryHealthStatusEnum as HealthWord,
    ContainerSummaryHostConfig, ContainerSummaryNetworkSettings,
    ContainerSummaryStateEnum as StateWord,
};

use super::cell::Container;
use super::inspect::exposed_or_published;
use super::ports;
use super::record::Record;
use super::status::{self, StatusInput};
use super::watch::{HealthStatus, Phase};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::filters::Filters;
use crate::options::ListOptions;
use crate::util;

const KNOWN: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATUSES: &[&str] =
    &["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTHS: &[&str] = &["none", "starting", "healthy", "unhealthy"];
/// Label by which the swarm's tasks are known.
pub const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// One container as the filters see it.
struct Candidate {
    container: Arc<Container>,
    record: Record,
    health: HealthStatus,
}

/// A container found by a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    pub id: String,
    /// Without a slash.
    pub name: String,
    /// The label's.
    pub value: String,
}

impl Engine {
    /// Containers, newest first.
    ///
    /// # Errors
    /// `Invalid` for unknown filters and values; `NoSuchContainer` for unknown ones in `before` and
    /// `since`.
    pub async fn container_list(&self, options: ListOptions) -> Result<Vec<ContainerSummary>> {
        let filters = &options.filters;
        filters.validate(KNOWN)?;
        for (name, words) in [("status", STATUSES), ("health", HEALTHS)] {
            if let Some(bad) = filters.get(name).iter().find(|v| !words.contains(&v.as_str())) {
                return Err(EngineError::Invalid(format!("invalid filter '{name}={bad}'")));
            }
        }
        let chosen = self.choose(&options)?;
        let mut list = Vec::with_capacity(chosen.len());
        for candidate in chosen {
            list.push(self.summary(&candidate, options.size).await);
        }
        Ok(list)
    }

    /// Containers with a label, of a value if one is given, in no order. Much cheaper than
    /// [`Engine::container_list`]: each task of a host asks this.
    pub fn containers_labelled(&self, key: &str, value: Option<&str>) -> Vec<Labelled> {
        let of = |c: &Arc<Container>| {
            c.read(|r| {
                let found =
                    r.label(key).filter(|found| value.is_none_or(|value| value == *found))?;
                Some(Labelled { id: r.id.clone(), name: r.name.clone(), value: found.to_owned() })
            })
        };
        self.inner.containers.all().iter().filter_map(of).collect()
    }

    fn choose(&self, options: &ListOptions) -> Result<Vec<Candidate>> {
        let filters = &options.filters;
        let created = |name: &str| -> Result<Option<time::OffsetDateTime>> {
            match filters.get(name).last() {
                Some(reference) => {
                    Ok(Some(self.inner.containers.find_any(reference)?.read(|r| r.created)))
                }
                None => Ok(None),
            }
        };
        let (before, since) = (created("before")?, created("since")?);
        let ancestors = self.ancestors(filters)?;
        let exited = filters
            .get("exited")
            .iter()
            .map(|v| {
                v.parse::<i64>()
                    .map_err(|_| EngineError::Invalid(format!("invalid filter 'exited={v}'")))
            })
            .collect::<Result<Vec<_>>>()?;
        let tasks =
            if filters.has("is-task") { Some(filters.flag("is-task", false)?) } else { None };
        for name in ["publish", "expose"] {
            if let Some(bad) = filters
                .get(name)
                .iter()
                .find(|v| ports::filter_matches(v, 1, skep_types::Protocol::Tcp).is_none())
            {
                return Err(EngineError::Invalid(format!("invalid filter '{name}={bad}'")));
            }
        }
        // These say something about containers that do not run, so they are looked at too.
        let all = options.all
            || options.limit.is_some()
            || before.is_some()
            || since.is_some()
            || filters.has("status")
            || !exited.is_empty();
        let mut list: Vec<Candidate> = self
            .inner
            .containers
            .all()
            .into_iter()
            .map(|container| Candidate {
                record: container.record(),
                health: container.live(|l| l.health.status),
                container,
            })
            .filter(|c| {
                all || matches!(
                    c.record.state.phase,
                    Phase::Running | Phase::Paused | Phase::Restarting
                )
            })
            .filter(|c| {
                before.is_none_or(|at| c.record.created < at)
                    && since.is_none_or(|at| c.record.created > at)
            })
            .filter(|c| ancestors.as_ref().is_none_or(|ids| ids.contains(&c.record.image_id)))
            .filter(|c| {
                exited.is_empty()
                    || (ended(&c.record) && exited.contains(&c.record.state.exit_code))
            })
            .filter(|c| tasks.is_none_or(|wanted| wanted == c.record.label(TASK_LABEL).is_some()))
            .filter(|c| self.fits(filters, c))
            .collect();
        list.sort_by_key(|c| std::cmp::Reverse(c.record.created));
        list.truncate(options.limit.unwrap_or(usize::MAX));
        Ok(list)
    }

    /// Image ids that the `ancestor` filter means; names that are none match nothing.
    fn ancestors(&self, filters: &Filters) -> Result<Option<HashSet<String>>> {
        if !filters.has("ancestor") {
            return Ok(None);
        }
        let all =
            self.inner.images.list(&skep_image::ListFilter { all: true, ..Default::default() })?;
        let mut ids = HashSet::new();
        for name in filters.get("ancestor") {
            let Ok(image) = self.inner.images.get(name) else { continue };
            let layers = &image.config.rootfs.diff_ids;
            // Descendants are images whose lowest layers are the ancestor's.
            ids.extend(
                all.iter()
                    .filter(|i| i.config.rootfs.diff_ids.starts_with(layers))
                    .map(|i| i.id.to_string()),
            );
            ids.insert(image.id.to_string());
        }
        Ok(Some(ids))
    }

    fn fits(&self, filters: &Filters, c: &Candidate) -> bool {
        let r = &c.record;
        filters.prefix("id", &r.id)
            && (filters.fuzzy("name", &r.name) || filters.fuzzy("name", &format!("/{}", r.name)))
            && filters.exact("status", r.state.phase.as_str())
            && filters.exact("health", c.health.as_str())
            && filters.labels("label", |key| r.label(key))
            && filters.no_labels("label!", |key| r.label(key))
            && volume_fits(filters, r)
            && self.network_fits(filters, r)
            && port_fits(filters, r, self)
    }

    fn network_fits(&self, filters: &Filters, r: &Record) -> bool {
        if !filters.has("network") {
            return true;
        }
        let id = |name: &str| self.inner.net.network(name).ok().map(|n| n.id);
        let mut own: Vec<_> = r.attachments.iter().filter_map(|a| id(&a.network)).collect();
        own.extend(self.endpoints(r).into_iter().map(|e| e.network_id));
        filters.get("network").iter().any(|wanted| id(wanted).is_some_and(|id| own.contains(&id)))
    }

    async fn summary(&self, c: &Candidate, size: bool) -> ContainerSummary {
        let r = &c.record;
        let info = self.sandbox_info(r);
        let (size_rw, size_root_fs) = if size { self.sizes(r).await } else { (None, None) };
        let input = StatusInput {
            phase: r.state.phase,
            health: c.health,
            exit_code: r.state.exit_code,
            started_at: r.state.started_at,
            finished_at: r.state.finished_at,
        };
        let ports = match &info {
            Some(info) => ports::summary(&info.ports, &exposed_or_published(r)),
            None => Vec::new(),
        };
        ContainerSummary {
            id: Some(r.id.clone()),
            names: Some(vec![format!("/{}", r.name)]),
            image: Some(self.shown_image(r)),
            image_id: Some(r.image_id.clone()),
            image_manifest_descriptor: None,
            command: Some(shown_command(&r.path, &r.args)),
            created: Some(r.created.unix_timestamp()),
            ports: Some(ports),
            size_rw,
            size_root_fs,
            labels: Some(r.config.labels.clone().unwrap_or_default()),
            state: Some(match r.state.phase {
                Phase::Created => StateWord::CREATED,
                Phase::Running => StateWord::RUNNING,
                Phase::Paused => StateWord::PAUSED,
                Phase::Restarting => StateWord::RESTARTING,
                Phase::Removing => StateWord::REMOVING,
                Phase::Exited => StateWord::EXITED,
                Phase::Dead => StateWord::DEAD,
            }),
            status: Some(if c.container.is_damaged() {
                // The reason names files: it would make a wide table of a narrow one.
                "Dead (damaged: see docker inspect)".to_owned()
            } else {
                status::text(&input, util::now())
            }),
            host_config: Some(ContainerSummaryHostConfig {
                network_mode: Some(r.network_mode().to_owned()),
                annotations: r.host_config.annotations.clone(),
            }),
            network_settings: Some(ContainerSummaryNetworkSettings {
                networks: Some(self.network_map(r, info.as_ref())),
            }),
            mounts: Some(r.mounts.iter().map(|m| m.to_api()).collect()),
            health: Some(ContainerSummaryHealth {
                status: Some(match c.health {
                    HealthStatus::None => HealthWord::NONE,
                    HealthStatus::Starting => HealthWord::STARTING,
                    HealthStatus::Healthy => HealthWord::HEALTHY,
                    HealthStatus::Unhealthy => HealthWord::UNHEALTHY,
                }),
                failing_streak: Some(c.container.live(|l| l.health.streak)),
            }),
        }
    }

    /// The image's name as given, as long as it still means the same image; its id otherwise.
    pub(crate) fn shown_image(&self, r: &Record) -> String {
        let name = r.config.image.clone().unwrap_or_default();
        match self.inner.images.get(&name) {
            Ok(image) if image.id.to_string() == r.image_id => name,
            _ => r.image_id.clone(),
        }
    }
}

fn ended(r: &Record) -> bool {
    matches!(r.state.phase, Phase::Exited | Phase::Dead)
}

fn volume_fits(filters: &Filters, r: &Record) -> bool {
    let wanted = filters.get("volume");
    wanted.is_empty()
        || r.mounts
            .iter()
            .any(|m| wanted.iter().any(|w| *w == m.name || *w == m.destination || *w == m.source))
}

fn port_fits(filters: &Filters, r: &Record, engine: &Engine) -> bool {
    let any = |name: &str, ports: &[(u16, skep_types::Protocol)]| {
        let wanted = filters.get(name);
        wanted.is_empty()
            || ports.iter().any(|(port, protocol)| {
                wanted.iter().any(|w| ports::filter_matches(w, *port, *protocol) == Some(true))
            })
    };
    if !filters.has("publish") && !filters.has("expose") {
        return true;
    }
    let published: Vec<_> = engine
        .sandbox_info(r)
        .map(|i| i.ports.iter().map(|p| (p.host_port, p.protocol)).collect())
        .unwrap_or_default();
    let exposed: Vec<_> = r.exposed().iter().filter_map(|p| ports::parse_port(p).ok()).collect();
    any("publish", &published) && any("expose", &exposed)
}

/// The command line as one text; words with blanks in quotes.
fn shown_command(path: &str, args: &[String]) -> String {
    let quoted = |word: &String| {
        if word.contains(' ') { format!("'{}'", word.replace('\'', "\\'")) } else { word.clone() }
    };
    let mut words = vec![path.to_owned()];
    words.extend(args.iter().map(quoted));
    words.join(" ")
}
