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
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed nftables generation");
    let kind =
        u16::from_ne_bytes(answer.get(4..6).and_then(|b| b.try_into().ok()).ok_or_else(malformed)?);
    if kind != (NFTABLES << 8) | NEW_GENERATION {
        let code = i32::from_ne_bytes(
            answer.get(16..20).and_then(|b| b.try_into().ok()).ok_or_else(malformed)?,
        );
        return Err(io::Error::from_raw_os_error(-code));
    }
    let mut rest = answer.get(HEADERS..).ok_or_else(malformed)?;
    while let (Some(length), Some(kind)) = (rest.get(..2), rest.get(2..4)) {
        let length = usize::from(u16::from_ne_bytes(length.try_into().map_err(|_| malformed())?));
        let kind = u16::from_ne_bytes(kind.try_into().map_err(|_| malformed())?);
        if kind == GENERATION_ID {
            let value = rest.get(4..8).and_then(|b| b.try_into().ok()).ok_or_else(malformed)?;
            return Ok(u32::from_be_bytes(value));
        }
        if length < 4 {
            break;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Err(malformed())
}
