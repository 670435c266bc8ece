//! Where a container's output is kept.

use std::collections::HashMap;
use std::path::Path;

use bollard_stubs::models::{ContainerConfig, HostConfigLogConfig};
use skep_container::{JsonFileConfig, LogConfig};
use skep_types::check::{self, JsonFile};

use crate::config::EngineConfig;
use crate::error::Result;

/// The driver and options of a container: its own, or the daemon's where it names none.
pub fn effective(own: Option<&HostConfigLogConfig>, config: &EngineConfig) -> HostConfigLogConfig {
    let defaults: HashMap<String, String> = config.log_options.iter().cloned().collect();
    match own.and_then(|o| o.typ.clone()).filter(|t| !t.is_empty()) {
        None => {
            let mut options = defaults;
            options.extend(own.and_then(|o| o.config.clone()).unwrap_or_default());
            HostConfigLogConfig { typ: Some(config.log_driver.clone()), config: Some(options) }
        }
        Some(driver) => {
            let mut options = if driver == config.log_driver { defaults } else { HashMap::new() };
            options.extend(own.and_then(|o| o.config.clone()).unwrap_or_default());
            HostConfigLogConfig { typ: Some(driver), config: Some(options) }
        }
    }
}

/// What the shim is told. `path` is where a `json-file` log goes.
///
/// # Errors
/// `Invalid` for drivers and options that are not served.
pub fn for_shim(
    log: &HostConfigLogConfig,
    path: &Path,
    container: &ContainerConfig,
) -> Result<LogConfig> {
    let driver = log.typ.as_deref().unwrap_or("json-file");
    let empty = HashMap::new();
    let options = log.config.as_ref().unwrap_or(&empty);
    if driver == "none" {
        return Ok(LogConfig::None);
    }
    check::log_driver(driver, options)?;
    Ok(LogConfig::JsonFile(json_file(check::json_file(options)?, path, container)))
}

/// The driver's options for this container: where the log goes, and what goes into each line.
fn json_file(options: JsonFile, path: &Path, container: &ContainerConfig) -> JsonFileConfig {
    let mut attrs = Vec::new();
    for key in options.labels {
        if let Some(label) = container.labels.as_ref().and_then(|labels| labels.get(&key)) {
            attrs.push((key, label.clone()));
        }
    }
    for key in options.env {
        let mut env = container.env.iter().flatten().filter_map(|entry| entry.split_once('='));
        if let Some((_, value)) = env.find(|(name, _)| *name == key) {
            attrs.push((key, value.to_owned()));
        }
    }
    attrs.extend(options.tag.map(|tag| ("tag".to_owned(), tag)));
    attrs.sort();
    JsonFileConfig {
        path: path.to_owned(),
        max_size: options.max_size,
        max_files: options.max_files,
        attrs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers() {
        let log = |driver: &str, options: &[(&str, &str)]| HostConfigLogConfig {
            typ: Some(driver.into()),
            config: Some(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
        };
        let run = |l| for_shim(&l, Path::new("/x"), &ContainerConfig::default());
        assert_eq!(run(log("none", &[])).unwrap(), LogConfig::None);
        let LogConfig::JsonFile(json) =
            run(log("json-file", &[("max-size", "10m"), ("max-file", "3")])).unwrap()
        else {
            panic!("not a json-file");
        };
        assert_eq!((json.max_size, json.max_files), (Some(10 << 20), 3));
        for bad in [
            log("syslog", &[]),
            log("json-file", &[("max-file", "3")]),
            log("json-file", &[("max-size", "0")]),
            log("json-file", &[("foo", "1")]),
        ] {
            assert!(run(bad).is_err());
        }
    }
}
