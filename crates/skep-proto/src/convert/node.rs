use skep_types as t;

use super::util::{
    Result, into_list, into_or_default, known, list, maybe, owned, try_list, try_maybe,
    try_or_default, unless_default, utf8,
};
use crate::{ConvertError, v1 as pb};

impl From<&t::NodeSpec> for pb::NodeSpec {
    fn from(spec: &t::NodeSpec) -> Self {
        Self {
            annotations: Some((&spec.annotations).into()),
            desired_role: pb::NodeRole::from(spec.role).into(),
            membership: pb::node_spec::Membership::from(spec.membership).into(),
            availability: pb::node_spec::Availability::from(spec.availability).into(),
        }
    }
}

impl TryFrom<pb::NodeSpec> for t::NodeSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::NodeSpec) -> Result<Self> {
        use pb::node_spec::{Availability, Membership};
        Ok(Self {
            annotations: into_or_default(spec.annotations),
            role: known::<pb::NodeRole, _>("desired_role", "node role", spec.desired_role)?,
            availability: known::<Availability, _>(
                "availability",
                "availability",
                spec.availability,
            )?,
            membership: known::<Membership, _>("membership", "membership", spec.membership)?,
        })
    }
}

impl From<&t::Platform> for pb::Platform {
    fn from(platform: &t::Platform) -> Self {
        Self { architecture: platform.architecture.clone(), os: platform.os.clone() }
    }
}

impl From<pb::Platform> for t::Platform {
    fn from(platform: pb::Platform) -> Self {
        Self { architecture: platform.architecture, os: platform.os }
    }
}

impl From<&t::PluginDescription> for pb::PluginDescription {
    fn from(plugin: &t::PluginDescription) -> Self {
        Self { r#type: plugin.kind.clone(), name: plugin.name.clone() }
    }
}

impl From<pb::PluginDescription> for t::PluginDescription {
    fn from(plugin: pb::PluginDescription) -> Self {
        Self { kind: plugin.r#type, name: plugin.name }
    }
}

impl From<&t::EngineDescription> for pb::EngineDescription {
    fn from(engine: &t::EngineDescription) -> Self {
        Self {
            engine_version: engine.engine_version.clone(),
            labels: engine.labels.clone(),
            plugins: list(&engine.plugins),
        }
    }
}

impl From<pb::EngineDescription> for t::EngineDescription {
    fn from(engine: pb::EngineDescription) -> Self {
        Self {
            engine_version: engine.engine_version,
            labels: engine.labels,
            plugins: into_list(engine.plugins),
        }
    }
}

impl From<&t::TlsInfo> for pb::NodeTlsInfo {
    fn from(info: &t::TlsInfo) -> Self {
        Self {
            trust_root: info.trust_root.clone().into_bytes(),
            cert_issuer_subject: info.cert_issuer_subject.0.clone(),
            cert_issuer_public_key: info.cert_issuer_public_key.0.clone(),
        }
    }
}

impl TryFrom<pb::NodeTlsInfo> for t::TlsInfo {
    type Error = ConvertError;

    fn try_from(info: pb::NodeTlsInfo) -> Result<Self> {
        Ok(Self {
            trust_root: utf8("trust_root", info.trust_root)?,
            cert_issuer_subject: info.cert_issuer_subject.into(),
            cert_issuer_public_key: info.cert_issuer_public_key.into(),
        })
    }
}

impl From<&t::NodeDescription> for pb::NodeDescription {
    fn from(description: &t::NodeDescription) -> Self {
        Self {
            hostname: description.hostname.clone(),
            platform: Some((&description.platform).into()),
            resources: Some((&description.resources).into()),
            engine: maybe(&description.engine),
            tls_info: maybe(&description.tls_info),
            fips: false,
            csi_info: Vec::new(),
        }
    }
}

impl TryFrom<pb::NodeDescription> for t::NodeDescription {
    type Error = ConvertError;

