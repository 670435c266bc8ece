use skep_types::{Service, Task, TaskSpec};

use super::new_task::task_spec;
use crate::Store;
use crate::scheduler::constraint;

/// Whether a task runs what its service asks for now.
///
/// Another placement alone makes no new task as long as the task's node satisfies it, and neither do
/// other registry credentials.
pub(crate) fn is_up_to_date(store: &Store, service: &Service, task: &Task) -> bool {
    if service.spec_version.is_some() && task.spec_version == service.spec_version {
        return true;
    }
    let endpoint_fits =
        task.endpoint.as_ref().is_none_or(|endpoint| match &service.spec.endpoint_spec {
            Some(spec) => *spec == endpoint.spec,
            None => endpoint.spec == skep_types::EndpointSpec::default(),
        });
    if !endpoint_fits {
        return false;
    }
    let wanted = task_spec(service);
    if wanted == task.spec {
        return true;
    }
    comparable(&wanted) == comparable(&task.spec) && placement_fits(store, &wanted, task)
}

fn comparable(spec: &TaskSpec) -> TaskSpec {
    let mut spec = spec.clone();
    spec.placement = None;
    if let Some(container) = &mut spec.container_spec {
        container.registry_auth.clear();
    }
    spec
}

/// A task without a node is where its old placement left it, so a new one is news to it.
fn placement_fits(store: &Store, wanted: &TaskSpec, task: &Task) -> bool {
    let constraints = wanted.placement.as_ref().map_or(&[][..], |placement| &placement.constraints);
    let node = store.node(&task.node_id);
    node.is_some_and(|node| constraint::all_fit(constraints, node))
}
