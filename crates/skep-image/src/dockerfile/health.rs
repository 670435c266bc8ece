//! `HEALTHCHECK [options] CMD …` and `HEALTHCHECK NONE`.

use super::error::{ChangeError, bad};
use super::words::list;
use crate::config::HealthConfig;

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
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..unit_end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        sum += number * unit;
        rest = &rest[unit_end..];
    }
    let valid = !text.is_empty() && (sum == 0.0 || (1e6..9e18).contains(&sum));
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    valid.then_some(sum as i64)
}
