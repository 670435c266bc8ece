use std::time::{Duration, Instant};

/// The first interval between two lines about one trouble.
const FIRST: Duration = Duration::from_secs(10);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(600);
/// A trouble that changes its text is news, but not more often than this.
const NEWS: Duration = Duration::from_secs(1);

/// Decides which occurrences of a trouble that repeats are worth a line in the log: the first, one
/// whose text is new, then at intervals that double from 10 s to 10 min, each with the number of
/// occurrences so far. For loops that try again and again.
#[derive(Debug, Default)]
pub struct Repeated {
    /// `None` while all is well.
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    text: String,
    /// Occurrences since all was well.
    times: u64,
    said_at: Instant,
    interval: Duration,
}

impl Repeated {
    /// Takes note of a failure; `Some` with the number of failures so far if it is to be logged.
    pub fn failed(&mut self, now: Instant, text: &str) -> Option<u64> {
        let Some(trouble) = &mut self.trouble else {
            self.trouble =
                Some(Trouble { text: text.to_owned(), times: 1, said_at: now, interval: FIRST });
            return Some(1);
        };
        trouble.times += 1;
        let silent = now.saturating_duration_since(trouble.said_at);
        let news = trouble.text != text;
        if silent < if news { NEWS } else { trouble.interval } {
            return None;
        }
        // Texts that take turns are one trouble too: only time makes the interval grow, nothing makes it
        // shrink.
        if silent >= trouble.interval {
            trouble.interval = (trouble.interval * 2).min(LONGEST);
        }
        if news {
            text.clone_into(&mut trouble.text);
        }
        trouble.said_at = now;
        Some(trouble.times)
    }

    /// Takes note of a success; `Some` with the number of failures before it if there were any.
    pub fn succeeded(&mut self) -> Option<u64> {
        self.trouble.take().map(|trouble| trouble.times)
    }

    /// The text of the last failure that was logged, while it lasts.
    pub fn current(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_that_repeats_is_said_at_growing_intervals() {
        let (start, mut repeated) = (Instant::now(), Repeated::default());
        // Ten times a second for an hour.
        let said: Vec<(u64, u64)> = (0..36_000_u64)
            .filter_map(|n| {
                let at = start + Duration::from_millis(100 * n);
                repeated.failed(at, "disk full").map(|times| (n / 10, times))
            })
            .collect();
        assert_eq!(
            said,
            [
                (0, 1),
                (10, 101),
                (30, 301),
                (70, 701),
                (150, 1_501),
                (310, 3_101),
                (630, 6_301),
                (1_230, 12_301),
                (1_830, 18_301),
                (2_430, 24_301),
                (3_030, 30_301),
            ]
        );
        assert_eq!(repeated.current(), Some("disk full"));
        assert_eq!(repeated.succeeded(), Some(36_000));
        assert_eq!(repeated.succeeded(), None);
        assert_eq!(repeated.failed(start, "disk full"), Some(1), "a new trouble is said at once");
    }

    #[test]
    fn texts_that_take_turns_make_no_flood() {
        let (start, mut repeated) = (Instant::now(), Repeated::default());
        let said = (0..6_000_u64)
            .filter(|n| {
                let text = if n % 2 == 0 { "a" } else { "b" };
                repeated.failed(start + Duration::from_millis(10 * n), text).is_some()
            })
            .count();
        assert!(said <= 61, "{said} lines in a minute");
    }

    #[test]
    fn a_new_text_is_news() {
        let (start, mut repeated) = (Instant::now(), Repeated::default());
        assert_eq!(repeated.failed(start, "a"), Some(1));
        assert_eq!(repeated.failed(start + Duration::from_secs(2), "a"), None);
        assert_eq!(repeated.failed(start + Duration::from_secs(2), "b"), Some(3));
    }
}
