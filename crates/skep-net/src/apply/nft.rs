//! nftables transactions through the `nft` program, and the kernel's generation
//! counter by netlink, which tells without a process whether anything changed.

use super::frame;
use super::nfnetlink::{self, Nfnetlink, Request};
use super::program;
use super::traffic::Traffic;
use crate::error::{NetError, Result};
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// `NFNL_SUBSYS_NFTABLES`.
pub const NFTABLES: u16 = 10;
/// `NFT_MSG_GETGEN`.
const GET_GENERATION: u16 = 16;
/// `NFT_MSG_NEWGEN`.
const NEW_GENERATION: u16 = 15;
/// `NFTA_GEN_ID`.
const GENERATION_ID: u16 = 1;
/// How `nft` says that a table is not there: strerror(ENOENT).
const MISSING: &str = "No such file or directory";
/// How long `nft` may take. Under the heaviest load it takes a second or two; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// The nftables program.
#[derive(Debug, Clone)]
pub struct Nft {
    /// Path or name of the program.
    pub program: PathBuf,
    /// Where its runs, and what else is said to the kernel about its rules, are counted.
    pub traffic: Arc<Traffic>,
}

impl Nft {
    /// Carries out one transaction, all or nothing, in the calling thread's namespace.
    pub fn transact(&self, namespace: &str, script: &str) -> Result<()> {
        match self.run(namespace, &["-f", "-"], script) {
            Err(error @ NetError::Nft { .. }) => {
                tracing::debug!(namespace, script, "refused nftables transaction");
                Err(error)
            }
            result => result.map(drop),
        }
    }

    /// A table of family `ip` in the calling thread's namespace as text that is equal for
    /// equal rules; empty when there is none. Without what rules count or learn.
    pub fn list(&self, namespace: &str, table: &str) -> Result<String> {
        match self.run(namespace, &["-s", "list", "table", "ip", table], "") {
            Ok(text) => Ok(sorted(&text)),
            Err(NetError::Nft { message, .. }) if message.contains(MISSING) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// All tables of the calling thread's namespace, as JSON and as text with the
    /// number of each rule behind it. The two are taken one after the other.
    pub fn listings(&self, namespace: &str) -> Result<(String, String)> {
        let take = |option: &str| self.run(namespace, &[option, "list", "ruleset"], "");
        Ok((take("-j")?, take("-a")?))
    }

    /// Version as the program tells it, such as `nftables v1.0.6 (Lester Gooch #5)`.
    pub fn version(&self) -> io::Result<String> {
        let output = program::run(self.command().arg("--version"), b"", LIMIT)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What it prints.
    fn run(&self, namespace: &str, arguments: &[&str], input: &str) -> Result<String> {
        let output = program::run(self.command().args(arguments), input.as_bytes(), LIMIT)
            .map_err(|source| NetError::NftProgram { program: self.program.clone(), source })?;
        self.traffic.program();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(NetError::Nft { namespace: namespace.to_owned(), message })
    }

    /// What it says is read here, so it is not to speak the administrator's language.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("LC_ALL", "C").env_remove("LANGUAGE");
        command
    }
}

/// Number of nftables transactions that the calling thread's namespace has seen.
pub fn generation(traffic: &Arc<Traffic>) -> io::Result<u32> {
    let mut found = None;
    let request = Request {
        subsystem: NFTABLES,
        kind: GET_GENERATION,
        flags: frame::REQUEST_ACK,
        attributes: &[],
    };
    Nfnetlink::open(traffic)?
        .ask(&request, |kind, attributes| found = found.or(generation_in(kind, attributes)))?;
    found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed nftables generation"))
}

/// The number in a message that tells of a generation; `None` for other messages.
pub fn generation_of(message: &frame::Message<'_>) -> Option<u32> {
    generation_in(message.kind, message.body.get(nfnetlink::HEADER..)?)
}

fn generation_in(kind: u16, attributes: &[u8]) -> Option<u32> {
    if kind != (NFTABLES << 8) | NEW_GENERATION {
        return None;
    }
    let id = frame::attribute(attributes, GENERATION_ID)?;
    Some(u32::from_be_bytes(id.try_into().ok()?))
}

/// The listing's parts in an order that does not depend on when each was made.
fn sorted(listing: &str) -> String {
    let learned = listing.split("\n\n").map(without_learned);
    let mut parts: Vec<&str> = learned.map(|part| part.trim_matches('\n')).collect();
    // The first begins with the table's line, the last ends with its brace.
    let first = listing.find('\n').map_or("", |end| &listing[..end]);
    if let Some(part) = parts.first_mut() {
        *part = part.strip_prefix(first).unwrap_or(part).trim_matches('\n');
    }
    if let Some(part) = parts.last_mut() {
        *part = part.strip_suffix("\n}").unwrap_or(part);
    }
    parts.sort_unstable();
    parts.join("\n")
}

/// A set up to what rules put into it, as its flags say that they do.
fn without_learned(part: &str) -> &str {
    let learns = |line: &str| {
        line.trim()
            .strip_prefix("flags ")
            .is_some_and(|flags| flags.split(',').any(|f| f == "dynamic"))
    };
    match part.find("\n\t\telements = {") {
        Some(elements) if part[..elements].lines().any(learns) => &part[..elements],
        _ => part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn nft_is_asked_in_a_language_that_is_understood() {
        let folder = tempfile::tempdir().expect("folder");
        let program = folder.path().join("nft");
        let script = "#!/bin/sh\n\
            [ \"$LC_ALL\" = C ] && [ -z \"$LANGUAGE\" ] && echo No such file or directory >&2\nexit 1\n";
        std::fs::write(&program, script).expect("program");
        let runnable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, runnable).expect("mode");
        let nft = Nft { program, traffic: Arc::default() };
        assert_eq!(nft.list("a", "skep").expect("no table"), "");
        assert_eq!(nft.traffic.counts().programs, 1);
    }

    #[test]
    fn the_order_of_chains_means_nothing() {
        let one = "table ip skep {\n\tchain a {\n\t\taccept\n\t}\n\n\tchain b {\n\t}\n}\n";
        let two = "table ip skep {\n\tchain b {\n\t}\n\n\tchain a {\n\t\taccept\n\t}\n}\n";
        let other = "table ip skep {\n\tchain b {\n\t}\n\n\tchain a {\n\t\tdrop\n\t}\n}\n";
        assert_eq!(sorted(one), sorted(two));
        assert_ne!(sorted(one), sorted(other));
        assert_eq!(sorted(""), "");
    }

    #[test]
    fn what_rules_learn_means_nothing() {
        let table = |flags: &str, elements: &str| {
            let set = format!("\tset a {{\n\t\ttype ipv4_addr\n{flags}{elements}\t}}");
            format!("table ip skep {{\n{set}\n\n\tchain b {{\n\t}}\n}}\n")
        };
        let elements = "\t\telements = { 10.0.0.1, 10.0.0.2,\n\t\t\t     10.0.0.3 }\n";
        for (flags, same) in [
            ("\t\tflags dynamic\n", true),
            ("\t\tflags dynamic,timeout\n", true),
            ("\t\tflags timeout\n", false),
            ("", false),
        ] {
            let [with, without] = [elements, ""].map(|elements| sorted(&table(flags, elements)));
            assert_eq!(with.contains("10.0.0.1"), !same, "{flags:?}");
            assert!(with.contains("chain b") && without.contains("chain b"));
        }
    }
}
