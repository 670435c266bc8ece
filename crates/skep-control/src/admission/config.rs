use skep_types::{Config, ConfigId, ConfigSpec, Timestamp, Version};

use super::{ControlError, check_version, names, secret};
use crate::{Action, Draft, Rng, Store, new_id};

/// Below this many bytes.
const MAX_CONFIG: usize = 1000 * 1024;

/// # Errors
/// `InvalidArgument` for a bad name or size, `AlreadyExists` if the name is taken.
pub fn create_config(
    store: &Store,
    spec: ConfigSpec,
    now: Timestamp,
    rng: &mut dyn Rng,
) -> Result<(ConfigId, Vec<Action>), ControlError> {
    names::check_file_name(&spec.annotations)?;
    if spec.data.0.is_empty() || spec.data.0.len() >= MAX_CONFIG {
        return Err(ControlError::invalid(format!(
            "config data must be larger than 0 and less than {MAX_CONFIG} bytes"
        )));
    }
    let name = &spec.annotations.name;
    if store.config_named(name).is_some() {
        return Err(ControlError::exists(format!("config {name} already exists")));
    }
    let id: ConfigId = new_id(rng);
    let mut draft = Draft::new(store, now);
    draft.put(Config { id: id.clone(), spec, ..Config::default() });
    Ok((id, draft.finish()))
}

/// Changes labels; everything else of a config is fixed.
///
/// # Errors
/// `NotFound`, `Conflict` on an old version, `InvalidArgument` if more than labels differs.
pub fn update_config(
    store: &Store,
    id: &ConfigId,
    version: Version,
    spec: ConfigSpec,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    let old = (store.config(id))
        .ok_or_else(|| ControlError::not_found(format!("config {id} not found")))?;
    check_version(&old.meta, version)?;
    let same_data = spec.data.0.is_empty() || spec.data == old.spec.data;
    if spec.annotations.name != old.spec.annotations.name
        || !same_data
        || spec.templating != old.spec.templating
    {
        return Err(ControlError::invalid("only updates to Labels are allowed"));
    }
    let mut config = Config::clone(old);
    config.spec.annotations.labels = spec.annotations.labels;
    let mut draft = Draft::new(store, now);
    draft.put(config);
    Ok(draft.finish())
}

/// # Errors
/// `NotFound`; `InvalidArgument` while services refer to it.
pub fn remove_config(
    store: &Store,
    id: &ConfigId,
    now: Timestamp,
) -> Result<Vec<Action>, ControlError> {
    let config = (store.config(id))
        .ok_or_else(|| ControlError::not_found(format!("config {id} not found")))?;
    let users = secret::services_with(store, |container| {
        container.configs.iter().any(|reference| reference.config_id == *id)
    });
    secret::check_unused("config", &config.spec.annotations.name, &users)?;
    let mut draft = Draft::new(store, now);
    draft.remove(id.clone());
    Ok(draft.finish())
}
