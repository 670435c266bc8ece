//! The records that Swarm nodes keep in the tables, as they travel (protobuf).
//!
//! [`ENDPOINT_TABLE`] says who answers for which names and services, [`PEER_TABLE`] behind which
//! node an address is. The key of both is the endpoint's id.

pub use prost::Message as Record;

/// Table of [`EndpointRecord`]s.
pub const ENDPOINT_TABLE: &str = "endpoint_table";
/// Table of [`PeerRecord`]s.
pub const PEER_TABLE: &str = "overlay_peer_table";

/// Who answers for which names and which service.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EndpointRecord {
    /// Container name. A record without one is to be ignored.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Empty for a standalone container.
    #[prost(string, tag = "2")]
    pub service_name: String,
    /// Empty for a standalone container.
    #[prost(string, tag = "3")]
    pub service_id: String,
    /// Plain address; Docker writes `<nil>` for none, so what cannot be parsed is none.
    #[prost(string, tag = "4")]
    pub virtual_ip: String,
    /// Plain address. A record without one is to be ignored.
    #[prost(string, tag = "5")]
    pub endpoint_ip: String,
    /// Ports of the routing mesh; only on the ingress network.
    #[prost(message, repeated, tag = "6")]
    pub ingress_ports: Vec<PortConfig>,
    /// Further names of the service on this network.
    #[prost(string, repeated, tag = "7")]
    pub aliases: Vec<String>,
    /// Further names of the task.
    #[prost(string, repeated, tag = "8")]
    pub task_aliases: Vec<String>,
    /// Keeps its connections, gets no new ones.
    #[prost(bool, tag = "9")]
    pub service_disabled: bool,
}

/// A port of the routing mesh.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PortConfig {
    /// Free text.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Protocol.
    #[prost(enumeration = "Protocol", tag = "2")]
    pub protocol: i32,
    /// Port in the container.
    #[prost(uint32, tag = "3")]
    pub target_port: u32,
    /// Port on every node.
    #[prost(uint32, tag = "4")]
    pub published_port: u32,
}

/// Protocol of a [`PortConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Protocol {
    /// TCP.
    Tcp = 0,
    /// UDP.
    Udp = 1,
    /// SCTP.
    Sctp = 2,
}

/// Behind which node an endpoint is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PeerRecord {
    /// With prefix length: `10.0.1.5/24`.
    #[prost(string, tag = "1")]
    pub endpoint_ip: String,
    /// Lower case, with colons.
    #[prost(string, tag = "2")]
    pub endpoint_mac: String,
    /// The node's data path address, plain.
    #[prost(string, tag = "3")]
    pub tunnel_endpoint_ip: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_record_travels_as_docker_writes_it() {
        let record = PeerRecord {
            endpoint_ip: "10.0.1.5/24".into(),
            endpoint_mac: "02:42:0a:00:01:05".into(),
            tunnel_endpoint_ip: "192.0.2.1".into(),
        };
        let bytes = record.encode_to_vec();
        assert_eq!(
            hex::encode(&bytes),
            "0a0b31302e302e312e352f3234121130323a34323a30613a30303a30313a30351a093139322e302e322e31"
        );
        assert_eq!(PeerRecord::decode(&bytes[..]).unwrap(), record);
    }
}
