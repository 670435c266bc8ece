//! nftables transactions through the `nft` program, and the kernel's generation
//! counter by netlink, which tells without a process whether anything changed.

use crate::error::{NetError, Result};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// `NFT_MSG_GETGEN`.
const GET_GENERATION: u16 = 16;
/// `NFT_MSG_NEWGEN`.
const NEW_GENERATION: u16 = 15;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NFTA_GEN_ID`.
const GENERATION_ID: u16 = 1;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// Bytes of a netlink header and of the nfnetlink header behind it.
const HEADERS: usize = 16 + 4;

/// The nftables program.
#[derive(Debug, Clone)]
pub struct Nft {
    /// Path or name of the program.
    pub program: PathBuf,
}

impl Nft {
    /// Carries out one transaction, all or nothing, in the calling thread's namespace.
    pub fn transact(&self, namespace: &str, script: &str) -> Result<()> {
        let failed = |source| NetError::NftProgram { program: self.program.clone(), source };
        let mut child = Command::new(&self.program)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        // nft reads its input to the end before it says anything, so this cannot
        // block; an early death shows in the exit status.
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(script.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        tracing::debug!(namespace, script, "refused nftables transaction");
        Err(NetError::Nft { namespace: namespace.to_owned(), message })
    }

    /// A table of family `ip` in the calling thread's namespace as text that is equal for
    /// equal rules; empty when there is none. Without what rules count or learn.
    pub fn list(&self, namespace: &str, table: &str) -> Result<String> {
        let output = Command::new(&self.program)
            .args(["-s", "-t", "list", "table", "ip", table])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| NetError::NftProgram { program: self.program.clone(), source })?;
        if output.status.success() {
            return Ok(sorted(&String::from_utf8_lossy(&output.stdout)));
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if message.contains("No such file or directory") {
            return Ok(String::new());
        }
        Err(NetError::Nft { namespace: namespace.to_owned(), message })
    }

    /// All tables of the calling thread's namespace, as JSON and as text with the
    /// number of each rule behind it. The two are taken one after the other.
    pub fn listings(&self, namespace: &str) -> Result<(String, String)> {
        let take = |option: &str| {
            let output = Command::new(&self.program)
                .args([option, "list", "ruleset"])
                .stdin(Stdio::null())
                .output()
                .map_err(|source| NetError::NftProgram { program: self.program.clone(), source })?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(NetError::Nft { namespace: namespace.to_owned(), message })
        };
        Ok((take("-j")?, take("-a")?))
    }

    /// Version as the program tells it, such as `nftables v1.0.6 (Lester Gooch #5)`.
    pub fn version(&self) -> io::Result<String> {
        let output = Command::new(&self.program).arg("--version").stdin(Stdio::null()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Number of nftables transactions that the calling thread's namespace has seen.
pub fn generation() -> io::Result<u32> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = Vec::with_capacity(HEADERS);
    request.extend_from_slice(&20u32.to_ne_bytes());
    request.extend_from_slice(&((NFTABLES << 8) | GET_GENERATION).to_ne_bytes());
    request.extend_from_slice(&REQUEST.to_ne_bytes());
    request.extend_from_slice(&1u32.to_ne_bytes());
    request.extend_from_slice(&0u32.to_ne_bytes());
    request.extend_from_slice(&[0; 4]);
    socket.send(&request, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    if let Some(generation) = generation_of(&answer) {
        return Ok(generation);
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed nftables generation");
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    if kind != Some(ERROR) {
        return Err(malformed());
    }
    let code = answer.get(16..20).and_then(|b| b.try_into().ok()).ok_or_else(malformed)?;
    Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(code)))
}

/// The number in a message that tells of a generation; `None` for other messages.
pub fn generation_of(message: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    if kind != (NFTABLES << 8) | NEW_GENERATION {
        return None;
    }
    let mut rest = message.get(HEADERS..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        if kind == GENERATION_ID {
            return Some(u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

/// The listing's parts in an order that does not depend on when each was made.
fn sorted(listing: &str) -> String {
    let mut parts: Vec<&str> = listing.split("\n\n").map(|part| part.trim_matches('\n')).collect();
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

#[cfg(test)]
mod tests {
    use super::sorted;

    #[test]
    fn the_order_of_chains_means_nothing() {
        let one = "table ip skep {\n\tchain a {\n\t\taccept\n\t}\n\n\tchain b {\n\t}\n}\n";
        let two = "table ip skep {\n\tchain b {\n\t}\n\n\tchain a {\n\t\taccept\n\t}\n}\n";
        let other = "table ip skep {\n\tchain b {\n\t}\n\n\tchain a {\n\t\tdrop\n\t}\n}\n";
        assert_eq!(sorted(one), sorted(two));
        assert_ne!(sorted(one), sorted(other));
        assert_eq!(sorted(""), "");
    }
}