    fn try_from(description: pb::NodeDescription) -> Result<Self> {
        Ok(Self {
            hostname: description.hostname,
            platform: into_or_default(description.platform),
            resources: into_or_default(description.resources),
            engine: description.engine.map(Into::into),
            tls_info: try_maybe("tls_info", description.tls_info)?,
        })
    }
}

impl From<&t::NodeStatus> for pb::NodeStatus {
    fn from(status: &t::NodeStatus) -> Self {
        Self {
            state: pb::node_status::State::from(status.state).into(),
            message: status.message.clone(),
            addr: status.addr.clone(),
        }
    }
}

impl TryFrom<pb::NodeStatus> for t::NodeStatus {
    type Error = ConvertError;

    fn try_from(status: pb::NodeStatus) -> Result<Self> {
        Ok(Self {
            state: known::<pb::node_status::State, _>("state", "node state", status.state)?,
            message: status.message,
            addr: status.addr,
        })
    }
}

impl From<&t::ManagerStatus> for pb::ManagerStatus {
    fn from(status: &t::ManagerStatus) -> Self {
        Self {
            raft_id: status.raft_id,
            addr: status.addr.clone(),
            leader: status.leader,
            reachability: pb::raft_member_status::Reachability::from(status.reachability).into(),
        }
    }
}

impl TryFrom<pb::ManagerStatus> for t::ManagerStatus {
    type Error = ConvertError;

    fn try_from(status: pb::ManagerStatus) -> Result<Self> {
        use pb::raft_member_status::Reachability;
        Ok(Self {
            leader: status.leader,
            reachability: known::<Reachability, _>(
                "reachability",
                "reachability",
                status.reachability,
            )?,
            addr: status.addr,
            raft_id: status.raft_id,
        })
    }
}

impl From<&t::Certificate> for pb::Certificate {
    fn from(certificate: &t::Certificate) -> Self {
        Self {
            role: pb::NodeRole::from(certificate.role).into(),
            csr: certificate.csr.0.clone(),
            status: Some(pb::IssuanceStatus {
                state: pb::issuance_status::State::from(certificate.state).into(),
                err: certificate.err.clone(),
            }),
            certificate: certificate.certificate.0.clone(),
            cn: certificate.cn.clone(),
        }
    }
}

impl TryFrom<pb::Certificate> for t::Certificate {
    type Error = ConvertError;

    fn try_from(certificate: pb::Certificate) -> Result<Self> {
        let status = certificate.status.unwrap_or_default();
        Ok(Self {
            role: known::<pb::NodeRole, _>("role", "node role", certificate.role)?,
            csr: certificate.csr.into(),
            state: known::<pb::issuance_status::State, _>(
                "status.state",
                "issuance state",
                status.state,
            )?,
            err: status.err,
            certificate: certificate.certificate.into(),
            cn: certificate.cn,
        })
    }
}

impl From<&t::Node> for pb::Node {
    #[expect(deprecated, reason = "the single attachment is named to leave it empty")]
    fn from(node: &t::Node) -> Self {
        Self {
            id: node.id.to_string(),
            meta: Some((&node.meta).into()),
            spec: Some((&node.spec).into()),
            description: unless_default(&node.description),
            status: Some((&node.status).into()),
            manager_status: maybe(&node.manager_status),
            attachment: None,
            certificate: Some((&node.certificate).into()),
            role: pb::NodeRole::from(node.role).into(),
            attachments: list(&node.attachments),
            vxlan_udp_port: node.vxlan_udp_port,
        }
    }
}

impl TryFrom<pb::Node> for t::Node {
    type Error = ConvertError;

    fn try_from(node: pb::Node) -> Result<Self> {
        Ok(Self {
            id: node.id.into(),
            meta: try_or_default("meta", node.meta)?,
            spec: try_or_default("spec", node.spec)?,
            description: try_or_default("description", node.description)?,
            status: try_or_default("status", node.status)?,
            manager_status: try_maybe("manager_status", node.manager_status)?,
            role: known::<pb::NodeRole, _>("role", "node role", node.role)?,
            certificate: try_or_default("certificate", node.certificate)?,
            attachments: try_list("attachments", node.attachments)?,
            vxlan_udp_port: node.vxlan_udp_port,
        })
    }
}

owned!(Node, NodeSpec, NodeDescription, NodeStatus, Certificate);
