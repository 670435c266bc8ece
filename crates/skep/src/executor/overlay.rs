//! The swarm's networks in the words of this host's network room.

use std::net::Ipv4Addr;

use skep_agent::ExecError;
use skep_engine::Attachment;
use skep_net::{Cidr, OverlayNetwork, OverlaySubnet, PublishedPort, ServiceAttachment};
use skep_types::{Network, NetworkId, Node, PREDEFINED_LABEL, PublishMode, Task, VXLAN_ID_LIST};

/// This node's load-balancer address on a network, once a manager has given it one.
pub fn balancer_address(node: &Node, network: &NetworkId) -> Option<Ipv4Addr> {
    let attachment = node.attachments.iter().find(|a| a.network.id == *network)?;
    plain(attachment.addresses.first()?)
}

/// Reads an address with or without its prefix length.
fn plain(text: &str) -> Option<Ipv4Addr> {
    text.split('/').next()?.parse().ok()
}

/// # Errors
/// Fatal where the manager's description is incomplete or no IPv4 network.
pub fn describe(
    network: &Network,
    balancer: Option<Ipv4Addr>,
) -> Result<OverlayNetwork, ExecError> {
    let name = &network.spec.annotations.name;
    let list = network
        .driver_state
        .options
        .get(VXLAN_ID_LIST)
        .ok_or_else(|| ExecError::refused(format!("network {name} has no VXLAN id yet")))?;
    let configs = network.ipam.iter().flat_map(|ipam| &ipam.configs);
    let subnets = configs
        .zip(list.split(','))
        .map(|(config, vni)| {
            let subnet: Cidr = config.subnet.parse().map_err(|_| {
                ExecError::refused(format!(
                    "network {name} has an unusable subnet: {}",
                    config.subnet
                ))
            })?;
            let gateway = plain(&config.gateway).ok_or_else(|| {
                ExecError::refused(format!(
                    "network {name} has an unusable gateway: {}",
                    config.gateway
                ))
            })?;
            let vni = vni.trim().parse().map_err(|_| {
                ExecError::refused(format!("network {name} has an unusable VXLAN id: {vni}"))
            })?;
            Ok(OverlaySubnet { subnet: subnet.network(), gateway, vni })
        })
        .collect::<Result<Vec<_>, ExecError>>()?;
    if subnets.is_empty() {
        return Err(ExecError::refused(format!("network {name} has no subnet yet")));
    }
    let created = network.meta.created_at.datetime().unix_timestamp_nanos();
    Ok(OverlayNetwork {
        id: network.id.as_str().into(),
        name: name.clone(),
        created_unix_nanos: i64::try_from(created).unwrap_or(0),
        subnets,
        internal: network.spec.internal,
        attachable: network.spec.attachable,
        ingress: network.spec.ingress,
        lb_address: balancer,
        options: network.driver_state.options.clone(),
        labels: network.spec.annotations.labels.clone(),
    })
}

/// True for networks that every host has by itself and no manager describes further.
pub fn is_predefined(network: &Network) -> bool {
    network.spec.annotations.labels.contains_key(PREDEFINED_LABEL)
        || !network.driver_state.options.contains_key(VXLAN_ID_LIST)
}

/// The task's places on networks, in the order of its interfaces.
pub fn attachments(task: &Task) -> Result<Vec<Attachment>, ExecError> {
    task.networks_attachments
        .iter()
        .map(|attachment| {
            let network = &attachment.network;
            if is_predefined(network) {
                return Ok(Attachment::new(network.spec.annotations.name.clone()));
            }
            let address =
                attachment.addresses.first().and_then(|text| plain(text)).ok_or_else(|| {
                    ExecError::refused(format!(
                        "the task has no address on network {}",
                        network.spec.annotations.name
                    ))
                })?;
            let mut place = Attachment::new(network.id.as_str()).with_address(address);
            if !task.service_id.is_empty() {
                place = place.with_service(service(task, network, &attachment.aliases)?);
            }
            Ok(place)
        })
        .collect()
}

fn service(
    task: &Task,
    network: &Network,
    aliases: &[String],
) -> Result<ServiceAttachment, ExecError> {
    let endpoint = task.endpoint.clone().unwrap_or_default();
    let vip = endpoint.virtual_ips.iter().find(|vip| vip.network_id == network.id);
    let ports = endpoint.ports.iter().filter(|port| port.publish_mode == PublishMode::Ingress);
    Ok(ServiceAttachment {
        id: task.service_id.as_str().into(),
        name: task.service_annotations.name.clone(),
        vip: vip.and_then(|vip| plain(&vip.addr)),
        aliases: aliases.to_vec(),
        ingress_ports: if network.spec.ingress {
            ports.map(published).collect::<Result<_, _>>()?
        } else {
            Vec::new()
        },
    })
}

fn published(port: &skep_types::PortConfig) -> Result<PublishedPort, ExecError> {
    let number = |value: u32| {
        u16::try_from(value).map_err(|_| ExecError::refused(format!("no such port: {value}")))
    };
    Ok(PublishedPort {
        name: port.name.clone(),
        protocol: port.protocol,
        target: number(port.target_port)?,
        published: number(port.published_port)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::{Endpoint, IpamConfig, IpamOptions, NetworkAttachment, PortConfig, VirtualIp};

    fn network(ingress: bool) -> Network {
        let mut network = Network { id: "net1".into(), ..Default::default() };
        network.spec.annotations.name = "demo".into();
        network.spec.ingress = ingress;
        network.driver_state.options.insert(VXLAN_ID_LIST.into(), "4097".into());
        network.ipam = Some(IpamOptions {
            configs: vec![IpamConfig {
                subnet: "10.0.1.0/24".into(),
                gateway: "10.0.1.1".into(),
                ..Default::default()
            }],
            ..Default::default()
        });
        network
    }

    #[test]
    fn a_network_is_described_whole_or_refused() {
        let overlay = describe(&network(false), Some(Ipv4Addr::new(10, 0, 1, 9))).unwrap();
        assert_eq!(overlay.subnets[0].vni, 4097);
        assert_eq!(overlay.lb_address, Some(Ipv4Addr::new(10, 0, 1, 9)));
        let mut bare = network(false);
        bare.driver_state.options.clear();
        assert!(describe(&bare, None).is_err());
        let mut odd = network(false);
        odd.ipam.as_mut().unwrap().configs[0].subnet = "x".into();
        assert!(describe(&odd, None).is_err());
    }

    #[test]
    fn only_the_ingress_network_has_the_published_ports() {
        for ingress in [true, false] {
            let mut task = Task { service_id: "s".into(), ..Default::default() };
            task.networks_attachments = vec![NetworkAttachment {
                network: network(ingress),
                addresses: vec!["10.0.1.3/24".into()],
                ..Default::default()
            }];
            task.endpoint = Some(Endpoint {
                ports: vec![PortConfig {
                    target_port: 80,
                    published_port: 8000,
                    ..Default::default()
                }],
                virtual_ips: vec![VirtualIp {
                    network_id: "net1".into(),
                    addr: "10.0.1.2/24".into(),
                }],
                ..Default::default()
            });
            let places = attachments(&task).unwrap();
            let service = places[0].service.as_ref().unwrap();
            assert_eq!(service.vip, Some(Ipv4Addr::new(10, 0, 1, 2)));
            assert_eq!(service.ingress_ports.len(), usize::from(ingress));
        }
    }

    #[test]
    fn a_task_without_its_address_is_refused() {
        let task = Task {
            networks_attachments: vec![NetworkAttachment {
                network: network(false),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(attachments(&task).is_err());
    }
}
