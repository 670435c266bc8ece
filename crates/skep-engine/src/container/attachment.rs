//! A container's wish to be on a network.

use std::net::{IpAddr, Ipv4Addr};

use bollard_stubs::models::{EndpointIpamConfig, EndpointSettings};
use serde::{Deserialize, Serialize};
use skep_net::{EndpointSpec, Mac, ServiceAttachment};

use super::layout;
use crate::error::{EngineError, Result};

/// One network that a container is to be on whenever it runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// Network as named by the user: id, name or id prefix.
    pub network: String,
    /// The endpoint settings as asked for; addresses found out later are not in here.
    #[serde(
        default,
        serialize_with = "layout::write::<layout::EndpointSettings, _>",
        deserialize_with = "layout::read::<layout::EndpointSettings, _>"
    )]
    pub settings: EndpointSettings,
    /// A task's part in a service on this network.
    #[serde(default)]
    pub service: Option<ServiceAttachment>,
}

impl Attachment {
    /// On this network with everything by default.
    pub fn new(network: impl Into<String>) -> Self {
        Self { network: network.into(), ..Self::default() }
    }

    /// With a fixed address.
    #[must_use]
    pub fn with_address(mut self, address: Ipv4Addr) -> Self {
        self.settings.ipam_config = Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..Default::default()
        });
        self
    }

    /// As part of a service.
    #[must_use]
    pub fn with_service(mut self, service: ServiceAttachment) -> Self {
        self.service = Some(service);
        self
    }

    /// What the network room is to be asked for.
    ///
    /// # Errors
    /// `Invalid` for malformed addresses.
    pub fn spec(&self) -> Result<EndpointSpec> {
        let ipam = self.settings.ipam_config.as_ref();
        let ipv4 = match ipam.and_then(|i| i.ipv4_address.as_deref()).filter(|a| !a.is_empty()) {
            None => None,
            Some(text) => Some(
                text.parse::<Ipv4Addr>()
                    .map_err(|_| EngineError::Invalid(format!("invalid IPv4 address: {text}")))?,
            ),
        };
        if let Some(text) = ipam.and_then(|i| i.ipv6_address.as_deref()).filter(|a| !a.is_empty()) {
            return Err(match text.parse::<IpAddr>() {
                Ok(_) => EngineError::Invalid(format!("IPv6 address {text}: only IPv4 is served")),
                Err(_) => EngineError::Invalid(format!("invalid IPv6 address: {text}")),
            });
        }
        let mac = match self.settings.mac_address.as_deref().filter(|m| !m.is_empty()) {
            None => None,
            Some(text) => Some(
                text.parse::<Mac>()
                    .map_err(|_| EngineError::Invalid(format!("invalid MAC address: {text}")))?,
            ),
        };
        let priority = self.settings.gw_priority.unwrap_or(0);
        let gateway_priority = i32::try_from(priority)
            .map_err(|_| EngineError::Invalid(format!("invalid gateway priority: {priority}")))?;
        Ok(EndpointSpec {
            network: self.network.clone(),
            id: None,
            ipv4,
            mac,
            aliases: self.settings.aliases.clone().unwrap_or_default(),
            gateway_priority,
            service: self.service.clone(),
        })
    }
}

/// What a container is created with beyond the API's body.
#[derive(Debug, Clone, Default)]
pub struct CreateExtras {
    /// Networks in the order of interfaces; replaces what the body says about networks. Services'
    /// tasks are enabled in rotation by whoever made them (`Engine::net().enable_service`).
    pub attachments: Option<Vec<Attachment>>,
}
