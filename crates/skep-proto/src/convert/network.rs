use skep_types as t;

use super::util::{
    Result, into_list, into_or_default, list, maybe, owned, try_or_default, unless_default,
};
use crate::{ConvertError, v1 as pb};

impl From<&t::IpamConfig> for pb::IpamConfig {
    /// The family is that of the subnet.
    fn from(config: &t::IpamConfig) -> Self {
        use pb::ipam_config::AddressFamily;
        let family = match config.subnet.as_str() {
            "" => AddressFamily::Unknown,
            subnet if subnet.contains(':') => AddressFamily::Ipv6,
            _ => AddressFamily::Ipv4,
        };
        Self {
            family: family.into(),
            subnet: config.subnet.clone(),
            range: config.range.clone(),
            gateway: config.gateway.clone(),
            reserved: config.reserved.clone(),
        }
    }
}

impl From<pb::IpamConfig> for t::IpamConfig {
    fn from(config: pb::IpamConfig) -> Self {
        Self {
            subnet: config.subnet,
            range: config.range,
            gateway: config.gateway,
            reserved: config.reserved,
        }
    }
}

impl From<&t::IpamOptions> for pb::IpamOptions {
    /// The driver is always present: Docker reads its name without looking.
    fn from(options: &t::IpamOptions) -> Self {
        Self { driver: Some((&options.driver).into()), configs: list(&options.configs) }
    }
}

impl From<pb::IpamOptions> for t::IpamOptions {
    fn from(options: pb::IpamOptions) -> Self {
        Self { driver: into_or_default(options.driver), configs: into_list(options.configs) }
    }
}

impl From<&t::NetworkSpec> for pb::NetworkSpec {
    /// `scope` does not travel: every network here is the swarm's.
    fn from(spec: &t::NetworkSpec) -> Self {
        let driver_config = if spec.ingress {
            Some((&spec.driver_configuration).into())
        } else {
            unless_default(&spec.driver_configuration)
        };
        let config_from = (!spec.config_from.is_empty())
            .then(|| pb::network_spec::ConfigFrom::Network(spec.config_from.clone()));
        Self {
            annotations: Some((&spec.annotations).into()),
            driver_config,
            ipv6_enabled: spec.ipv6_enabled,
            internal: spec.internal,
            ipam: maybe(&spec.ipam),
            attachable: spec.attachable,
            ingress: spec.ingress,
            config_from,
        }
    }
}

impl From<pb::NetworkSpec> for t::NetworkSpec {
    fn from(spec: pb::NetworkSpec) -> Self {
        let config_from = match spec.config_from {
            Some(pb::network_spec::ConfigFrom::Network(name)) => name,
            None => String::new(),
        };
        Self {
            annotations: into_or_default(spec.annotations),
            driver_configuration: into_or_default(spec.driver_config),
            ipv6_enabled: spec.ipv6_enabled,
            internal: spec.internal,
            attachable: spec.attachable,
            ingress: spec.ingress,
            ipam: spec.ipam.map(Into::into),
            config_from,
            scope: String::new(),
        }
    }
}

impl From<&t::Network> for pb::Network {
    /// Driver state and address management are always present, empty where a network has none:
    /// Docker's agent reads both without looking.
    fn from(network: &t::Network) -> Self {
        let no_ipam = t::IpamOptions::default();
        Self {
            id: network.id.to_string(),
            meta: Some((&network.meta).into()),
            spec: Some((&network.spec).into()),
            driver_state: Some((&network.driver_state).into()),
            ipam: Some(network.ipam.as_ref().unwrap_or(&no_ipam).into()),
            pending_delete: network.pending_delete,
            extra: None,
        }
    }
}

impl TryFrom<pb::Network> for t::Network {
    type Error = ConvertError;

    fn try_from(network: pb::Network) -> Result<Self> {
        let ipam = network.ipam.map(t::IpamOptions::from);
        Ok(Self {
            id: network.id.into(),
            meta: try_or_default("meta", network.meta)?,
            spec: into_or_default(network.spec),
            driver_state: into_or_default(network.driver_state),
            ipam: ipam.filter(|ipam| *ipam != t::IpamOptions::default()),
            pending_delete: network.pending_delete,
        })
    }
}

impl From<&t::NetworkAttachmentConfig> for pb::NetworkAttachmentConfig {
    fn from(config: &t::NetworkAttachmentConfig) -> Self {
        Self {
            target: config.target.clone(),
            aliases: config.aliases.clone(),
            addresses: config.addresses.clone(),
            driver_attachment_opts: config.driver_opts.clone(),
        }
    }
}

impl From<pb::NetworkAttachmentConfig> for t::NetworkAttachmentConfig {
    fn from(config: pb::NetworkAttachmentConfig) -> Self {
        Self {
            target: config.target,
            aliases: config.aliases,
            driver_opts: config.driver_attachment_opts,
            addresses: config.addresses,
        }
    }
}

impl From<&t::NetworkAttachment> for pb::NetworkAttachment {
    fn from(attachment: &t::NetworkAttachment) -> Self {
        Self {
            network: Some((&attachment.network).into()),
            addresses: attachment.addresses.clone(),
            aliases: attachment.aliases.clone(),
            driver_attachment_opts: attachment.driver_attachment_opts.clone(),
        }
    }
}

impl TryFrom<pb::NetworkAttachment> for t::NetworkAttachment {
    type Error = ConvertError;

    fn try_from(attachment: pb::NetworkAttachment) -> Result<Self> {
        Ok(Self {
            network: try_or_default("network", attachment.network)?,
            addresses: attachment.addresses,
            aliases: attachment.aliases,
            driver_attachment_opts: attachment.driver_attachment_opts,
        })
    }
}

owned!(Network, NetworkSpec, NetworkAttachment, NetworkAttachmentConfig);
