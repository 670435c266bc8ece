use skep_control::{Action, Store, list};
use skep_types::{Task, TaskState};

use super::{Control, DesiredStateFilter, Result, TaskFilter, reference};

impl Control {
    /// Tasks in the order of ids.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>> {
        let store = self.read()?;
        let found = list::tasks(&store, &resolve(&store, filter)?);
        Ok(found.iter().map(|task| Task::clone(task)).collect())
    }

    pub async fn get_task(&self, reference: &str) -> Result<Task> {
        let store = self.read()?;
        Ok(Task::clone(reference::task(&store, reference)?))
    }

    /// Removes a task's object; its node ends the task, and its service gets another one.
    pub async fn remove_task(&self, reference: &str) -> Result<()> {
        let reference = reference.to_owned();
        let removed = self.change(move |store, _, _| {
            let task = reference::task(store, &reference)?;
            let key = task.id.clone().into();
            Ok(((), vec![Action::Remove { key, version: task.meta.version }]))
        });
        removed.await.map(|_| ())
    }
}

fn resolve(store: &Store, filter: &TaskFilter) -> Result<list::TaskFilter> {
    let services = filter.services.iter().map(|r| Ok(reference::service(store, r)?.id.clone()));
    let nodes = filter.nodes.iter().map(|r| Ok(reference::node(store, r)?.id.clone()));
    let states = filter.desired_states.iter().map(|state| match state {
        DesiredStateFilter::Running => TaskState::Running,
        DesiredStateFilter::Shutdown => TaskState::Shutdown,
        DesiredStateFilter::Accepted => TaskState::Accepted,
    });
    Ok(list::TaskFilter {
        common: filter.common.clone(),
        services: services.collect::<Result<_>>()?,
        nodes: nodes.collect::<Result<_>>()?,
        desired_states: states.collect(),
        up_to_date: filter.up_to_date.then_some(true),
    })
}
