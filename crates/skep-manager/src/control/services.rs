use std::collections::BTreeMap;

use skep_control::{admission, list};
use skep_types::{Service, ServiceId, ServiceSpec};

use super::{
    Control, ControlError, RegistryAuth, Result, ServiceFilter, ServiceTaskCounts, ServiceUpdate,
    reference,
};

impl Control {
    /// Services in the order of ids.
    pub async fn list_services(&self, filter: &ServiceFilter) -> Result<Vec<Service>> {
        let store = self.read()?;
        let found = list::services(&store, filter);
        Ok(found.iter().map(|service| Service::clone(service)).collect())
    }

    /// `insert_defaults` fills what the spec leaves open, as `docker service inspect` shows it.
    pub async fn get_service(&self, reference: &str, insert_defaults: bool) -> Result<Service> {
        let store = self.read()?;
        let mut service = Service::clone(reference::service(&store, reference)?);
        if insert_defaults {
            defaults::fill(&mut service.spec);
        }
        Ok(service)
    }

    pub async fn create_service(&self, spec: ServiceSpec) -> Result<Service> {
        let created =
            self.change(|store, now, rng| Ok(admission::create_service(store, spec, now, rng)?));
        let (store, id) = created.await?;
        found(&store, &id)
    }

    pub async fn update_service(&self, reference: &str, update: ServiceUpdate) -> Result<Service> {
        let reference = reference.to_owned();
        let updated = self.change(move |store, now, _| {
            let service = reference::service(store, &reference)?;
            let id = service.id.clone();
            let actions = if update.rollback {
                admission::rollback_service(store, &id, update.version, now)?
            } else {
                let spec = with_auth(service, update.spec, update.registry_auth);
                admission::update_service(store, &id, update.version, spec, now)?
            };
            Ok((id, actions))
        });
        let (store, id) = updated.await?;
        found(&store, &id)
    }

    pub async fn remove_service(&self, reference: &str) -> Result<()> {
        let reference = reference.to_owned();
        let removed = self.change(move |store, now, _| {
            let id = reference::service(store, &reference)?.id.clone();
            Ok(((), admission::remove_service(store, &id, now)?))
        });
        removed.await.map(|_| ())
    }

    /// Counts for the given services; unknown ones are left out.
    pub async fn service_task_counts(
        &self,
        services: &[ServiceId],
    ) -> Result<BTreeMap<ServiceId, ServiceTaskCounts>> {
        let store = self.read()?;
        let known = services.iter().filter_map(|id| store.service(id));
        let counts = known.map(|service| {
            let status = list::service_status(&store, service);
            let counts = ServiceTaskCounts {
                running: status.running_tasks,
                desired: status.desired_tasks,
                completed: status.completed_tasks,
            };
            (service.id.clone(), counts)
        });
        Ok(counts.collect())
    }
}

fn found(store: &skep_control::Store, id: &ServiceId) -> Result<Service> {
    let service =
        store.service(id).ok_or_else(|| ControlError::not_found("service", id.as_str()))?;
    Ok(Service::clone(service))
}

/// Puts the registry credentials where the user wants them from.
fn with_auth(current: &Service, mut spec: ServiceSpec, auth: RegistryAuth) -> ServiceSpec {
    let of = |spec: &ServiceSpec| {
        spec.task_template
            .container_spec
            .as_ref()
            .map(|c| c.registry_auth.clone())
            .unwrap_or_default()
    };
    let auth = match auth {
        RegistryAuth::New(auth) => auth,
        RegistryAuth::FromSpec => of(&current.spec),
        RegistryAuth::FromPreviousSpec => {
            current.previous_spec.as_ref().map(of).unwrap_or_default()
        }
    };
    if let Some(container) = &mut spec.task_template.container_spec {
        container.registry_auth = auth;
    }
    spec
}

mod defaults {
    //! What `service inspect` shows for values that the user left open; Docker's defaults.

    use skep_types::{
        EndpointSpec, FailureAction, ReplicatedService, RestartCondition, RestartPolicy,
        ServiceMode, ServiceSpec, UpdateConfig, UpdateOrder, defaults,
    };

    pub(super) fn fill(spec: &mut ServiceSpec) {
        if let Some(container) = &mut spec.task_template.container_spec {
            container.stop_grace_period.get_or_insert(defaults::STOP_GRACE);
            container.dns_config.get_or_insert_default();
        }
        spec.task_template.resources.get_or_insert_default();
        let restart = spec.task_template.restart_policy.get_or_insert_with(|| RestartPolicy {
            condition: RestartCondition::Any,
            ..RestartPolicy::default()
        });
        restart.delay.get_or_insert(defaults::RESTART_DELAY);
        restart.max_attempts.get_or_insert(0);
        spec.task_template.placement.get_or_insert_default();
        if let ServiceMode::Replicated(ReplicatedService { replicas }) = &mut spec.mode {
            replicas.get_or_insert(1);
        }
        for config in [&mut spec.update_config, &mut spec.rollback_config] {
            let config = config.get_or_insert_with(|| UpdateConfig {
                parallelism: defaults::UPDATE_PARALLELISM,
                failure_action: FailureAction::Pause,
                order: UpdateOrder::StopFirst,
                ..UpdateConfig::default()
            });
            config.monitor.get_or_insert(defaults::UPDATE_MONITOR);
        }
        spec.endpoint_spec.get_or_insert_with(EndpointSpec::default);
    }
}
