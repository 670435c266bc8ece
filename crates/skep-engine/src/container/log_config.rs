//! Where a container's output is kept.

use std::collections::HashMap;
use std::path::Path;

use bollard_stubs::models::{ContainerConfig, HostConfigLogConfig};
use skep_container::{JsonFileConfig, LogConfig};

use crate::config::EngineConfig;
use crate::error::{EngineError, Result};

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
    match driver {
        "none" => Ok(LogConfig::None),
        "json-file" => json_file(options, path, container).map(LogConfig::JsonFile),
        other => Err(EngineError::Invalid(format!(
            "logger: no log driver named '{other}' is registered (served are json-file and none)"
        ))),
    }
}

fn json_file(
    options: &HashMap<String, String>,
    path: &Path,
    container: &ContainerConfig,
) -> Result<JsonFileConfig> {
    let mut config =
        JsonFileConfig { path: path.to_owned(), max_size: None, max_files: 1, attrs: Vec::new() };
    let bad = |name: &str, value: &str| {
        EngineError::Invalid(format!("invalid log option {name}={value}"))
    };
    let (empty_labels, empty_env) = (HashMap::new(), Vec::new());
    let labels = container.labels.as_ref().unwrap_or(&empty_labels);
    let env = container.env.as_ref().unwrap_or(&empty_env);
    for (name, value) in options {
        match name.as_str() {
            "max-size" => match parse_size(value) {
                Some(0) => return Err(bad(name, value)),
                Some(size) => config.max_size = Some(size),
                None if value == "-1" => {}
                None => return Err(bad(name, value)),
            },
            "max-file" => {
                config.max_files =
                    value.parse().ok().filter(|n| *n > 0).ok_or_else(|| bad(name, value))?;
            }
            "labels" => {
                for key in value.split(',') {
                    if let Some(label) = labels.get(key) {
                        config.attrs.push((key.to_owned(), label.clone()));
                    }
                }
            }
            "env" => {
                for key in value.split(',') {
                    let found =
                        env.iter().find_map(|e| e.split_once('=').filter(|(n, _)| *n == key));
                    if let Some((name, value)) = found {
                        config.attrs.push((name.to_owned(), value.to_owned()));
                    }
                }
            }
            "tag" => config.attrs.push(("tag".to_owned(), value.clone())),
            // Rotated files are not compressed, and writing is direct: both options change nothing a
            // reader could see.
            "compress" | "mode" | "max-buffer-size" => {}
            _ => {
                return Err(EngineError::Invalid(format!(
                    "unknown log opt '{name}' for json-file log driver"
                )));
            }
        }
    }
    if config.max_files > 1 && config.max_size.is_none() {
        return Err(EngineError::invalid("max-file cannot be specified without max-size"));
    }
    config.attrs.sort();
    Ok(config)
}

/// Bytes written as `10m`, `1g`, `500k`, `100`, with optional `b` and `ib` after the unit.
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = lower[digits.len()..].trim();
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    if let Ok(number) = digits.parse::<u64>() {
        return number.checked_mul(1 << shift);
    }
    let number: f64 =
        digits.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0 && *n < 1e6)?;
    // Between 0 and 1e6 times a power of two: the conversion loses nothing that matters.
    Some((number * (1u64 << shift) as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("10m", Some(10 << 20)),
            ("1k", Some(1024)),
            ("5", Some(5)),
            ("1.5g", Some(3 << 29)),
            ("2KiB", Some(2048)),
            ("x", None),
            ("-1", None),
            ("1x", None),
        ] {
            assert_eq!(parse_size(text), want, "{text}");
        }
    }

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
