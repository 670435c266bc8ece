//! A task's spec as the body of a container's creation.

use std::collections::HashMap;

use bollard_stubs::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, PortBinding, ResourcesUlimits,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_agent::ExecError;
use skep_types::check;
use skep_types::{
    AppArmorMode, ContainerSpec, Limit, Mount, Nanos, PortConfig, PublishMode, SeccompMode, Task,
};

/// Some(list) unless it is empty, as the Engine API has it.
fn filled<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// The two models of one JSON shape.
fn same_shape<A: Serialize, B: DeserializeOwned>(value: &A, what: &str) -> Result<B, ExecError> {
    serde_json::to_value(value)
        .and_then(serde_json::from_value)
        .map_err(|source| ExecError::fatal(format!("read the {what}"), source))
}

/// The body for a task with a container. `more` are mounts beside the spec's own.
pub fn body(
    task: &Task,
    spec: &ContainerSpec,
    more: Vec<Mount>,
) -> Result<ContainerCreateBody, ExecError> {
    let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
    labels.extend(task.container_labels());
    let healthcheck = match &spec.healthcheck {
        Some(check) => Some(same_shape(check, "health check")?),
        None => None,
    };
    let published: Vec<&PortConfig> = host_ports(task);
    let exposed =
        published.iter().map(|port| format!("{}/{}", port.target_port, port.protocol)).collect();
    Ok(ContainerCreateBody {
        hostname: text(&spec.hostname),
        user: text(&spec.user),
        exposed_ports: Some(exposed),
        tty: Some(spec.tty),
        open_stdin: Some(spec.open_stdin),
        env: filled(&spec.env),
        cmd: filled(&spec.args),
        entrypoint: filled(&spec.command),
        healthcheck,
        image: Some(spec.image.clone()),
        working_dir: text(&spec.dir),
        labels: Some(labels),
        stop_signal: text(&spec.stop_signal),
        stop_timeout: spec.stop_grace_period.map(Nanos::whole_secs),
        host_config: Some(host_config(task, spec, more, &published)?),
        ..Default::default()
    })
}

/// Ports the task has on this host alone.
pub fn host_ports(task: &Task) -> Vec<&PortConfig> {
    let ports = task.endpoint.iter().flat_map(|endpoint| {
        if endpoint.ports.is_empty() { &endpoint.spec.ports } else { &endpoint.ports }
    });
    ports.filter(|port| port.publish_mode == PublishMode::Host).collect()
}

fn host_config(
    task: &Task,
    spec: &ContainerSpec,
    more: Vec<Mount>,
    published: &[&PortConfig],
) -> Result<HostConfig, ExecError> {
    let resources = task.spec.resources.clone().unwrap_or_default();
    let limits: Limit = resources.limits.unwrap_or_default();
    let reserved = resources.reservations.unwrap_or_default();
    let positive = |value: i64| (value > 0).then_some(value);

    let mut mounts = spec.mounts.clone();
    mounts.extend(more);

    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in published {
        let host_port = (port.published_port != 0).then(|| port.published_port.to_string());
        bindings
            .entry(format!("{}/{}", port.target_port, port.protocol))
            .or_default()
            .get_or_insert_default()
            .push(PortBinding { host_ip: None, host_port });
    }

    let dns = spec.dns_config.clone().unwrap_or_default();
    let log_config = task.log_driver.as_ref().or(task.spec.log_driver.as_ref()).map(|driver| {
        HostConfigLogConfig {
            typ: text(&driver.name),
            config: Some(driver.options.clone().into_iter().collect()),
        }
    });
    Ok(HostConfig {
        memory: positive(limits.memory_bytes),
        nano_cpus: positive(limits.nano_cpus),
        pids_limit: positive(limits.pids),
        memory_reservation: positive(reserved.memory_bytes),
        memory_swap: resources.swap_bytes.map(|swap| match swap {
            // The engine's setting is memory and swap together.
            swap if swap < 0 => -1,
            swap => swap.saturating_add(limits.memory_bytes),
        }),
        memory_swappiness: resources.memory_swappiness,
        mounts: Some(same_shape(&mounts, "mounts")?),
        init: spec.init,
        cap_add: filled(&spec.capability_add),
        cap_drop: filled(&spec.capability_drop),
        sysctls: Some(spec.sysctls.clone().into_iter().collect()),
        ulimits: filled(
            &spec
                .ulimits
                .iter()
                .map(|limit| ResourcesUlimits {
                    name: Some(limit.name.clone()),
                    soft: Some(limit.soft),
                    hard: Some(limit.hard),
                })
                .collect::<Vec<_>>(),
        ),
        dns: filled(&dns.nameservers),
        dns_search: filled(&dns.search),
        dns_options: filled(&dns.options),
        extra_hosts: filled(
            &spec
                .hosts
                .iter()
                .map(|line| check::hosts_line(line))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|source| ExecError::fatal("read the extra hosts", source))?
                .concat(),
        ),
        readonly_rootfs: Some(spec.read_only),
        group_add: filled(&spec.groups),
        oom_score_adj: (spec.oom_score_adj != 0).then_some(spec.oom_score_adj),
        security_opt: filled(&security(spec)?),
        port_bindings: (!bindings.is_empty()).then_some(bindings),
        log_config,
        ..Default::default()
    })
}

