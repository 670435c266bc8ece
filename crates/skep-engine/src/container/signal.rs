//! Signal names as users write them.

use std::str::FromStr;

use nix::sys::signal::Signal;

use crate::error::{EngineError, Result};

/// The number of a signal given by name, with or without `SIG`, or by number. Real-time signals are
/// `RTMIN`, `RTMIN+n`, `RTMAX-n`, `RTMAX`.
///
/// # Errors
/// `Invalid` with Docker's text.
pub fn parse(text: &str) -> Result<i32> {
    let bad = || EngineError::Invalid(format!("Invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Docker's numbering of the C library's real-time signals.
    if let Some(rest) = bare.strip_prefix("RTMIN") {
        return offset(rest, '+').filter(|n| *n <= 30).map(|n| 34 + n).ok_or_else(bad);
    }
    if let Some(rest) = bare.strip_prefix("RTMAX") {
        return offset(rest, '-').filter(|n| *n <= 30).map(|n| 64 - n).ok_or_else(bad);
    }
    if bare == "CLD" {
        return Ok(Signal::SIGCHLD as i32);
    }
    if bare == "POLL" {
        return Ok(Signal::SIGIO as i32);
    }
    Signal::from_str(&format!("SIG{bare}")).map(|s| s as i32).map_err(|_| bad())
}

fn offset(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        Some(0)
    } else {
        rest.strip_prefix(sign)?.parse().ok().filter(|n| *n >= 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, want) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("HUP", 1),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
            ("WINCH", 28),
            ("CLD", 17),
        ] {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
        for bad in ["", "0", "65", "SIGFOO", "-1", "RTMIN-1", "RTMIN+99"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
