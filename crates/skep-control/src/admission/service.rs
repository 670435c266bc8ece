use skep_types::{
    FailureAction, JobStatus, NetworkAttachmentConfig, Service, ServiceId, ServiceMode,
    ServiceSpec, Timestamp, UpdateState, UpdateStatus, Version,
};

use super::network::{is_predefined, networks_of};
use super::{ControlError, check_version, container_spec, endpoint_spec, mode, names, task_spec};
use crate::{Action, Draft, Rng, Store, new_id};

/// Networks may be given by id, name or id prefix; the stored spec has ids.
///
/// # Errors
/// `InvalidArgument` for a bad spec, a port in use or a missing secret or config, `NotFound` for an
/// unknown network, `AlreadyExists` if the name is taken.
pub fn create_service(
    store: &Store,
    mut spec: ServiceSpec,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> Result<(ServiceId, Vec<Action>), ControlError> {
    check_spec(store, None, &mut spec)?;
    let name = &spec.annotations.name;
    if store.service_named(name).is_some() {
        return Err(ControlError::exists(format!(
            "name conflicts with an existing object: service {name} already exists"
        )));
    }
    let id: ServiceId = new_id(rng);
    let service = Service {
        id: id.clone(),
        job_status: is_job(&spec.mode)
            .then(|| JobStatus { last_execution: now, ..JobStatus::default() }),
        spec,
        spec_version: Some(Version::default()),
        ..Service::default()
    };
    let mut draft = Draft::new(store, now);
    draft.put(service);
    Ok((id, draft.finish()))
}

/// Replaces a service's spec; the present one becomes the previous one. A finished, paused or running
/// update is forgotten, and the updater begins anew.
///
/// # Errors
/// As for creation; `NotFound`; `Conflict` on an old version; `InvalidArgument` for another name or
/// kind of mode.
pub fn update_service(
    store: &Store,
    id: &ServiceId,
    version: Version,
    mut spec: ServiceSpec,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    let old = find(store, id)?;
    check_version(&old.meta, version)?;
    if spec.annotations.name != old.spec.annotations.name {
        return Err(ControlError::invalid("renaming services is not supported"));
    }
    if !mode::same_kind(&spec.mode, &old.spec.mode) {
        return Err(ControlError::invalid("service mode change is not allowed"));
    }
    check_spec(store, Some(old), &mut spec)?;
    let mut draft = Draft::new(store, now);
    draft.service_mut(id, |service| {
        let version = Some(service.meta.version);
        replace_spec(service, spec, version, now);
        service.update_status = None;
    });
    Ok(draft.finish())
}

/// Goes back to the previous spec, which becomes the present one and the other way round.
///
/// # Errors
/// `NotFound`, `Conflict` on an old version, `FailedPrecondition` without a previous spec; and what
/// creation checks, because what the previous spec refers to may be gone.
pub fn rollback_service(
    store: &Store,
    id: &ServiceId,
    version: Version,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    let old = find(store, id)?;
    check_version(&old.meta, version)?;
    let Some(mut spec) = old.previous_spec.clone() else {
        return Err(ControlError::precondition(format!(
            "service {id} does not have a previous spec"
        )));
    };
    check_spec(store, Some(old), &mut spec)?;
    let mut draft = Draft::new(store, now);
    draft.service_mut(id, |service| {
        // Tasks that the update did not reach are up to date again.
        let version = service.previous_spec_version;
        replace_spec(service, spec, version, now);
        service.update_status = Some(UpdateStatus {
            state: UpdateState::RollbackStarted,
            started_at: Some(now),
            completed_at: None,
            message: "manually requested rollback".to_owned(),
        });
    });
    Ok(draft.finish())
}

/// Removes a service at once. Its tasks follow: the leader's next step wants them gone, and they
/// vanish when they report that they stopped.
///
/// # Errors
/// `NotFound`.
pub fn remove_service(
    store: &Store,
    id: &ServiceId,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    find(store, id)?;
    let mut draft = Draft::new(store, now);
    draft.remove(id.clone());
    Ok(draft.finish())
}

fn find<'a>(store: &'a Store, id: &ServiceId) -> Result<&'a Service, ControlError> {
    store
        .service(id)
        .map(AsRef::as_ref)
        .ok_or_else(|| ControlError::not_found(format!("service {id} not found")))
}

