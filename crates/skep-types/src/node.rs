use serde::{Deserialize, Serialize};

use crate::{
    Annotations, Bytes64, Meta, NetworkAttachment, NodeId, Resources, StringMap, is_default,
};

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    #[default]
    #[serde(alias = "")]
    Worker,
    Manager,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeAvailability {
    #[default]
    #[serde(alias = "")]
    Active,
    /// Takes no new tasks.
    Pause,
    /// Its tasks move elsewhere.
    Drain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeMembership {
    Pending,
    #[default]
    #[serde(alias = "")]
    Accepted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeSpec {
    #[serde(flatten)]
    pub annotations: Annotations,
    /// The role the user wants; `Node::role` follows it.
    pub role: NodeRole,
    pub availability: NodeAvailability,
    #[serde(rename = "_membership", skip_serializing_if = "is_default")]
    pub membership: NodeMembership,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Platform {
    #[serde(skip_serializing_if = "is_default")]
    pub architecture: String,
    #[serde(rename = "OS", skip_serializing_if = "is_default")]
    pub os: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginDescription {
    #[serde(rename = "Type")]
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EngineDescription {
    pub engine_version: String,
    #[serde(skip_serializing_if = "is_default")]
    pub labels: StringMap,
    pub plugins: Vec<PluginDescription>,
}

/// The trust root a node uses and who signed its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TlsInfo {
    /// PEM.
    pub trust_root: String,
    /// DER of the issuer's subject.
    pub cert_issuer_subject: Bytes64,
    /// DER SubjectPublicKeyInfo of the issuer.
    pub cert_issuer_public_key: Bytes64,
}

/// What a node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeDescription {
    pub hostname: String,
    pub platform: Platform,
    pub resources: Resources,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineDescription>,
    #[serde(rename = "TLSInfo", skip_serializing_if = "Option::is_none")]
    pub tls_info: Option<TlsInfo>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    #[default]
    Unknown,
    Down,
    Ready,
    Disconnected,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeStatus {
    pub state: NodeState,
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
    /// Plain address, without port.
    #[serde(skip_serializing_if = "is_default")]
    pub addr: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachability {
    #[default]
    Unknown,
    Unreachable,
    Reachable,
}

/// A manager's place in raft, as last seen by the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManagerStatus {
    #[serde(skip_serializing_if = "is_default")]
    pub leader: bool,
    pub reachability: Reachability,
    /// host:port of its remote API.
    pub addr: String,
    #[serde(rename = "_raftId")]
    pub raft_id: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IssuanceState {
    #[default]
    Unknown,
    /// An existing node asks for a new certificate.
    Renew,
    /// A new node waits for its first.
    Pending,
    Issued,
    Failed,
    /// Still valid, please renew.
    Rotate,
}

/// A node's certificate request and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Certificate {
    pub role: NodeRole,
    /// PEM, echoed byte for byte to the node.
    pub csr: Bytes64,
    pub state: IssuanceState,
    #[serde(skip_serializing_if = "is_default")]
    pub err: String,
    /// PEM: leaf, then intermediates.
    pub certificate: Bytes64,
    /// Common name: the node id.
    pub cn: String,
}

/// A host in the swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    #[serde(rename = "ID")]
    pub id: NodeId,
    #[serde(flatten)]
    pub meta: Meta,
    pub spec: NodeSpec,
    pub description: NodeDescription,
    pub status: NodeStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager_status: Option<ManagerStatus>,
    /// The role its next certificate gets; follows `spec.role`.
    #[serde(rename = "_role")]
    pub role: NodeRole,
    #[serde(rename = "_certificate")]
    pub certificate: Certificate,
    /// This node's load-balancer address on each overlay network it uses.
    #[serde(rename = "_attachments", skip_serializing_if = "is_default")]
    pub attachments: Vec<NetworkAttachment>,
    #[serde(rename = "_vxlanUdpPort", skip_serializing_if = "is_default")]
    pub vxlan_udp_port: u32,
}
