//! The texts of `docker ps`.

use time::OffsetDateTime;

use super::watch::{HealthStatus, Phase};

/// What the status text depends on.
#[derive(Debug, Clone, Copy)]
pub struct StatusInput {
    /// Where in its life it is.
    pub phase: Phase,
    /// Health.
    pub health: HealthStatus,
    /// Code of the last end.
    pub exit_code: i64,
    /// Last start.
    pub started_at: Option<OffsetDateTime>,
    /// Last end.
    pub finished_at: Option<OffsetDateTime>,
}

/// `Up 3 seconds (healthy)`, `Exited (0) 2 minutes ago`, `Created`, …
pub fn text(input: &StatusInput, now: OffsetDateTime) -> String {
    let since =
        |at: Option<OffsetDateTime>| human(at.map_or(0, |at| (now - at).whole_seconds().max(0)));
    match input.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Dead => "Dead".to_owned(),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Restarting => {
            format!("Restarting ({}) {} ago", input.exit_code, since(input.finished_at))
        }
        Phase::Paused => format!("Up {} (Paused)", since(input.started_at)),
        Phase::Running => {
            let up = since(input.started_at);
            match input.health {
                HealthStatus::None => format!("Up {up}"),
                HealthStatus::Starting => format!("Up {up} (health: starting)"),
                other => format!("Up {up} ({})", other.as_str()),
            }
        }
        Phase::Exited => match input.finished_at {
            None => String::new(),
            at => format!("Exited ({}) {} ago", input.exit_code, since(at)),
        },
    }
}

/// A length of time in Docker's approximate words.
fn human(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Docker rounds hours to the nearest.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn lengths() {
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(human(seconds), want, "{seconds}");
        }
    }

    #[test]
    fn texts() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(365);
        let base = StatusInput {
            phase: Phase::Running,
            health: HealthStatus::None,
            exit_code: 0,
            started_at: Some(now - Duration::seconds(3)),
            finished_at: Some(now - Duration::minutes(2)),
        };
        let at =
            |phase, health, exit_code| text(&StatusInput { phase, health, exit_code, ..base }, now);
        assert_eq!(at(Phase::Running, HealthStatus::None, 0), "Up 3 seconds");
        assert_eq!(at(Phase::Running, HealthStatus::Healthy, 0), "Up 3 seconds (healthy)");
        assert_eq!(
            at(Phase::Running, HealthStatus::Starting, 0),
            "Up 3 seconds (health: starting)"
        );
        assert_eq!(at(Phase::Paused, HealthStatus::Healthy, 0), "Up 3 seconds (Paused)");
        assert_eq!(at(Phase::Exited, HealthStatus::Healthy, 137), "Exited (137) 2 minutes ago");
        assert_eq!(at(Phase::Restarting, HealthStatus::None, 1), "Restarting (1) 2 minutes ago");
        assert_eq!(at(Phase::Created, HealthStatus::None, 0), "Created");
        assert_eq!(at(Phase::Removing, HealthStatus::None, 0), "Removal In Progress");
        assert_eq!(at(Phase::Dead, HealthStatus::None, 0), "Dead");
    }
}
