use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use skep_types::{
    Config, ConfigId, ContainerSpec, Driver, NodeDescription, Secret, SecretId, Task, TaskId,
};

use crate::TemplateError;
use crate::template::{Context, Payload};

/// The secrets and configs that came with this node's tasks. Kept in memory only.
#[derive(Clone, Debug, Default)]
pub(crate) struct DependencyStore {
    shared: Arc<RwLock<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    secrets: BTreeMap<SecretId, Arc<Secret>>,
    configs: BTreeMap<ConfigId, Arc<Config>>,
}

/// The secrets and configs that one task refers to, looked up when they are needed.
///
/// After a restart without a manager they are not there until a session brings them; a container that
/// already has them does not need them again. A controller that needs one and finds none answers
/// [`crate::ExecError::Temporary`].
#[derive(Clone, Debug)]
pub struct Dependencies {
    store: DependencyStore,
    task: TaskId,
    secrets: BTreeSet<SecretId>,
    configs: BTreeSet<ConfigId>,
    /// The container as the task wants it.
    container: ContainerSpec,
    context: Context,
}

impl Dependencies {
    /// The secret, if the task refers to it and it has arrived.
    pub fn secret(&self, id: &SecretId) -> Option<Arc<Secret>> {
        if !self.secrets.contains(id) {
            return None;
        }
        let shared = self.store.read();
        // A secret made for this one task goes by both ids.
        let own = SecretId::new(format!("{id}.{}", self.task));
        shared.secrets.get(&own).or_else(|| shared.secrets.get(id)).cloned()
    }

    /// The config, if the task refers to it and it has arrived.
    pub fn config(&self, id: &ConfigId) -> Option<Arc<Config>> {
        if !self.configs.contains(id) {
            return None;
        }
        self.store.read().configs.get(id).cloned()
    }

    /// What goes into the container's file: the data of a secret or config as it is, or filled in for
    /// this task if `templating` (of its spec) says that it is a template.
    pub fn render(
        &self,
        templating: Option<&Driver>,
        data: &[u8],
    ) -> Result<Vec<u8>, TemplateError> {
        self.context.render_data(templating, data, &self.payload())
    }

    fn payload(&self) -> Payload {
        let variables = self.container.env.iter().filter_map(|variable| variable.split_once('='));
        let secrets = self.container.secrets.iter().filter_map(|reference| {
            let secret = self.secret(&reference.secret_id)?;
            Some((reference.file.as_ref()?.name.clone(), secret.spec.data.0.clone()))
        });
        let configs = self.container.configs.iter().filter_map(|reference| {
            let config = self.config(&reference.config_id)?;
            Some((reference.file.as_ref()?.name.clone(), config.spec.data.0.clone()))
        });
        Payload {
            env: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            secrets: secrets.collect(),
            configs: configs.collect(),
        }
    }

    /// Dependencies that hold exactly these, for tests of executors.
    pub fn fixed(task: &Task, secrets: Vec<Secret>, configs: Vec<Config>) -> Self {
        let store = DependencyStore::default();
        store.replace(secrets, configs);
        store.of(task, &NodeDescription::default())
    }
}

impl DependencyStore {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Shared> {
        // The maps are whole whatever a panicking holder was doing.
        self.shared.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The part of the store that `task` may see.
    pub(crate) fn of(&self, task: &Task, node: &NodeDescription) -> Dependencies {
        let container = task.spec.container_spec.as_ref();
        // A task whose templates cannot be filled in gets no controller, and its variables no reader.
        let filled_in = crate::template::expand(task, node).ok();
        Dependencies {
            store: self.clone(),
            task: task.id.clone(),
            secrets: container
                .map(|c| c.secrets.iter().map(|r| r.secret_id.clone()).collect())
                .unwrap_or_default(),
            configs: container
                .map(|c| c.configs.iter().map(|r| r.config_id.clone()).collect())
                .unwrap_or_default(),
            container: filled_in.and_then(|task| task.spec.container_spec).unwrap_or_default(),
            context: Context::of(task, node),
        }
    }

    /// Replaces everything.
    pub(crate) fn replace(&self, secrets: Vec<Secret>, configs: Vec<Config>) {
        let mut shared = self.write();
        shared.secrets = secrets.into_iter().map(|s| (s.id.clone(), Arc::new(s))).collect();
        shared.configs = configs.into_iter().map(|c| (c.id.clone(), Arc::new(c))).collect();
    }

    pub(crate) fn put_secret(&self, secret: Secret) {
        self.write().secrets.insert(secret.id.clone(), Arc::new(secret));
    }

    pub(crate) fn put_config(&self, config: Config) {
        self.write().configs.insert(config.id.clone(), Arc::new(config));
    }

    pub(crate) fn remove_secret(&self, id: &SecretId) {
        self.write().secrets.remove(id);
    }

    pub(crate) fn remove_config(&self, id: &ConfigId) {
        self.write().configs.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::SecretReference;

    #[test]
    fn a_task_sees_only_what_it_refers_to() {
        let mut task = Task { id: "t".into(), ..Task::default() };
        task.spec.container_spec = Some(ContainerSpec {
            secrets: vec![SecretReference { secret_id: "mine".into(), ..Default::default() }],
            ..ContainerSpec::default()
        });
        let secret = |id: &str| Secret { id: id.into(), ..Secret::default() };
        let dependencies =
            Dependencies::fixed(&task, vec![secret("mine"), secret("other")], Vec::new());
        assert!(dependencies.secret(&"mine".into()).is_some());
        assert!(dependencies.secret(&"other".into()).is_none());

        let own = Dependencies::fixed(&task, vec![secret("mine.t")], Vec::new());
        assert_eq!(own.secret(&"mine".into()).unwrap().id, "mine.t".into());
    }
}
