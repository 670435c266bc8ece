use serde::{Deserialize, Serialize};

use crate::{Annotations, Meta, NetworkId, StringMap, is_default};

/// A driver's name and options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Driver {
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub options: StringMap,
}

/// One subnet. `subnet` and `range` are CIDR, `gateway` a plain address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    #[serde(skip_serializing_if = "is_default")]
    pub subnet: String,
    #[serde(skip_serializing_if = "is_default")]
    pub range: String,
    #[serde(skip_serializing_if = "is_default")]
    pub gateway: String,
    /// Addresses kept out of use, by name.
    #[serde(rename = "_reserved", skip_serializing_if = "is_default")]
    pub reserved: StringMap,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamOptions {
    #[serde(skip_serializing_if = "is_default")]
    pub driver: Driver,
    #[serde(skip_serializing_if = "is_default")]
    pub configs: Vec<IpamConfig>,
}

/// A swarm network as the user asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSpec {
    #[serde(flatten)]
    pub annotations: Annotations,
    #[serde(skip_serializing_if = "is_default")]
    pub driver_configuration: Driver,
    #[serde(rename = "IPv6Enabled", skip_serializing_if = "is_default")]
    pub ipv6_enabled: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub internal: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub attachable: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub ingress: bool,
    #[serde(rename = "IPAMOptions", skip_serializing_if = "Option::is_none")]
    pub ipam: Option<IpamOptions>,
    /// Name of the config-only network this one takes its settings from; empty for none.
    #[serde(rename = "_configFrom", skip_serializing_if = "is_default")]
    pub config_from: String,
    #[serde(skip_serializing_if = "is_default")]
    pub scope: String,
}

/// A swarm network. `driver_state` and `ipam` are the allocator's: the VXLAN ids and the subnets
/// really in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    #[serde(rename = "ID")]
    pub id: NetworkId,
    #[serde(flatten)]
    pub meta: Meta,
    pub spec: NetworkSpec,
    #[serde(skip_serializing_if = "is_default")]
    pub driver_state: Driver,
    #[serde(rename = "IPAMOptions", skip_serializing_if = "Option::is_none")]
    pub ipam: Option<IpamOptions>,
    #[serde(rename = "_pendingDelete", skip_serializing_if = "is_default")]
    pub pending_delete: bool,
}

/// Driver state option that holds the decimal VXLAN ids, one per IPv4 subnet, separated by commas.
pub const VXLAN_ID_LIST: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// Label of networks every host has by itself (`bridge`, `host`).
pub const PREDEFINED_LABEL: &str = "com.docker.swarm.predefined";

/// A service's or task's wish to be on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachmentConfig {
    /// Network id or name.
    #[serde(skip_serializing_if = "is_default")]
    pub target: String,
    #[serde(skip_serializing_if = "is_default")]
    pub aliases: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub driver_opts: StringMap,
    /// Addresses asked for; empty lets the allocator choose.
    #[serde(rename = "_addresses", skip_serializing_if = "is_default")]
    pub addresses: Vec<String>,
}

/// A task or node on a network, with a full copy of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachment {
    pub network: Network,
    /// With prefix length, as in `10.0.1.3/24`.
    #[serde(skip_serializing_if = "is_default")]
    pub addresses: Vec<String>,
    #[serde(rename = "_aliases", skip_serializing_if = "is_default")]
    pub aliases: Vec<String>,
    #[serde(rename = "_driverAttachmentOpts", skip_serializing_if = "is_default")]
    pub driver_attachment_opts: StringMap,
}
