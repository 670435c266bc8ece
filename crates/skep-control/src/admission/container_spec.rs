use std::collections::{BTreeMap, BTreeSet};

use skep_types::{ContainerSpec, FileTarget, HealthConfig, Mount, MountType, Nanos};

use super::{ControlError, reference};
use crate::Store;

/// Shortest span a health check may name, other than zero for the default.
const MIN_HEALTH_SPAN: Nanos = Nanos::from_millis(1);

pub(super) fn check(store: &Store, spec: &ContainerSpec) -> Result<(), ControlError> {
    if spec.image.is_empty() {
        return Err(ControlError::invalid("ContainerSpec: image reference must be provided"));
    }
    if !reference::is_image_reference(&spec.image) {
        return Err(ControlError::invalid(format!(
            "ContainerSpec: {:?} is not a valid repository/tag",
            spec.image
        )));
    }
    check_mounts(&spec.mounts)?;
    if let Some(health) = &spec.healthcheck {
        check_health(health)?;
    }
    if spec.stop_grace_period.is_some_and(Nanos::is_negative) {
        return Err(ControlError::invalid("ContainerSpec: stop-grace-period cannot be negative"));
    }
    for variable in &spec.env {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(ControlError::invalid(format!(
                "ContainerSpec: invalid environment variable: {variable:?}"
            )));
        }
    }
    check_secrets(store, spec)?;
    check_configs(store, spec)
}

fn check_mounts(mounts: &[Mount]) -> Result<(), ControlError> {
    let mut targets = BTreeSet::new();
    for mount in mounts {
        let target = mount.target.as_str();
        if target.is_empty() {
            return Err(ControlError::invalid(
                "invalid mount target, must be an absolute path: \"\"",
            ));
        }
        // A template may stand for the leading slash.
        if !target.starts_with('/') && !target.starts_with("{{") {
            return Err(ControlError::invalid(format!(
                "invalid mount target, must be an absolute path: {target}"
            )));
        }
        if target.trim_end_matches('/').is_empty() {
            return Err(ControlError::invalid("invalid specification: destination can't be '/'"));
        }
        if !targets.insert(target) {
            return Err(ControlError::invalid(format!(
                "ContainerSpec: duplicate mount point: {target}"
            )));
        }
        let source = mount.source.as_str();
        match mount.kind {
            MountType::Bind if !source.starts_with('/') && !source.starts_with("{{") => {
                return Err(ControlError::invalid(format!(
                    "invalid bind mount source, must be an absolute path: {source}"
                )));
            }
            MountType::Volume if source.starts_with('/') => {
                return Err(ControlError::invalid(format!(
                    "invalid volume mount source, must not be an absolute path: {source}"
                )));
            }
            MountType::Tmpfs if !source.is_empty() => {
                return Err(ControlError::invalid("invalid tmpfs source, source must be empty"));
            }
            MountType::Npipe | MountType::Cluster => {
                return Err(ControlError::invalid(format!(
                    "invalid mount type at {target}: only bind, volume, tmpfs and image are available"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_health(health: &HealthConfig) -> Result<(), ControlError> {
    let spans = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    for (name, span) in spans {
        if span != Nanos(0) && span < MIN_HEALTH_SPAN {
            return Err(ControlError::invalid(format!(
                "ContainerSpec: {name} in HealthConfig cannot be less than 1ms"
            )));
        }
    }
    if health.retries < 0 {
        return Err(ControlError::invalid(
            "ContainerSpec: Retries in HealthConfig cannot be negative",
        ));
    }
    Ok(())
}

fn check_secrets(store: &Store, spec: &ContainerSpec) -> Result<(), ControlError> {
    let mut missing = Vec::new();
    let mut targets = BTreeMap::new();
    for reference in &spec.secrets {
        if reference.secret_id.is_empty() || reference.secret_name.is_empty() {
            return Err(ControlError::invalid("malformed secret reference"));
        }
        check_target("secret", reference.file.as_ref(), &reference.secret_name, &mut targets)?;
        let known = store.secret(&reference.secret_id);
        if known.is_none_or(|secret| secret.spec.annotations.name != reference.secret_name) {
            missing.push(reference.secret_name.as_str());
        }
    }
    check_missing("secret", &missing)
}

fn check_configs(store: &Store, spec: &ContainerSpec) -> Result<(), ControlError> {
    let mut missing = Vec::new();
    let mut targets = BTreeMap::new();
    for reference in &spec.configs {
        if reference.config_id.is_empty() || reference.config_name.is_empty() {
            return Err(ControlError::invalid("malformed config reference"));
        }
        if reference.runtime.is_none() {
            check_target("config", reference.file.as_ref(), &reference.config_name, &mut targets)?;
        }
        let known = store.config(&reference.config_id);
        if known.is_none_or(|config| config.spec.annotations.name != reference.config_name) {
            missing.push(reference.config_name.as_str());
        }
    }
    check_missing("config", &missing)
}

fn check_target<'a>(
    kind: &str,
    file: Option<&'a FileTarget>,
    name: &'a str,
    targets: &mut BTreeMap<&'a str, &'a str>,
) -> Result<(), ControlError> {
    let Some(file) = file.filter(|file| !file.name.is_empty()) else {
        return Err(ControlError::invalid(format!("malformed file {kind} reference, no target")));
    };
    match targets.insert(&file.name, name) {
        Some(first) => Err(ControlError::invalid(format!(
            "{kind} references '{first}' and '{name}' have a conflicting target: '{}'",
            file.name
        ))),
        None => Ok(()),
    }
}

fn check_missing(kind: &str, missing: &[&str]) -> Result<(), ControlError> {
    match missing {
        [] => Ok(()),
        [one] => Err(ControlError::invalid(format!("{kind} not found: {one}"))),
        many => Err(ControlError::invalid(format!("{kind}s not found: {}", many.join(", ")))),
    }
}
