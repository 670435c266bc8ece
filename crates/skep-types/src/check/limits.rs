use super::Malformed;
use crate::Ulimit;

/// The least memory a container may be limited to, in bytes (Docker's).
pub const MIN_MEMORY: i64 = 6 << 20;

/// Limits of processes by Docker's short names. Source: `getrlimit(2)`.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Checks one `--ulimit`; −1 means unlimited.
///
/// # Errors
/// One of the `Ulimit…` kinds of [`Malformed`].
pub fn ulimit(limit: &Ulimit) -> Result<(), Malformed> {
    let Ulimit { name, soft, hard } = limit;
    if !ULIMITS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(Malformed::UlimitType { name: name.clone() });
    }
    if let Some(value) = [*soft, *hard].into_iter().find(|value| *value < -1) {
        return Err(Malformed::UlimitValue { name: name.clone(), value });
    }
    let value = |v: i64| u64::try_from(v).unwrap_or(u64::MAX);
    if value(*soft) > value(*hard) {
        return Err(Malformed::UlimitOrder { soft: *soft, hard: *hard });
    }
    Ok(())
}

/// Checks `--memory-swappiness`; −1 means the kernel's own.
///
/// # Errors
/// [`Malformed::Swappiness`].
pub fn swappiness(value: i64) -> Result<(), Malformed> {
    if (-1..=100).contains(&value) { Ok(()) } else { Err(Malformed::Swappiness { value }) }
}

/// Checks `--oom-score-adj`.
///
/// # Errors
/// [`Malformed::OomScoreAdj`].
pub fn oom_score_adj(value: i64) -> Result<(), Malformed> {
    if (-1000..=1000).contains(&value) { Ok(()) } else { Err(Malformed::OomScoreAdj { value }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        let limit = |name: &str, soft, hard| ulimit(&Ulimit { name: name.into(), soft, hard });
        limit("nofile", 10, -1).unwrap();
        limit("core", 0, 0).unwrap();
        for (refused, words) in [
            (limit("speed", 1, 1), "invalid ulimit type: speed"),
            (limit("core", 2, 1), "2 > 1"),
            (limit("core", -1, 1), "-1 > 1"),
            (limit("core", -5, 1), "invalid ulimit core: -5"),
        ] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
