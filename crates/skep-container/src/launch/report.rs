//! What launchers tell the shim, through a pipe.
//!
//! The launcher and the container's process-to-be both hold the write end; it closes on execve. So
//! the end of the pipe means: the program runs, or nothing is left that could tell of it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::proto::ExecFailure;

/// Kept below `PIPE_BUF` (4096), so that messages of several processes do not mix.
const MAX: usize = 3000;

/// One line of JSON each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The process exists.
    Created { pid: i32 },
    /// It could not be set up.
    Failed { message: String },
    /// Comes before a failure of which more is known than who met it can tell: what failed, on what.
    Explained { message: String },
    /// Something that libcontainer logged as an error, deepest cause first.
    Detail { text: String },
    /// It exists and could not execute its command.
    NotExecuted { failure: ExecFailure },
    /// Something that was asked is not done; the rest goes on.
    Warning { text: String },
}

/// The write end. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(Arc<OwnedFd>);

impl Reporter {
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Reporter(Arc::new(pipe))
    }

    /// Sends one report. A shim that is gone cannot be told, and there is nobody else.
    pub(crate) fn send(&self, report: &Report) {
        let shortened;
        let report = match report {
            Report::Failed { message } if message.len() > MAX => {
                shortened = Report::Failed { message: shorten(message) };
                &shortened
            }
            Report::Explained { message } if message.len() > MAX => {
                shortened = Report::Explained { message: shorten(message) };
                &shortened
            }
            Report::Detail { text } if text.len() > MAX => {
                shortened = Report::Detail { text: shorten(text) };
                &shortened
            }
            Report::Warning { text } if text.len() > MAX => {
                shortened = Report::Warning { text: shorten(text) };
                &shortened
            }
            other => other,
        };
        let Ok(mut line) = serde_json::to_vec(report) else { return };
        line.push(b'\n');
        let _ = nix::unistd::write(&self.0, &line);
    }

    pub(crate) fn warn(&self, text: String) {
        self.send(&Report::Warning { text });
    }
}

fn shorten(text: &str) -> String {
    // Escapes at most double a character in practice; control characters are rare in messages.
    text.chars().take(MAX / 4).chain(['…']).collect()
}

/// Collects reports from the read end.
#[derive(Debug, Default)]
pub(crate) struct Collector(Vec<u8>);

impl Collector {
    /// Adds what was read; gives the complete reports.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Report> {
        self.0.extend_from_slice(bytes);
        let Some(end) = self.0.iter().rposition(|&b| b == b'\n') else { return Vec::new() };
        let rest = self.0.split_off(end + 1);
        let lines = std::mem::replace(&mut self.0, rest);
        lines.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_any_cut() {
        let (read, write) = nix::unistd::pipe().expect("pipe");
        let reporter = Reporter::new(write);
        reporter.send(&Report::Created { pid: 7 });
        reporter.send(&Report::Failed { message: "x".repeat(10_000) });
        drop(reporter);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(read), &mut bytes).expect("read");
        let mut collector = Collector::default();
        let reports: Vec<_> = bytes.chunks(5).flat_map(|chunk| collector.push(chunk)).collect();
        assert!(matches!(reports[0], Report::Created { pid: 7 }));
        assert!(matches!(&reports[1], Report::Failed { message } if message.ends_with('…')));
    }
}
