//! `docker top`.

use std::collections::HashSet;

use bollard_stubs::models::ContainerTopResponse;

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::util;

impl Engine {
    /// The container's processes as `ps` of the host shows them; `ps_args` are its arguments, `-ef`
    /// when empty. A host without `ps` still answers `-ef`.
    ///
    /// # Errors
    /// `NotRunning`; `Invalid` for arguments without a PID column.
    pub async fn container_top(
        &self,
        container: &str,
        ps_args: &str,
    ) -> Result<ContainerTopResponse> {
        let c = self.inner.containers.find(container)?;
        let pids: HashSet<i32> = self.running_handle(&c)?.pids().await?.into_iter().collect();
        let args: Vec<String> = match ps_args.trim() {
            "" => vec!["-ef".to_owned()],
            // Arguments only: `ps` must not be made to do anything else.
            text => text.split_whitespace().map(str::to_owned).collect(),
        };
        let output = tokio::process::Command::new("ps")
            .args(&args)
            .stdin(std::process::Stdio::null())
            .output()
            .await;
        let table = match output {
            Ok(output) if output.status.success() => {
                parse(&String::from_utf8_lossy(&output.stdout), &pids)?
            }
            Ok(output) => {
                return Err(EngineError::Invalid(format!(
                    "error running ps: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                )));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && args == ["-ef"] => {
                util::blocking(move || own_table(&pids)).await
            }
            Err(error) => return Err(EngineError::system("error running ps", error)),
        };
        self.container_event(&c, "top", &[]);
        Ok(table)
    }
}

/// Picks the lines of these processes from the output of `ps`. The last column has the rest of a line.
fn parse(output: &str, pids: &HashSet<i32>) -> Result<ContainerTopResponse> {
    let mut lines = output.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or("").split_whitespace().map(str::to_owned).collect();
    let column = titles
        .iter()
        .position(|t| t == "PID")
        .ok_or_else(|| EngineError::invalid("Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(pid) = words.get(column).and_then(|w| w.parse::<i32>().ok()) else { continue };
        if !pids.contains(&pid) {
            continue;
        }
        let last = titles.len() - 1;
        let mut row: Vec<String> = words.iter().take(last).map(|w| (*w).to_owned()).collect();
        row.push(words.iter().skip(last).copied().collect::<Vec<_>>().join(" "));
        processes.push(row);
    }
    Ok(ContainerTopResponse { titles: Some(titles), processes: Some(processes) })
}

/// The table of `ps -ef` read from /proc.
fn own_table(pids: &HashSet<i32>) -> ContainerTopResponse {
    let titles =
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"].map(str::to_owned).to_vec();
    let mut sorted: Vec<i32> = pids.iter().copied().collect();
    sorted.sort_unstable();
    let processes = sorted.into_iter().filter_map(own_row).collect();
    ContainerTopResponse { titles: Some(titles), processes: Some(processes) }
}

/// One process; `None` when it has ended.
fn own_row(pid: i32) -> Option<Vec<String>> {
    use std::os::unix::fs::MetadataExt;
    let dir = format!("/proc/{pid}");
    let uid = std::fs::metadata(&dir).ok()?.uid();
    let stat = std::fs::read_to_string(format!("{dir}/stat")).ok()?;
    // The name in parentheses may itself contain blanks and parentheses.
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // The kernel reports in hundredths of a second to user space on every architecture served.
    let seconds = ticks / 100;
    let raw = std::fs::read(format!("{dir}/cmdline")).ok()?;
    let mut command = raw
        .split(|b| *b == 0)
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned();
    if command.is_empty() {
        command = format!("[{name}]");
    }
    let user = nix::unistd::User::from_uid(uid.into())
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |u| u.name);
    Some(vec![
        user,
        pid.to_string(),
        (*fields.get(1)?).to_owned(),
        "0".to_owned(),
        "-".to_owned(),
        "?".to_owned(),
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        command,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let text = "UID   PID  PPID CMD\nroot    1     0 init\nroot   42     1 sh -c sleep 1\n";
        let table = parse(text, &[42].into()).unwrap();
        assert_eq!(table.processes.unwrap(), [["root", "42", "1", "sh -c sleep 1"]]);
        assert!(parse("USER\nroot\n", &HashSet::new()).is_err());
        let own = i32::try_from(std::process::id()).unwrap();
        let table = own_table(&[own].into());
        assert_eq!(table.processes.unwrap()[0][1], own.to_string());
    }
}
