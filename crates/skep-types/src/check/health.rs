use super::Malformed;
use crate::{HealthConfig, Nanos};

/// Shortest span a health check may name, other than zero for the default (Docker's).
const MIN_SPAN: Nanos = Nanos::from_millis(1);

/// Checks a health check.
///
/// # Errors
/// One of the `Health…` kinds of [`Malformed`].
pub fn health(check: &HealthConfig) -> Result<(), Malformed> {
    for (field, span) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if span != Nanos(0) && span < MIN_SPAN {
            return Err(Malformed::HealthSpan { field });
        }
    }
    if check.retries < 0 {
        return Err(Malformed::HealthRetries);
    }
    match check.test.first().map(String::as_str) {
        None | Some("NONE" | "CMD" | "CMD-SHELL") => Ok(()),
        Some(kind) => Err(Malformed::HealthTest { kind: kind.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks() {
        let test = |words: &[&str]| HealthConfig {
            test: words.iter().map(|&w| w.to_owned()).collect(),
            ..Default::default()
        };
        for good in [test(&[]), test(&["NONE"]), test(&["CMD", "true"])] {
            health(&good).unwrap();
        }
        for (bad, words) in [
            (test(&["true"]), "\"true\""),
            (HealthConfig { interval: Nanos(5), ..test(&["CMD"]) }, "Interval in Healthcheck"),
            (HealthConfig { start_interval: Nanos(-5), ..test(&["CMD"]) }, "StartInterval"),
            (HealthConfig { retries: -1, ..test(&["CMD"]) }, "Retries"),
        ] {
            let refused = health(&bad).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
