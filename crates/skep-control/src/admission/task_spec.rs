use skep_types::check::{self, LOG_DRIVERS};
use skep_types::{
    Driver, Nanos, Node, Placement, ResourceRequirements, RestartPolicy, TaskSpec, UpdateConfig,
};

use super::{ControlError, container_spec};
use crate::Store;
use crate::scheduler::constraint;

const MIN_NANO_CPUS: i64 = 1_000_000;

pub(super) fn check(store: &Store, spec: &TaskSpec) -> Result<(), ControlError> {
    if let Some(resources) = &spec.resources {
        check_resources(resources)?;
    }
    if let Some(restart) = &spec.restart_policy {
        check_restart(restart)?;
    }
    if let Some(driver) = &spec.log_driver {
        check_log_driver(store, driver)?;
    }
    if let Some(placement) = &spec.placement {
        check_placement(placement)?;
    }
    if spec.network_attachment_spec.is_some() {
        return Err(ControlError::invalid("TaskSpec: a service cannot be a network attachment"));
    }
    if !matches!(spec.runtime.as_str(), "" | "container") {
        return Err(ControlError::invalid(format!(
            "TaskSpec: runtime {:?} is not supported, only \"container\" is",
            spec.runtime
        )));
    }
    match &spec.container_spec {
        Some(container) => container_spec::check(store, container),
        None => Err(ControlError::invalid("TaskSpec: missing runtime")),
    }
}

fn check_resources(resources: &ResourceRequirements) -> Result<(), ControlError> {
    let limits = resources.limits.as_ref().map(|l| (l.nano_cpus, l.memory_bytes));
    let reservations = resources.reservations.as_ref().map(|r| (r.nano_cpus, r.memory_bytes));
    for (nano_cpus, memory) in limits.into_iter().chain(reservations) {
        if nano_cpus != 0 && nano_cpus < MIN_NANO_CPUS {
            return Err(ControlError::invalid(format!(
                "invalid cpu value {}: Must be at least 0.001",
                decimal(nano_cpus)
            )));
        }
        if memory != 0 && memory < check::MIN_MEMORY {
            return Err(ControlError::invalid(format!(
                "invalid memory value {memory}: Must be at least 6MiB"
            )));
        }
    }
    if let Some(pids) = resources.limits.as_ref().map(|l| l.pids).filter(|pids| *pids < 0) {
        return Err(ControlError::invalid(format!(
            "invalid pids limit {pids}: Must not be negative"
        )));
    }
    let limit = limits.map_or(0, |(_, memory)| memory);
    if let Some((_, reserved)) = reservations.filter(|(_, memory)| limit > 0 && *memory > limit) {
        return Err(ControlError::invalid(format!(
            "invalid memory reservation {reserved}: Must not be above the limit of {limit}"
        )));
    }
    if let Some(swappiness) = resources.memory_swappiness {
        check::swappiness(swappiness)?;
    }
    Ok(())
}

/// A log driver that writes here, with its options, or one that some other node has.
pub(super) fn check_log_driver(store: &Store, driver: &Driver) -> Result<(), ControlError> {
    let elsewhere = |node: &Node| {
        let plugins = node.description.engine.iter().flat_map(|engine| &engine.plugins);
        plugins.into_iter().any(|plugin| plugin.kind == "Log" && plugin.name == driver.name)
    };
    let served = LOG_DRIVERS.contains(&driver.name.as_str());
    // Without a name the driver is each host's own choice, and so are its options.
    if driver.name.is_empty() || (!served && store.nodes().any(|node| elsewhere(node))) {
        return Ok(());
    }
    Ok(check::log_driver(&driver.name, &driver.options)?)
}

/// Billionths as a decimal number without trailing zeros.
fn decimal(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let value = nanos.unsigned_abs();
    let text = format!("{sign}{}.{:09}", value / 1_000_000_000, value % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn check_restart(restart: &RestartPolicy) -> Result<(), ControlError> {
    if restart.delay.is_some_and(Nanos::is_negative) {
        return Err(ControlError::invalid("TaskSpec: restart-delay cannot be negative"));
    }
    if restart.window.is_some_and(Nanos::is_negative) {
        return Err(ControlError::invalid("TaskSpec: restart-window cannot be negative"));
    }
    Ok(())
}

fn check_placement(placement: &Placement) -> Result<(), ControlError> {
    constraint::parse(&placement.constraints)
        .map_err(|error| ControlError::invalid(error.to_string()))?;
    for preference in &placement.preferences {
        let descriptor = preference.spread.as_ref().map_or("", |s| s.spread_descriptor.as_str());
        if descriptor.is_empty() {
            return Err(ControlError::invalid("placement preference: no spread descriptor"));
        }
    }
    Ok(())
}

pub(super) fn check_update(update: &UpdateConfig) -> Result<(), ControlError> {
    if update.delay.is_negative() {
        return Err(ControlError::invalid("TaskSpec: update-delay cannot be negative"));
    }
    if update.monitor.is_some_and(Nanos::is_negative) {
        return Err(ControlError::invalid("TaskSpec: update-monitor cannot be negative"));
    }
    if !(0.0..=1.0).contains(&update.max_failure_ratio) {
        return Err(ControlError::invalid(
            "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
        ));
    }
    Ok(())
}
