//! How much a worker can make the swarm keep: what it says of itself and of its tasks goes into the
//! managers' log and memory.

use prost::Message as _;
use skep_proto::v1;
use tonic::Status;

/// Longest host name, bytes: what the domain name system takes. Linux stops at 64.
const HOST_NAME: usize = 253;

/// Largest description of a node, bytes on the wire; one with a hundred labels and plugins has ten
/// thousand.
const DESCRIPTION: usize = 128 << 10;

/// Longest text of a task's status, bytes. The rest of a longer one is cut off: the beginning says what
/// happened.
const STATUS_TEXT: usize = 4 << 10;

/// Largest status of a task, bytes on the wire: some hundred ports.
const STATUS: usize = 64 << 10;

/// # Errors
/// `InvalidArgument` with what is too large.
pub(super) fn description(description: &v1::NodeDescription) -> Result<(), Status> {
    let name = description.hostname.len();
    if name > HOST_NAME {
        return Err(too_large("host name", name, HOST_NAME));
    }
    let size = description.encoded_len();
    if size > DESCRIPTION {
        return Err(too_large("description of a node", size, DESCRIPTION));
    }
    Ok(())
}

/// Cuts the texts of a status.
///
/// # Errors
/// `InvalidArgument` if it is too large all the same.
pub(super) fn task_status(mut status: v1::TaskStatus) -> Result<v1::TaskStatus, Status> {
    cut(&mut status.message);
    cut(&mut status.err);
    match status.encoded_len() {
        size if size > STATUS => Err(too_large("status of a task", size, STATUS)),
        _ => Ok(status),
    }
}

fn too_large(what: &str, size: usize, limit: usize) -> Status {
    Status::invalid_argument(format!("the {what} has {size} bytes, at most {limit} are taken"))
}

fn cut(text: &mut String) {
    if text.len() > STATUS_TEXT {
        let end = (0..=STATUS_TEXT).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes() {
        let named = |len: usize| v1::NodeDescription {
            hostname: "a".repeat(len),
            ..v1::NodeDescription::default()
        };
        description(&named(HOST_NAME)).unwrap();
        let refused = description(&named(1 << 20)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        let mut large = named(5);
        large.engine = Some(v1::EngineDescription {
            engine_version: "1".repeat(DESCRIPTION),
            ..v1::EngineDescription::default()
        });
        description(&large).unwrap_err();
    }

    #[test]
    fn long_texts_lose_their_end() {
        let status = v1::TaskStatus { err: "é".repeat(1 << 20), ..v1::TaskStatus::default() };
        let kept = task_status(status).unwrap().err;
        assert_eq!(kept.chars().filter(|c| *c == 'é').count(), STATUS_TEXT / 2);
        assert!(kept.ends_with('…'));
        let short = v1::TaskStatus { err: "no such image".to_owned(), ..v1::TaskStatus::default() };
        assert_eq!(task_status(short.clone()).unwrap(), short);
    }
}
