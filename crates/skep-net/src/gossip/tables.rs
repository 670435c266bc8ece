//! Between the network room's records and the entries that travel.

use crate::ids::{EndpointId, NetworkId};
use crate::model::{EndpointRecord, LocalRecords, PeerRecord, PublishedPort, RemoteChange};
use skep_gossip::EntryId;
use skep_gossip::records::{self as wire, ENDPOINT_TABLE, PEER_TABLE, Record as _};
use skep_types::Protocol;
use std::collections::BTreeMap;

/// What this node has to say, by place, as it travels.
pub fn entries(records: &LocalRecords) -> BTreeMap<EntryId, Vec<u8>> {
    let endpoints = records.endpoints.iter().map(|(network, endpoint, record)| {
        (place(network, ENDPOINT_TABLE, endpoint), encode_endpoint(record).encode_to_vec())
    });
    let peers = records.peers.iter().map(|(network, endpoint, record)| {
        (place(network, PEER_TABLE, endpoint), encode_peer(record).encode_to_vec())
    });
    endpoints.chain(peers).collect()
}

/// What another node's entry means to this one; `None` as value when it is gone. `None` for tables
/// that are not about endpoints; an error, for people, for a value that cannot be read.
pub fn change(id: &EntryId, value: Option<&[u8]>) -> Option<Result<RemoteChange, String>> {
    let network = id.network.clone();
    let endpoint = EndpointId::new(id.key.as_str());
    match id.table.as_str() {
        ENDPOINT_TABLE => Some(
            value
                .map(decode_endpoint)
                .transpose()
                .map(|record| RemoteChange::Endpoint(network, endpoint, record)),
        ),
        PEER_TABLE => Some(
            value
                .map(decode_peer)
                .transpose()
                .map(|record| RemoteChange::Peer(network, endpoint, record)),
        ),
        _ => None,
    }
}

fn place(network: &NetworkId, table: &str, endpoint: &EndpointId) -> EntryId {
    EntryId::new(network.as_str(), table, endpoint.as_str())
}

fn encode_endpoint(record: &EndpointRecord) -> wire::EndpointRecord {
    wire::EndpointRecord {
        name: record.name.clone(),
        service_name: record.service_name.clone(),
        service_id: record.service_id.clone(),
        // As Docker writes an address that is none.
        virtual_ip: record.vip.map_or_else(|| "<nil>".to_owned(), |vip| vip.to_string()),
        endpoint_ip: record.endpoint_ip.to_string(),
        ingress_ports: record
            .ingress_ports
            .iter()
            .map(|port| wire::PortConfig {
                name: port.name.clone(),
                protocol: match port.protocol {
                    Protocol::Tcp => wire::Protocol::Tcp,
                    Protocol::Udp => wire::Protocol::Udp,
                    Protocol::Sctp => wire::Protocol::Sctp,
                }
                .into(),
                target_port: port.target.into(),
                published_port: port.published.into(),
            })
            .collect(),
        aliases: record.aliases.clone(),
        task_aliases: record.task_aliases.clone(),
        service_disabled: record.disabled,
    }
}

fn decode_endpoint(bytes: &[u8]) -> Result<EndpointRecord, String> {
    let record = wire::EndpointRecord::decode(bytes).map_err(|error| error.to_string())?;
    let endpoint_ip = record
        .endpoint_ip
        .parse()
        .map_err(|_| format!("no IPv4 address: {:?}", record.endpoint_ip))?;
    let ingress_ports =
        record.ingress_ports.iter().map(decode_port).collect::<Result<Vec<_>, _>>()?;
    Ok(EndpointRecord {
        name: record.name,
        service_name: record.service_name,
        service_id: record.service_id,
        vip: record.virtual_ip.parse().ok(),
        endpoint_ip,
        ingress_ports,
        aliases: record.aliases,
        task_aliases: record.task_aliases,
        disabled: record.service_disabled,
    })
}

fn decode_port(port: &wire::PortConfig) -> Result<PublishedPort, String> {
    let number = |value: u32| {
        u16::try_from(value)
            .ok()
            .filter(|number| *number != 0)
            .ok_or_else(|| format!("no port: {value}"))
    };
    Ok(PublishedPort {
        name: port.name.clone(),
        protocol: match wire::Protocol::try_from(port.protocol) {
            Ok(wire::Protocol::Tcp) => Protocol::Tcp,
            Ok(wire::Protocol::Udp) => Protocol::Udp,
            Ok(wire::Protocol::Sctp) => Protocol::Sctp,
            Err(_) => return Err(format!("no protocol: {}", port.protocol)),
        },
        target: number(port.target_port)?,
        published: number(port.published_port)?,
    })
}

