//! Reading a container's log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use skep_container::logs::{Follow, LogEntry, ReadOptions, read};
use skep_container::{LogConfig, StdStream};
use time::OffsetDateTime;

use super::cell::Container;
use super::log_config;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::options::{LogsOptions, LogsSession};
use crate::util;

impl Engine {
    /// Reads a container's log.
    ///
    /// # Errors
    /// `Invalid` when neither stream is asked for; `NotImplemented` when its driver keeps nothing.
    pub async fn container_logs(
        &self,
        container: &str,
        options: LogsOptions,
    ) -> Result<LogsSession> {
        if !(options.stdout || options.stderr) {
            return Err(EngineError::invalid(
                "Bad parameters: you must choose at least one stream",
            ));
        }
        let c = self.inner.containers.find(container)?;
        self.logs_of(&c, options)
    }

    pub(crate) fn logs_of(&self, c: &Arc<Container>, options: LogsOptions) -> Result<LogsSession> {
        let record = c.record();
        let log = record.host_config.log_config.clone().unwrap_or_default();
        let LogConfig::JsonFile(config) =
            log_config::for_shim(&log, &c.log_path(), &record.config)?
        else {
            return Err(EngineError::NotImplemented(
                "configured logging driver does not support reading".into(),
            ));
        };
        let follow = options.follow.then(|| {
            let mut watch = c.watch();
            let end = async move {
                // A log goes on while the container runs or is about to run again.
                let over = watch.wait_for(|g| {
                    g.removed
                        || !(g.phase.is_running() || g.phase == super::watch::Phase::Restarting)
                });
                // The watch ending is the container's end too.
                drop(over.await);
            };
            Follow { watcher: self.inner.log_watcher.clone(), until: Box::pin(end) }
        });
        let entries = read(
            &config,
            ReadOptions { tail: options.tail, since: options.since, until: options.until, follow },
        );
        let output = entries.filter_map(move |entry| {
            let out = match entry {
                Ok(entry) => {
                    let wanted = match entry.stream {
                        StdStream::Stdout => options.stdout,
                        StdStream::Stderr => options.stderr,
                    };
                    wanted.then(|| {
                        Ok((entry.stream, line(&entry, options.timestamps, options.details)))
                    })
                }
                Err(error) => Some(Err(EngineError::system("could not read the log", error))),
            };
            std::future::ready(out)
        });
        Ok(LogsSession { tty: record.tty(), output: output.boxed() })
    }
}

/// A line with what is asked for before it: `time details log`.
fn line(entry: &LogEntry, timestamps: bool, details: bool) -> Bytes {
    if !timestamps && !details {
        return entry.line.clone();
    }
    let mut out = BytesMut::with_capacity(entry.line.len() + 40);
    if timestamps {
        out.put_slice(padded(entry.time).as_bytes());
        out.put_u8(b' ');
    }
    if details {
        out.put_slice(attributes(&entry.attrs).as_bytes());
        out.put_u8(b' ');
    }
    out.put_slice(&entry.line);
    out.freeze()
}

/// RFC 3339 with all nine digits: columns line up, and clients cut the time off by its length.
fn padded(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let whole = util::rfc3339(at.replace_nanosecond(0).unwrap_or(at));
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), at.nanosecond())
}

/// `a=1,b=2`, escaped as in a query.
fn attributes(attrs: &BTreeMap<String, String>) -> String {
    let escape = |text: &str| {
        text.bytes().fold(String::new(), |mut out, b| {
            use std::fmt::Write as _;
            match b {
                b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(char::from(b)),
                b' ' => out.push('+'),
                b => {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "%{b:02X}");
                }
            }
            out
        })
    };
    attrs.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let entry = LogEntry {
            stream: StdStream::Stdout,
            time: OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(1500),
            line: Bytes::from_static(b"hi\n"),
            attrs: [("a b".to_owned(), "1/2".to_owned())].into(),
        };
        assert_eq!(line(&entry, false, false), "hi\n");
        assert_eq!(line(&entry, true, false), "1970-01-01T00:00:01.500000000Z hi\n");
        assert_eq!(line(&entry, true, true), "1970-01-01T00:00:01.500000000Z a+b=1%2F2 hi\n");
    }
}
