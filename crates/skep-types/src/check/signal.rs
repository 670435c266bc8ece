use super::Malformed;

/// Linux's signals from 1 on, without their `SIG`. Source: `signal(7)`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Docker's numbering of the C library's real-time signals, both ends included.
const REAL_TIME: (i32, i32) = (34, 64);

/// The number of a signal given by name, with or without `SIG`, or by number. Real-time signals are
/// `RTMIN`, `RTMIN+n`, `RTMAX-n`, `RTMAX`.
///
/// # Errors
/// [`Malformed::Signal`].
pub fn signal(text: &str) -> Result<i32, Malformed> {
    number(text).ok_or_else(|| Malformed::Signal { text: text.to_owned() })
}

fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REAL_TIME.1).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let span = REAL_TIME.1 - REAL_TIME.0;
    if let Some(rest) = bare.strip_prefix("RTMIN") {
        return offset(rest, '+').filter(|n| *n <= span).map(|n| REAL_TIME.0 + n);
    }
    if let Some(rest) = bare.strip_prefix("RTMAX") {
        return offset(rest, '-').filter(|n| *n <= span).map(|n| REAL_TIME.1 - n);
    }
    let name = match bare {
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    let index = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(index + 1).ok()
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
            ("POLL", 29),
            ("SYS", 31),
        ] {
            assert_eq!(signal(text), Ok(want), "{text}");
        }
        for bad in ["", "0", "65", "SIGFOO", "-1", "RTMIN-1", "RTMIN+99"] {
            let refused = signal(bad).unwrap_err().to_string();
            assert_eq!(refused, format!("Invalid signal: {bad}"));
        }
    }
}