fn encode_peer(record: &PeerRecord) -> wire::PeerRecord {
    wire::PeerRecord {
        endpoint_ip: record.endpoint_ip.to_string(),
        endpoint_mac: record.endpoint_mac.to_string(),
        tunnel_endpoint_ip: record.tunnel_endpoint_ip.to_string(),
    }
}

fn decode_peer(bytes: &[u8]) -> Result<PeerRecord, String> {
    let record = wire::PeerRecord::decode(bytes).map_err(|error| error.to_string())?;
    let unreadable = |what: &str, text: &str| format!("no {what}: {text:?}");
    Ok(PeerRecord {
        endpoint_ip: record
            .endpoint_ip
            .parse()
            .map_err(|_| unreadable("address with prefix length", &record.endpoint_ip))?,
        endpoint_mac: record
            .endpoint_mac
            .parse()
            .map_err(|_| unreadable("Ethernet address", &record.endpoint_mac))?,
        tunnel_endpoint_ip: record
            .tunnel_endpoint_ip
            .parse()
            .map_err(|_| unreadable("address", &record.tunnel_endpoint_ip))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> LocalRecords {
        let network = NetworkId::new("net1");
        let endpoint = EndpointId::new("ep1");
        LocalRecords {
            endpoints: vec![(
                network.clone(),
                endpoint.clone(),
                EndpointRecord {
                    name: "web.1.x".into(),
                    service_name: "web".into(),
                    service_id: "svc".into(),
                    vip: None,
                    endpoint_ip: [10, 0, 1, 5].into(),
                    ingress_ports: vec![PublishedPort {
                        name: String::new(),
                        protocol: Protocol::Udp,
                        target: 53,
                        published: 5300,
                    }],
                    aliases: vec!["www".into()],
                    task_aliases: vec!["0123456789ab".into()],
                    disabled: true,
                },
            )],
            peers: vec![(
                network,
                endpoint,
                PeerRecord {
                    endpoint_ip: "10.0.1.5/24".parse().unwrap(),
                    endpoint_mac: "02:42:0a:00:01:05".parse().unwrap(),
                    tunnel_endpoint_ip: "192.0.2.1".parse().unwrap(),
                },
            )],
        }
    }

    #[test]
    fn what_one_node_says_another_understands() {
        let records = records();
        let entries = entries(&records);
        assert_eq!(entries.len(), 2);
        for (id, value) in &entries {
            let found = change(id, Some(value)).unwrap().unwrap();
            let (network, endpoint, record) = &records.endpoints[0];
            let (_, _, peer) = &records.peers[0];
            let expected = match id.table.as_str() {
                ENDPOINT_TABLE => {
                    RemoteChange::Endpoint(network.clone(), endpoint.clone(), Some(record.clone()))
                }
                _ => RemoteChange::Peer(network.clone(), endpoint.clone(), Some(peer.clone())),
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn values_that_cannot_be_read_are_told() {
        let good = encode_endpoint(&records().endpoints[0].2);
        let port = |target_port, protocol| {
            vec![wire::PortConfig {
                target_port,
                protocol,
                published_port: 1,
                ..Default::default()
            }]
        };
        let bad = [
            wire::EndpointRecord { endpoint_ip: "10.0.1".into(), ..good.clone() },
            wire::EndpointRecord { ingress_ports: port(65536, 0), ..good.clone() },
            wire::EndpointRecord { ingress_ports: port(0, 0), ..good.clone() },
            wire::EndpointRecord { ingress_ports: port(1, 7), ..good.clone() },
        ];
        let id = EntryId::new("net1", ENDPOINT_TABLE, "ep1");
        assert!(change(&id, Some(&good.encode_to_vec())).unwrap().is_ok());
        for record in bad {
            assert!(change(&id, Some(&record.encode_to_vec())).unwrap().is_err(), "{record:?}");
        }
        assert!(change(&id, Some(&[0xff])).unwrap().is_err());
        assert!(change(&EntryId::new("net1", PEER_TABLE, "ep1"), Some(&[0xff])).unwrap().is_err());
        assert!(change(&EntryId::new("net1", "other", "ep1"), None).is_none());
    }
}
