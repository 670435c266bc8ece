//! A task's log, line by line.

use futures::{StreamExt as _, stream};
use skep_agent::{ExecError, LogOptions, LogRecord, LogSource, LogStream, Tail};
use skep_engine::{Engine, EngineError, LogsOptions, StdStream};
use skep_types::Timestamp;

/// Reads a container's log. The engine puts the time before each line; here they part again.
pub async fn read(
    engine: &Engine,
    container: &str,
    options: &LogOptions,
) -> Result<LogStream, ExecError> {
    let wanted = LogsOptions {
        stdout: options.stdout,
        stderr: options.stderr,
        follow: options.follow,
        timestamps: true,
        details: false,
        tail: match options.tail {
            Tail::Last(lines) => usize::try_from(lines).ok(),
            Tail::All | Tail::Skip(_) => None,
        },
        since: options.since.map(Timestamp::datetime),
        until: None,
    };
    let session = engine.container_logs(container, wanted).await.map_err(failed)?;
    let lines = session.output.flat_map(|item| {
        stream::iter(match item {
            Ok((from, bytes)) => records(source(from), &bytes).map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(failed(error))],
        })
    });
    Ok(match options.tail {
        Tail::Skip(count) => Box::pin(lines.skip(usize::try_from(count).unwrap_or(usize::MAX))),
        Tail::All | Tail::Last(_) => Box::pin(lines),
    })
}

fn failed(source: EngineError) -> ExecError {
    ExecError::fatal("read the task's log", source)
}

fn source(stream: StdStream) -> LogSource {
    match stream {
        StdStream::Stderr => LogSource::Stderr,
        StdStream::Stdout => LogSource::Stdout,
    }
}

fn records(source: LogSource, bytes: &[u8]) -> impl Iterator<Item = LogRecord> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(move |line| {
        let (timestamp, data) = stamped(line).unwrap_or((Timestamp::ZERO, line));
        LogRecord { timestamp, source, data: data.to_vec(), attributes: Vec::new() }
    })
}

fn stamped(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (time, rest) = line.split_at(space);
    let time = Timestamp::parse(std::str::from_utf8(time).ok()?).ok()?;
    Some((time, &rest[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_text_part() {
        let bytes = b"2026-01-02T03:04:05.6Z one two\n2026-01-02T03:04:06Z \n";
        let lines: Vec<LogRecord> = records(LogSource::Stderr, bytes).collect();
        assert_eq!(lines[0].data, b"one two\n");
        assert_eq!(lines[0].timestamp.to_string(), "2026-01-02T03:04:05.6Z");
        assert_eq!(lines[1].data, b"\n");
        assert_eq!(lines[1].source, LogSource::Stderr);
    }
}
