//! A way through another's `FORWARD` chain.
//!
//! A packet that any base chain drops is gone, whatever ours says. Docker's daemon and firewalls set the
//! policy of iptables' `FORWARD` to drop, and let through what they know. So where that chain says anything, a
//! chain of ours at its end accepts what goes over our bridges; what may go there is judged in our own table.
//! Being the last, it stands behind `DOCKER-USER` and all else that people wrote: whatever they drop stays
//! dropped, a policy does not.

use super::program;
use crate::error::{NetError, Result};
use std::collections::BTreeSet;
use std::io;
use std::process::Command;
use std::time::Duration;

/// The chain.
const CHAIN: &str = "SKEP-FORWARD";
/// Seconds to wait for another iptables.
const WAIT: &str = "5";
/// How long one run may take, the wait included.
const LIMIT: Duration = Duration::from_secs(20);

/// Makes the way as it must be for these bridges. How much was changed. Without the iptables program there is
/// nothing to do: nobody has written with it.
pub fn apply(namespace: &str, bridges: &BTreeSet<&str>) -> Result<usize> {
    let found = match run("iptables", &["-w", WAIT, "-S"], "") {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(failed(namespace)(source)),
    };
    let Some(script) = change(&found, bridges) else { return Ok(0) };
    run("iptables-restore", &["-w", WAIT, "--noflush"], &script).map_err(failed(namespace))?;
    Ok(1)
}

fn failed(namespace: &str) -> impl FnOnce(io::Error) -> NetError {
    let namespace = namespace.to_owned();
    move |source| NetError::Gate { namespace, source }
}

/// From what `iptables -S` lists to what iptables-restore is to do, if anything.
fn change(found: &str, bridges: &BTreeSet<&str>) -> Option<String> {
    let jump = format!("-A FORWARD -j {CHAIN}");
    let own = format!("-A {CHAIN} ");
    let lines: Vec<&str> = found.lines().map(str::trim).collect();
    let jumps = lines.iter().filter(|l| **l == jump).count();
    let exists = lines.iter().any(|l| *l == format!("-N {CHAIN}"));
    let others = lines.iter().any(|l| {
        (l.starts_with("-P FORWARD ") && *l != "-P FORWARD ACCEPT")
            || (l.starts_with("-A FORWARD ") && *l != jump)
            || *l == "-N DOCKER-USER"
    });
    let wanted: Vec<String> = (bridges.iter())
        .flat_map(|bridge| ["-i", "-o"].map(|way| format!("{own}{way} {bridge} -j ACCEPT")))
        .collect();
    let mut script = String::from("*filter\n");
    if others && !bridges.is_empty() {
        let rules: Vec<&str> = lines.iter().filter(|l| l.starts_with(&own)).copied().collect();
        if jumps == 1 && rules == wanted {
            return None;
        }
        script.push_str(&format!(":{CHAIN} - [0:0]\n"));
        wanted.iter().for_each(|rule| script.push_str(&format!("{rule}\n")));
        if jumps == 0 {
            script.push_str(&format!("{jump}\n"));
        }
        (1..jumps).for_each(|_| script.push_str(&format!("-D FORWARD -j {CHAIN}\n")));
    } else {
        if !exists {
            return None;
        }
        (0..jumps).for_each(|_| script.push_str(&format!("-D FORWARD -j {CHAIN}\n")));
        script.push_str(&format!("-F {CHAIN}\n-X {CHAIN}\n"));
    }
    script.push_str("COMMIT\n");
    Some(script)
}

fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env_remove("LANGUAGE");
    let output = program::run(&mut command, input.as_bytes(), LIMIT)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} said: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n";
    const DOCKER: &str = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n\
                          -A FORWARD -o docker0 -j DOCKER\n";

    fn with(lines: &str, more: &[&str]) -> String {
        format!("{lines}{}\n", more.join("\n"))
    }

    #[test]
    fn nothing_is_written_where_nobody_else_did() {
        assert_eq!(change(OPEN, &BTreeSet::from(["br-a"])), None);
        assert_eq!(change("", &BTreeSet::new()), None);
    }

    #[test]
    fn the_way_is_made_once() {
        let bridges = BTreeSet::from(["br-a", "br-b"]);
        let rules = [
            "-A SKEP-FORWARD -i br-a -j ACCEPT",
            "-A SKEP-FORWARD -o br-a -j ACCEPT",
            "-A SKEP-FORWARD -i br-b -j ACCEPT",
            "-A SKEP-FORWARD -o br-b -j ACCEPT",
        ];
        let jump = "-A FORWARD -j SKEP-FORWARD";
        let all = format!("*filter\n:SKEP-FORWARD - [0:0]\n{}\n{jump}\nCOMMIT\n", rules.join("\n"));
        assert_eq!(change(DOCKER, &bridges), Some(all.clone()));
        // Whose policy alone is to drop.
        assert_eq!(change("-P FORWARD DROP\n", &bridges), Some(all));
        let mut done = vec!["-N SKEP-FORWARD", jump];
        done.extend(rules);
        assert_eq!(change(&with(DOCKER, &done), &bridges), None);
        // A bridge that goes; a jump that somebody doubled.
        let script = change(&with(DOCKER, &done), &BTreeSet::from(["br-a"])).unwrap();
        assert!(!script.contains("br-b") && !script.contains(jump), "{script}");
        done.push(jump);
        let script = change(&with(DOCKER, &done), &bridges).unwrap();
        assert_eq!(script.matches("-D FORWARD -j SKEP-FORWARD").count(), 1, "{script}");
    }

    #[test]
    fn the_way_goes_when_it_is_not_needed() {
        let left =
            ["-N SKEP-FORWARD", "-A FORWARD -j SKEP-FORWARD", "-A SKEP-FORWARD -i br-a -j ACCEPT"];
        let gone =
            "*filter\n-D FORWARD -j SKEP-FORWARD\n-F SKEP-FORWARD\n-X SKEP-FORWARD\nCOMMIT\n";
        for (lines, bridges) in [(OPEN, BTreeSet::from(["br-a"])), (DOCKER, BTreeSet::new())] {
            assert_eq!(change(&with(lines, &left), &bridges).as_deref(), Some(gone));
        }
    }
}
