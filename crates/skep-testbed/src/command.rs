use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// What a finished command printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Finished {
    pub line: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output without the final line break, or an error that shows everything.
    pub fn text(self) -> Result<String> {
        if !self.success() {
            bail!(
                "`{}` ended with {:?}\nstdout: {}\nstderr: {}",
                self.line,
                self.code,
                self.stdout.trim_end(),
                self.stderr.trim_end()
            );
        }
        Ok(self.stdout.trim_end().to_owned())
    }
}

/// Runs a command to its end, whatever that is.
pub fn run(command: &mut Command) -> Result<Finished> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {line}"))?;
    Ok(Finished {
        line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
