//! What a log subscription asks for, and what a container answers.

use std::pin::Pin;

use futures::Stream;
use skep_proto::v1;
use skep_types::Timestamp;

use crate::ExecError;

/// A container's output, oldest first.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogRecord, ExecError>> + Send>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogSource {
    Stdout,
    Stderr,
}

/// Which lines to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    #[default]
    All,
    /// The last so many lines; 0 shows only what comes from now on.
    Last(u64),
    /// All but the first so many lines.
    Skip(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    /// Goes on with new lines until the container ends.
    pub follow: bool,
    pub tail: Tail,
    /// Leaves out what is older.
    pub since: Option<Timestamp>,
}

/// One message of a log, usually a line with its line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub timestamp: Timestamp,
    pub source: LogSource,
    pub data: Vec<u8>,
    /// Details the log driver was told to add.
    pub attributes: Vec<(String, String)>,
}

impl From<v1::LogSubscriptionOptions> for LogOptions {
    /// On the wire tail 0 is everything, −n the last n − 1 lines, and n all but the first n lines. No
    /// stream named means both. A `since` outside the calendar counts as none.
    fn from(options: v1::LogSubscriptionOptions) -> Self {
        let wants = |stream: v1::LogStream| {
            options.streams.is_empty() || options.streams.contains(&i32::from(stream))
        };
        let tail = match options.tail {
            0 => Tail::All,
            n if n < 0 => Tail::Last(n.unsigned_abs() - 1),
            n => Tail::Skip(n.unsigned_abs()),
        };
        Self {
            stdout: wants(v1::LogStream::Stdout),
            stderr: wants(v1::LogStream::Stderr),
            follow: options.follow,
            tail,
            since: options.since.and_then(|since| Timestamp::from_unix(since.seconds, since.nanos)),
        }
    }
}

impl LogRecord {
    /// The record as it travels.
    pub(crate) fn into_message(self, context: v1::LogContext) -> v1::LogMessage {
        let stream = match self.source {
            LogSource::Stdout => v1::LogStream::Stdout,
            LogSource::Stderr => v1::LogStream::Stderr,
        };
        v1::LogMessage {
            context: Some(context),
            timestamp: Some(prost_timestamp(self.timestamp)),
            stream: stream.into(),
            data: self.data,
            attrs: self
                .attributes
                .into_iter()
                .map(|(key, value)| v1::LogAttr { key, value })
                .collect(),
        }
    }
}

fn prost_timestamp(moment: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: moment.unix_secs(),
        // Below 10^9.
        nanos: i32::try_from(moment.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(tail: i64) -> LogOptions {
        v1::LogSubscriptionOptions { tail, ..Default::default() }.into()
    }

    #[test]
    fn tail_counts_as_docker_counts() {
        assert_eq!(options(0).tail, Tail::All);
        assert_eq!(options(-1).tail, Tail::Last(0));
        assert_eq!(options(-11).tail, Tail::Last(10));
        assert_eq!(options(3).tail, Tail::Skip(3));
        assert_eq!(options(i64::MIN).tail, Tail::Last(i64::MIN.unsigned_abs() - 1));
    }

    #[test]
    fn no_stream_means_both() {
        assert!(options(0).stdout && options(0).stderr);
        let only: LogOptions = v1::LogSubscriptionOptions {
            streams: vec![v1::LogStream::Stderr.into()],
            ..Default::default()
        }
        .into();
        assert!(!only.stdout && only.stderr);
    }
}
