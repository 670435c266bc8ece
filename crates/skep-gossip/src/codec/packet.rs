use super::compress::{deflate, inflate};
use super::crypto::Keyring;
use super::message::{COMPOUND, COMPRESS, CRC, LABEL, Message};
use crate::counters::DropCause;

/// Nesting of compounds and compressions that a packet may have.
const MAX_DEPTH: usize = 3;
/// Below this compression wins nothing that was worth its time.
const COMPRESS_FROM: usize = 512;
/// Bytes that a checksum, a compound's head and a seal add at most.
const OVERHEAD: usize = 5 + 29;

/// How a packet to one node is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketOptions {
    /// Whether the target is known to read checksums (protocol 5).
    pub checksum: bool,
}

/// One message of a packet, or why it was not read. The others of the packet still count.
pub type Leaf = Result<Message, DropCause>;

/// The bytes to send for `plain`, which begins with a type byte.
///
/// `nonce` is used when there are keys; see [`Keyring`].
pub fn seal_packet(
    plain: &[u8],
    options: PacketOptions,
    keyring: Option<&Keyring>,
    nonce: [u8; 12],
) -> Vec<u8> {
    let mut body = Vec::with_capacity(plain.len() + OVERHEAD);
    if options.checksum {
        body.extend([CRC, 0, 0, 0, 0]);
    }
    let start = body.len();
    let packed = (plain.len() >= COMPRESS_FROM).then(|| deflate(plain));
    match packed {
        Some(packed) if packed.len() < plain.len() => body.extend(packed),
        _ => body.extend_from_slice(plain),
    }
    if options.checksum {
        let sum = crc32fast::hash(&body[start..]).to_be_bytes();
        body[1..start].copy_from_slice(&sum);
    }
    match keyring {
        Some(keyring) => keyring.seal(nonce, &[], &body),
        None => body,
    }
}

/// The messages of a packet, in order. `inflated` bounds what all its compressed parts together
/// may grow to; bytes.
pub fn open_packet(
    bytes: &[u8],
    keyring: Option<&Keyring>,
    inflated: usize,
) -> Result<Vec<Leaf>, DropCause> {
    if bytes.first() == Some(&LABEL) {
        return Err(DropCause::Label);
    }
    let opened = keyring.map(|keyring| keyring.open(&[], bytes)).transpose()?;
    let plain = opened.as_deref().unwrap_or(bytes);
    let plain = match plain.split_first() {
        Some((&CRC, rest)) => {
            let (sum, body) = rest.split_first_chunk::<4>().ok_or(DropCause::Truncated)?;
            if crc32fast::hash(body) != u32::from_be_bytes(*sum) {
                return Err(DropCause::Checksum);
            }
            body
        }
        Some(_) => plain,
        None => return Err(DropCause::Truncated),
    };
    let mut leaves = Vec::new();
    let mut budget = inflated;
    unfold(plain, 0, &mut budget, &mut leaves);
    Ok(leaves)
}

fn unfold(bytes: &[u8], depth: usize, budget: &mut usize, leaves: &mut Vec<Leaf>) {
    if depth > MAX_DEPTH {
        leaves.push(Err(DropCause::TooDeep));
        return;
    }
    match bytes.split_first() {
        Some((&COMPRESS, body)) => match inflate(body, *budget) {
            Ok(plain) => {
                *budget -= plain.len();
                unfold(&plain, depth + 1, budget, leaves);
            }
            Err(cause) => leaves.push(Err(cause)),
        },
        Some((&COMPOUND, body)) => unfold_compound(body, depth, budget, leaves),
        Some(_) => leaves.push(Message::decode(bytes)),
        None => leaves.push(Err(DropCause::Truncated)),
    }
}

fn unfold_compound(body: &[u8], depth: usize, budget: &mut usize, leaves: &mut Vec<Leaf>) {
    let Some((&count, rest)) = body.split_first() else {
        leaves.push(Err(DropCause::Truncated));
        return;
    };
    let heads = 2 * usize::from(count);
    let Some((lens, mut bodies)) = rest.split_at_checked(heads) else {
        leaves.push(Err(DropCause::Truncated));
        return;
    };
    for len in lens.chunks_exact(2) {
        let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
        let Some((part, after)) = bodies.split_at_checked(len) else {
            leaves.push(Err(DropCause::Truncated));
            return;
        };
        bodies = after;
        unfold(part, depth + 1, budget, leaves);
    }
}

/// Several messages as one; a single one as itself. At most 255 messages of at most 64 KiB, which
/// the size of a packet sees to.
pub(crate) fn compound(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut bytes = vec![COMPOUND, u8::try_from(parts.len()).expect("at most 255 parts")];
    for part in &parts {
        let len = u16::try_from(part.len()).expect("a part is smaller than a packet");
        bytes.extend(len.to_be_bytes());
    }
    bytes.extend(parts.into_iter().flatten());
    bytes
}
