use bollard_stubs::models::{
    ContainerCreateBody, ContainerUpdateBody, ExecConfig, ExecStartConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest, VolumeCreateRequest,
};
use serde::de::DeserializeOwned;
use skep_types::{ClusterSpec, ConfigSpec, NodeSpec, SecretSpec, ServiceSpec};

use crate::auth::AuthConfig;
use crate::http::{Params, decode, decode_value};
use crate::swarm::{InitBody, JoinBody, UnlockBody};

/// What a request's bytes are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    Auth,
    ContainerCreate,
    ContainerUpdate,
    ExecCreate,
    ExecStart,
    NetworkCreate,
    NetworkConnect,
    NetworkDisconnect,
    VolumeCreate,
    SwarmInit,
    SwarmJoin,
    SwarmUnlock,
    SwarmUpdate,
    NodeUpdate,
    ServiceSpec,
    SecretSpec,
    ConfigSpec,
    /// A query string with filters, times and numbers, not a body.
    Query,
}

impl BodyKind {
    /// All kinds, for fuzzers that choose one by a byte.
    pub const ALL: [Self; 18] = [
        Self::Auth,
        Self::ContainerCreate,
        Self::ContainerUpdate,
        Self::ExecCreate,
        Self::ExecStart,
        Self::NetworkCreate,
        Self::NetworkConnect,
        Self::NetworkDisconnect,
        Self::VolumeCreate,
        Self::SwarmInit,
        Self::SwarmJoin,
        Self::SwarmUnlock,
        Self::SwarmUpdate,
        Self::NodeUpdate,
        Self::ServiceSpec,
        Self::SecretSpec,
        Self::ConfigSpec,
        Self::Query,
    ];
}

/// Reads a request's bytes as the API does; true if they would be accepted for further checks. Must
/// not panic, whatever the bytes.
pub fn fuzz_body(kind: BodyKind, bytes: &[u8]) -> bool {
    match kind {
        BodyKind::Auth => reads::<AuthConfig>(bytes),
        BodyKind::ContainerCreate => normalized::<ContainerCreateBody>(bytes),
        BodyKind::ContainerUpdate => reads::<ContainerUpdateBody>(bytes),
        BodyKind::ExecCreate => normalized::<ExecConfig>(bytes),
        BodyKind::ExecStart => reads::<ExecStartConfig>(bytes),
        BodyKind::NetworkCreate => reads::<NetworkCreateRequest>(bytes),
        BodyKind::NetworkConnect => reads::<NetworkConnectRequest>(bytes),
        BodyKind::NetworkDisconnect => reads::<NetworkDisconnectRequest>(bytes),
        BodyKind::VolumeCreate => reads::<VolumeCreateRequest>(bytes),
        BodyKind::SwarmInit => reads::<InitBody>(bytes),
        BodyKind::SwarmJoin => reads::<JoinBody>(bytes),
        BodyKind::SwarmUnlock => reads::<UnlockBody>(bytes),
        BodyKind::SwarmUpdate => reads::<ClusterSpec>(bytes),
        BodyKind::NodeUpdate => reads::<NodeSpec>(bytes),
        BodyKind::ServiceSpec => reads::<ServiceSpec>(bytes),
        BodyKind::SecretSpec => reads::<SecretSpec>(bytes),
        BodyKind::ConfigSpec => reads::<ConfigSpec>(bytes),
        BodyKind::Query => query(&String::from_utf8_lossy(bytes)),
    }
}

fn reads<T: DeserializeOwned>(bytes: &[u8]) -> bool {
    decode::<T>(bytes).is_ok()
}

fn normalized<T: DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(mut value) = serde_json::from_slice(bytes) else { return false };
    crate::containers::normalize_create(&mut value);
    decode_value::<T>(value).is_ok()
}

fn query(text: &str) -> bool {
    let query = Params::parse(text);
    query.filters().is_ok()
        && query.number::<i64>("limit").is_ok()
        && crate::system::event_time(&query, "since").is_ok()
        && crate::stream::DetachKeys::parse(query.text("detachKeys")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_panics_on_odd_documents() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let documents = [
            "",
            "null",
            "[]",
            "{}",
            "\"\"",
            "1e999",
            "{\"a\":",
            "\u{0}",
            "{\"Name\":1}",
            "{\"HostConfig\":{\"Memory\":\"x\"}}",
            "{\"Cmd\":null}",
            "{\"Spec\":[]}",
            "{\"NetworkingConfig\":{\"EndpointsConfig\":1}}",
            "filters=%7B&limit=x",
            deep.as_str(),
        ];
        for kind in BodyKind::ALL {
            for document in documents {
                fuzz_body(kind, document.as_bytes());
            }
        }
        assert!(fuzz_body(BodyKind::ServiceSpec, b"{}"));
        assert!(!fuzz_body(
            BodyKind::ServiceSpec,
            b"{\"Mode\":{\"Replicated\":{\"Replicas\":-1}}}"
        ));
    }
}