/// `version` tells this spec from every other one the service had: the object's version that the
/// change is based on, which is known before the change is applied.
fn replace_spec(
    service: &mut Service,
    spec: ServiceSpec,
    version: Option<Version>,
    now: Timestamp,
) {
    service.previous_spec = Some(std::mem::replace(&mut service.spec, spec));
    service.previous_spec_version = std::mem::replace(&mut service.spec_version, version);
    if is_job(&service.spec.mode) {
        let status = service.job_status.get_or_insert_default();
        status.job_iteration.index += 1;
        status.last_execution = now;
    }
}

fn is_job(mode: &ServiceMode) -> bool {
    matches!(mode, ServiceMode::ReplicatedJob(_) | ServiceMode::GlobalJob(_))
}

fn check_spec(
    store: &Store,
    old: Option<&Service>,
    spec: &mut ServiceSpec,
) -> Result<(), ControlError> {
    mode::fill_defaults(&mut spec.mode);
    names::check_dns_name(&spec.annotations)?;
    task_spec::check(store, &spec.task_template)?;
    mode::check(spec)?;
    for update in spec.update_config.iter().chain(&spec.rollback_config) {
        task_spec::check_update(update)?;
    }
    let rollback = spec.rollback_config.as_ref();
    if rollback.is_some_and(|config| config.failure_action == FailureAction::Rollback) {
        return Err(ControlError::invalid("invalid rollback failure action: rollback"));
    }
    if let Some(endpoint) = &spec.endpoint_spec {
        endpoint_spec::check(endpoint)?;
        endpoint_spec::check_conflicts(store, old.map(|service| &service.id), endpoint)?;
    }
    resolve_networks(store, old, &mut spec.task_template.networks)?;
    resolve_networks(store, old, &mut spec.networks)?;
    if let Some(container) = &spec.task_template.container_spec {
        let on_host = networks_of(spec).any(|network| is_host(store, network));
        container_spec::check_sysctls(container, on_host)?;
    }
    let mut seen = std::collections::BTreeSet::new();
    match networks_of(spec).find(|network| !seen.insert(network.target.as_str())) {
        Some(twice) => {
            Err(ControlError::invalid(format!("network {} is given more than once", twice.target)))
        }
        None => Ok(()),
    }
}

/// Whether this is the hosts' own network.
fn is_host(store: &Store, attachment: &NetworkAttachmentConfig) -> bool {
    let network = store.network(&attachment.target.as_str().into());
    network.is_some_and(|n| is_predefined(n) && n.spec.annotations.name == "host")
}

fn resolve_networks(
    store: &Store,
    old: Option<&Service>,
    networks: &mut [NetworkAttachmentConfig],
) -> Result<(), ControlError> {
    for attachment in networks {
        let Some(network) = store.find_network(&attachment.target) else {
            return Err(ControlError::not_found(format!(
                "network {} not found",
                attachment.target
            )));
        };
        let name = &network.spec.annotations.name;
        if network.spec.ingress {
            return Err(ControlError::invalid(format!(
                "Service cannot be explicitly attached to the ingress network {name:?}"
            )));
        }
        let allocated =
            is_predefined(network) || network.spec.driver_configuration.name == "overlay";
        let kept = old.is_some_and(|service| {
            networks_of(&service.spec).any(|n| n.target == network.id.as_str())
        });
        if !allocated && !kept {
            return Err(ControlError::denied(format!(
                "The network {name} cannot be used with services. Only networks scoped to the swarm \
                 can be used, such as those created with the overlay driver."
            )));
        }
        attachment.target = network.id.to_string();
    }
    Ok(())
}
