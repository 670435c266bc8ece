//! Entry point for fuzzing: bytes of any kind as the messages that nodes and managers send.

use prost::Message as _;
use skep_types as t;

use crate::v1 as pb;

macro_rules! kinds {
    ($($name:ident $message:ident;)*) => {
        /// What bytes are read as.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($name,)*
        }

        impl Kind {
            /// All kinds, for fuzzers that choose one by a byte.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }

        /// Reads bytes as a message and the message as an object; true if both can be done.
        ///
        /// # Panics
        /// If what was accepted cannot be sent on.
        pub fn fuzz_object(kind: Kind, bytes: &[u8]) -> bool {
            match kind {
                $(Kind::$name => {
                    let Ok(message) = pb::$message::decode(bytes) else { return false };
                    let Ok(object) = t::$name::try_from(message) else { return false };
                    let again = pb::$message::from(&object).encode_to_vec();
                    let again = pb::$message::decode(again.as_slice()).expect("our own bytes");
                    t::$name::try_from(again).expect("our own message");
                    true
                })*
            }
        }
    };
}

kinds! {
    Task Task;
    Node Node;
    Service Service;
    Network Network;
    Cluster Cluster;
    Secret Secret;
    Config Config;
    TaskStatus TaskStatus;
    NodeDescription NodeDescription;
}

/// Reads bytes as each of the calls and answers that carry objects. Must not panic.
pub fn fuzz_calls(bytes: &[u8]) {
    let _ = pb::SessionRequest::decode(bytes);
    let _ = pb::SessionMessage::decode(bytes);
    let _ = pb::AssignmentsMessage::decode(bytes);
    let _ = pb::UpdateTaskStatusRequest::decode(bytes);
    let _ = pb::IssueNodeCertificateRequest::decode(bytes);
    let _ = pb::PublishLogsMessage::decode(bytes);
    let _ = pb::SubscribeLogsMessage::decode(bytes);
}
