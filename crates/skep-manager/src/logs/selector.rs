use std::collections::BTreeSet;

use skep_control::Store;
use skep_proto::v1;
use skep_types::{NodeId, ServiceId, Task, TaskId, TaskState};

/// Whose logs are asked for. Empty fields ask for nothing by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub services: Vec<ServiceId>,
    pub nodes: Vec<NodeId>,
    pub tasks: Vec<TaskId>,
}

impl Selector {
    fn fits(&self, task: &Task) -> bool {
        self.services.contains(&task.service_id)
            || self.nodes.contains(&task.node_id)
            || self.tasks.contains(&task.id)
    }

    /// Nodes with tasks that fit. Without `follow` only tasks that have written something count.
    pub fn nodes_with_tasks(&self, store: &Store, follow: bool) -> BTreeSet<NodeId> {
        let fits = |task: &&std::sync::Arc<Task>| {
            !task.node_id.is_empty()
                && task.spec.network_attachment_spec.is_none()
                && self.fits(task)
                && (follow || task.status.state >= TaskState::Running)
        };
        store.tasks().filter(fits).map(|task| task.node_id.clone()).collect()
    }
}

impl From<&Selector> for v1::LogSelector {
    fn from(selector: &Selector) -> Self {
        Self {
            service_ids: selector.services.iter().map(ToString::to_string).collect(),
            node_ids: selector.nodes.iter().map(ToString::to_string).collect(),
            task_ids: selector.tasks.iter().map(ToString::to_string).collect(),
        }
    }
}