fn security(spec: &ContainerSpec) -> Result<Vec<String>, ExecError> {
    let Some(privileges) = &spec.privileges else { return Ok(Vec::new()) };
    let mut options = Vec::new();
    if privileges.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    if let Some(seccomp) = &privileges.seccomp {
        match seccomp.mode {
            SeccompMode::Default => {}
            SeccompMode::Unconfined => options.push("seccomp=unconfined".to_owned()),
            SeccompMode::Custom => {
                let profile = String::from_utf8(seccomp.profile.0.clone()).map_err(|_| {
                    ExecError::refused("the seccomp profile is not text".to_owned())
                })?;
                options.push(format!("seccomp={profile}"));
            }
        }
    }
    if privileges.app_armor.is_some_and(|armor| armor.mode == AppArmorMode::Disabled) {
        options.push("apparmor=unconfined".to_owned());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::{Endpoint, EndpointSpec, Privileges, SeccompOpts};

    fn made(task: &Task, spec: &ContainerSpec) -> ContainerCreateBody {
        body(task, spec, Vec::new()).unwrap()
    }

    #[test]
    fn commands_and_labels() {
        let mut task = Task { id: "t".into(), slot: 1, ..Default::default() };
        task.service_annotations.name = "web".into();
        let spec = ContainerSpec {
            command: vec!["run".into()],
            args: vec!["fast".into()],
            env: vec!["WHO=me".into()],
            hosts: vec!["192.0.2.1 a b".into()],
            ..Default::default()
        };
        let body = made(&task, &spec);
        assert_eq!(body.entrypoint.unwrap(), ["run"]);
        assert_eq!(body.cmd.unwrap(), ["fast"]);
        assert_eq!(body.env.unwrap(), ["WHO=me"]);
        assert_eq!(body.labels.unwrap()["com.docker.swarm.task.name"], "web.1.t");
        assert_eq!(body.host_config.unwrap().extra_hosts.unwrap(), ["a:192.0.2.1", "b:192.0.2.1"]);
    }

    /// The stop takes it from the container. An end within less than a second is one at once, as with Docker.
    #[test]
    fn the_grace_period_is_counted_in_whole_seconds() {
        for (grace, seconds) in [
            (None, None),
            (Some(0), Some(0)),
            (Some(999), Some(0)),
            (Some(1000), Some(1)),
            (Some(1500), Some(1)),
            (Some(90_000), Some(90)),
        ] {
            let spec = ContainerSpec {
                stop_grace_period: grace.map(Nanos::from_millis),
                ..Default::default()
            };
            assert_eq!(made(&Task::default(), &spec).stop_timeout, seconds, "{grace:?}");
        }
    }

    #[test]
    fn only_host_ports_are_bound_here() {
        let port = |mode, published_port| PortConfig {
            target_port: 80,
            published_port,
            publish_mode: mode,
            ..Default::default()
        };
        let ports = vec![port(PublishMode::Ingress, 1), port(PublishMode::Host, 2)];
        let task = Task {
            endpoint: Some(Endpoint {
                spec: EndpointSpec { ports, ..Default::default() },
                ..Default::default()
            }),
            ..Default::default()
        };
        let bindings =
            made(&task, &ContainerSpec::default()).host_config.unwrap().port_bindings.unwrap();
        let bound = bindings["80/tcp"].as_ref().unwrap();
        assert_eq!(bound.len(), 1);
        assert_eq!(bound[0].host_port.as_deref(), Some("2"));
    }

    #[test]
    fn privileges_become_security_options() {
        let spec = ContainerSpec {
            privileges: Some(Privileges {
                no_new_privileges: true,
                seccomp: Some(SeccompOpts { mode: SeccompMode::Unconfined, ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = made(&Task::default(), &spec).host_config.unwrap().security_opt.unwrap();
        assert_eq!(options, ["no-new-privileges", "seccomp=unconfined"]);
    }
}
