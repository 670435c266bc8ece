use std::collections::BTreeMap;

use skep_types::check::{self, Sharing, Text};
use skep_types::{ContainerSpec, FileTarget, Nanos};

use super::{ControlError, reference};
use crate::Store;

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
    check_process(spec)?;
    check::mounts(&spec.mounts, Text::Template)?;
    check::capabilities(&spec.capability_add, &spec.capability_drop)?;
    spec.ulimits.iter().try_for_each(check::ulimit)?;
    check::oom_score_adj(spec.oom_score_adj)?;
    if let Some(health) = &spec.healthcheck {
        check::health(health)?;
    }
    check_names(spec)?;
    check_secrets(store, spec)?;
    check_configs(store, spec)
}

fn check_process(spec: &ContainerSpec) -> Result<(), ControlError> {
    spec.env.iter().try_for_each(|variable| check::environment(variable))?;
    if !spec.dir.is_empty() {
        check::working_dir(&spec.dir)?;
    }
    check::user(&spec.user, Text::Template)?;
    if !spec.stop_signal.is_empty() {
        check::signal(&spec.stop_signal)?;
    }
    if spec.stop_grace_period.is_some_and(Nanos::is_negative) {
        return Err(ControlError::invalid("ContainerSpec: stop-grace-period cannot be negative"));
    }
    Ok(())
}

fn check_names(spec: &ContainerSpec) -> Result<(), ControlError> {
    check::hostname("hostname", &spec.hostname, Text::Template)?;
    for line in &spec.hosts {
        check::hosts_line(line)?;
    }
    for server in spec.dns_config.iter().flat_map(|dns| &dns.nameservers) {
        check::nameserver(server)?;
    }
    Ok(())
}

/// Kernel settings. Tasks on the network `host` have no network namespace of their own.
pub(super) fn check_sysctls(spec: &ContainerSpec, on_host: bool) -> Result<(), ControlError> {
    let sharing = Sharing { network: on_host, ..Sharing::default() };
    spec.sysctls.keys().try_for_each(|name| check::sysctl(name, sharing))?;
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
