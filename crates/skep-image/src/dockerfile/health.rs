//! `HEALTHCHECK [options] CMD …` and `HEALTHCHECK NONE`.

use super::error::{ChangeError, bad};
use super::words::list;
use crate::config::HealthConfig;
use skep_types::Nanos;

pub(super) fn parse(rest: &str) -> Result<HealthConfig, ChangeError> {
    const NAME: &str = "HEALTHCHECK";
    let mut health = HealthConfig::default();
    let mut rest = rest;
    while let Some(option) = rest.split_whitespace().next().filter(|word| word.starts_with("--")) {
        let wrong = |reason| bad(NAME, option, reason);
        let (name, value) = option.split_once('=').ok_or_else(|| wrong("expected --name=value"))?;
        let time = || duration(value).ok_or_else(|| wrong("invalid duration"));
        match name {
            "--interval" => health.interval = time()?,
            "--timeout" => health.timeout = time()?,
            "--start-period" => health.start_period = time()?,
            "--start-interval" => health.start_interval = time()?,
            "--retries" => {
                let retries = value.parse().ok().filter(|n| *n >= 0);
                health.retries = retries.ok_or_else(|| wrong("invalid number"))?;
            }
            _ => return Err(wrong("unknown option")),
        }
        rest = rest[option.len()..].trim_start();
    }
    let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    health.test = match word.to_ascii_uppercase().as_str() {
        "" => return Err(ChangeError::MissingArgument(NAME)),
        "NONE" if command.is_empty() => vec!["NONE".into()],
        "NONE" => return Err(bad(NAME, command, "NONE takes no arguments")),
        "CMD" if command.is_empty() => {
            return Err(bad(NAME, rest, "missing command after HEALTHCHECK CMD"));
        }
        "CMD" => match list(command) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".into(), command.into()],
        },
        _ => return Err(bad(NAME, word, "expected CMD or NONE")),
    };
    Ok(health)
}

/// Nanoseconds of a Go duration such as `1m30s`. Below a millisecond only 0 is allowed.
fn duration(text: &str) -> Option<i64> {
    let Nanos(span) = text.parse().ok()?;
    (span == 0 || Nanos(span) >= Nanos::from_millis(1)).then_some(span)
}
