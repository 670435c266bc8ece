use skep_types::{ContainerSpec, Secret, SecretId, SecretSpec, Timestamp, Version};

use super::{ControlError, check_version, names};
use crate::{Action, Draft, Rng, Store, new_id};

/// Below this many bytes.
const MAX_SECRET: usize = 500 * 1024;

/// # Errors
/// `InvalidArgument` for a bad name or size, `AlreadyExists` if the name is taken.
pub fn create_secret(
    store: &Store,
    spec: SecretSpec,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> Result<(SecretId, Vec<Action>), ControlError> {
    names::check_file_name(&spec.annotations)?;
    match &spec.driver {
        Some(driver) if driver.name.is_empty() => {
            return Err(ControlError::invalid("secret driver must have a name"));
        }
        Some(_) if !spec.data.0.is_empty() => {
            return Err(ControlError::invalid("a secret with a driver must not have data"));
        }
        None if spec.data.0.is_empty() || spec.data.0.len() >= MAX_SECRET => {
            return Err(ControlError::invalid(format!(
                "secret data must be larger than 0 and less than {MAX_SECRET} bytes"
            )));
        }
        _ => {}
    }
    let name = &spec.annotations.name;
    if store.secret_named(name).is_some() {
        return Err(ControlError::exists(format!("secret {name} already exists")));
    }
    let id: SecretId = new_id(rng);
    let mut draft = Draft::new(store, now);
    draft.put(Secret { id: id.clone(), spec, ..Secret::default() });
    Ok((id, draft.finish()))
}

/// Changes labels; everything else of a secret is fixed. Empty data means "as it is", because the API
/// never shows it.
///
/// # Errors
/// `NotFound`, `Conflict` on an old version, `InvalidArgument` if more than labels differs.
pub fn update_secret(
    store: &Store,
    id: &SecretId,
    version: Version,
    spec: SecretSpec,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    let old = find(store, id)?;
    check_version(&old.meta, version)?;
    let same_data = spec.data.0.is_empty() || spec.data == old.spec.data;
    if spec.annotations.name != old.spec.annotations.name
        || !same_data
        || spec.driver != old.spec.driver
        || spec.templating != old.spec.templating
    {
        return Err(ControlError::invalid("only updates to Labels are allowed"));
    }
    let mut secret = Secret::clone(old);
    secret.spec.annotations.labels = spec.annotations.labels;
    let mut draft = Draft::new(store, now);
    draft.put(secret);
    Ok(draft.finish())
}

/// # Errors
/// `NotFound`; `InvalidArgument` while services refer to it.
pub fn remove_secret(
    store: &Store,
    id: &SecretId,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    let secret = find(store, id)?;
    let users = services_with(store, |container| {
        container.secrets.iter().any(|reference| reference.secret_id == *id)
    });
    check_unused("secret", &secret.spec.annotations.name, &users)?;
    let mut draft = Draft::new(store, now);
    draft.remove(id.clone());
    Ok(draft.finish())
}

fn find<'a>(store: &'a Store, id: &SecretId) -> Result<&'a Secret, ControlError> {
    store
        .secret(id)
        .map(AsRef::as_ref)
        .ok_or_else(|| ControlError::not_found(format!("secret {id} not found")))
}

/// Names of the services whose container matches, in order.
pub(super) fn services_with(store: &Store, uses: impl Fn(&ContainerSpec) -> bool) -> Vec<String> {
    let mut names: Vec<String> = store
        .services()
        .filter(|service| service.spec.task_template.container_spec.as_ref().is_some_and(&uses))
        .map(|service| service.spec.annotations.name.clone())
        .collect();
    names.sort();
    names
}

pub(super) fn check_unused(kind: &str, name: &str, users: &[String]) -> Result<(), ControlError> {
    match users {
        [] => Ok(()),
        [one] => Err(ControlError::invalid(format!(
            "{kind} '{name}' is in use by the following service: {one}"
        ))),
        many => Err(ControlError::invalid(format!(
            "{kind} '{name}' is in use by the following services: {}",
            many.join(", ")
        ))),
    }
}
