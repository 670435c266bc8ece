use std::collections::BTreeMap;
use std::sync::Arc;

use skep_types::{
    Endpoint, Network, NetworkAttachment, NetworkId, Service, ServiceId, Task, TaskState,
};

use super::addresses::no_address;
use super::networks::needs_allocation;
use super::services::{check_endpoint, networks, not_allocated};
use super::{AllocError, Allocator};
use crate::Draft;
use crate::admission::is_predefined;

/// What is the same for all tasks of a service in one step.
type Plan = Result<(Arc<Service>, Vec<Arc<Network>>), AllocError>;

impl Allocator {
    /// Takes new tasks on to the scheduler once they have all they need; others say in their status
    /// what is missing.
    pub fn tasks(&self, draft: &mut Draft) {
        let new: Vec<Arc<Task>> = draft
            .new_tasks()
            .filter(|task| task.desired_state <= TaskState::Complete)
            .cloned()
            .collect();
        let mut plans: BTreeMap<ServiceId, Plan> = BTreeMap::new();
        for task in new {
            let result = if task.service_id.is_empty() {
                attachments(draft, &task, None).map(|list| (None, list))
            } else {
                let plan = plans
                    .entry(task.service_id.clone())
                    .or_insert_with(|| self.plan(draft, &task.service_id));
                match plan {
                    Ok((service, networks)) => attachments(draft, &task, Some(networks.as_slice()))
                        .map(|list| (Some(service.endpoint.clone()), list)),
                    Err(error) => Err(error.clone()),
                }
            };
            settle(draft, &task, result);
        }
    }

    fn plan(&self, draft: &Draft, id: &ServiceId) -> Plan {
        let service = draft.service(id).ok_or(AllocError::EndpointPending)?;
        // The endpoint's own trouble is more telling than that it is not there.
        let networks = networks(draft, service)?;
        if let Err(error) = check_endpoint(draft, service, &networks) {
            return Err(match error {
                AllocError::EndpointPending => self.trouble(draft, service, &networks),
                other => other,
            });
        }
        Ok((Arc::clone(service), networks))
    }

    fn trouble(&self, draft: &Draft, service: &Service, networks: &[Arc<Network>]) -> AllocError {
        let spec = service.spec.endpoint_spec.clone().unwrap_or_default();
        let mut trial = Self { last_port: self.last_port.clone(), ..Self::default() };
        if let Err(error) = trial.ports(draft, service, &spec.ports) {
            return error;
        }
        let full = networks.iter().find(|network| self.exhausted.contains(&network.id));
        full.map_or(AllocError::EndpointPending, |network| no_address(network))
    }
}

/// The networks a task will be on. Its addresses come with its node.
fn attachments(
    draft: &Draft,
    task: &Task,
    of_service: Option<&[Arc<Network>]>,
) -> Result<Vec<NetworkAttachment>, AllocError> {
    let own;
    let networks = match of_service {
        Some(networks) => networks,
        None => {
            let ids = task.spec.networks.iter().map(|config| config.target.as_str());
            own = ids
                .map(|id| {
                    (draft.network(&NetworkId::from(id)).cloned())
                        .ok_or_else(|| AllocError::NetworkMissing(id.to_owned()))
                })
                .collect::<Result<Vec<_>, _>>()?;
            &own
        }
    };
    let mut list = Vec::with_capacity(networks.len());
    for network in networks {
        if !is_predefined(network) && needs_allocation(network) {
            return Err(not_allocated(draft, network));
        }
        let config = task.spec.networks.iter().find(|config| config.target == network.id.as_str());
        list.push(NetworkAttachment {
            network: Network::clone(network),
            addresses: Vec::new(),
            aliases: config.map(|config| config.aliases.clone()).unwrap_or_default(),
            driver_attachment_opts: config
                .map(|config| config.driver_opts.clone())
                .unwrap_or_default(),
        });
    }
    Ok(list)
}

fn settle(
    draft: &mut Draft,
    task: &Task,
    result: Result<(Option<Endpoint>, Vec<NetworkAttachment>), AllocError>,
) {
    let now = draft.now();
    match result {
        Ok((endpoint, attachments)) => draft.task_mut(&task.id, |task| {
            task.endpoint = endpoint;
            task.networks_attachments = attachments;
            task.status.state = TaskState::Pending;
            task.status.timestamp = now;
            task.status.message = "pending task scheduling".to_owned();
            task.status.err.clear();
        }),
        Err(error) => {
            let text = error.to_string();
            if task.status.err != text {
                draft.task_mut(&task.id, |task| {
                    task.status.err = text;
                    task.status.timestamp = now;
                });
            }
        }
    }
}
