use std::net::Ipv4Addr;

use ipnet::Ipv6Net;
use skep_types::{Cidr, IpamConfig, IpamOptions};

use super::ControlError;
use crate::Store;

/// Checks the subnets a user asks for: IPv4, gateway and range inside, no overlap with each other and
/// with those of other networks.
pub(super) fn check_ipam(store: &Store, ipam: &IpamOptions) -> Result<(), ControlError> {
    if !matches!(ipam.driver.name.as_str(), "" | "default") {
        return Err(ControlError::invalid(format!(
            "unsupported IPAM driver {:?}: only \"default\" is available",
            ipam.driver.name
        )));
    }
    let mut seen: Vec<Cidr> = Vec::new();
    for config in &ipam.configs {
        let Some(subnet) = check_config(config)? else { continue };
        let taken = store.networks().find(|network| {
            let configs = network.ipam.iter().chain(&network.spec.ipam).flat_map(|i| &i.configs);
            configs.filter_map(|c| c.subnet.parse().ok()).any(|net: Cidr| net.overlaps(&subnet))
        });
        if let Some(network) = taken {
            return Err(ControlError::invalid(format!(
                "invalid pool request: Pool overlaps with other one on this address space: {subnet} \
                 is in use by network {}",
                network.spec.annotations.name
            )));
        }
        if let Some(other) = seen.iter().find(|other| other.overlaps(&subnet)) {
            return Err(ControlError::invalid(format!(
                "invalid pool request: Pool overlaps with other one on this address space: {subnet} \
                 and {other}"
            )));
        }
        seen.push(subnet);
    }
    Ok(())
}

fn check_config(config: &IpamConfig) -> Result<Option<Cidr>, ControlError> {
    if config.subnet.is_empty() {
        if config.range.is_empty() && config.gateway.is_empty() {
            return Ok(None);
        }
        return Err(ControlError::invalid("a range or gateway needs a subnet"));
    }
    let subnet = match (config.subnet.parse::<Cidr>(), config.subnet.parse::<Ipv6Net>()) {
        (Ok(net), _) => net,
        (_, Ok(net)) => {
            return Err(ControlError::invalid(format!(
                "invalid subnet {net}: overlay networks have IPv4 subnets only"
            )));
        }
        (Err(_), Err(_)) => {
            return Err(ControlError::invalid(format!(
                "invalid subnet {}: invalid CIDR address",
                config.subnet
            )));
        }
    };
    if subnet != subnet.network() {
        return Err(ControlError::invalid(format!(
            "invalid subnet {subnet}: it should be {}",
            subnet.network()
        )));
    }
    if let Some(why) = subnet.unusable() {
        return Err(ControlError::invalid(format!("invalid subnet {subnet}: {why}")));
    }
    if subnet.prefix() > 30 {
        return Err(ControlError::invalid(format!(
            "invalid subnet {subnet}: prefix length must be at most 30"
        )));
    }
    if !config.range.is_empty() {
        let inside = (config.range.parse::<Cidr>()).is_ok_and(|range| subnet.covers(&range));
        if !inside {
            return Err(ControlError::invalid(format!(
                "invalid ip-range {}: it is not in subnet {subnet}",
                config.range
            )));
        }
    }
    let reserved = config.reserved.iter().map(|(name, address)| (name.as_str(), address));
    for (name, address) in reserved.chain([("gateway", &config.gateway)]) {
        if address.is_empty() {
            continue;
        }
        let inside = address.parse::<Ipv4Addr>().is_ok_and(|a| subnet.contains(a));
        if !inside {
            return Err(ControlError::invalid(format!(
                "invalid {name} address {address}: it is not in subnet {subnet}"
            )));
        }
    }
    Ok(Some(subnet))
}
