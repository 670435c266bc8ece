//! A place on a network as it was asked for.

use std::collections::HashMap;

use bollard_stubs::models as api;

use super::object;

object! {
    /// A place on a network.
    EndpointSettings as api::EndpointSettings {
        ipam_config: EndpointIpamConfig = "IPAMConfig",
        links: Vec<String> = "Links",
        mac_address: String = "MacAddress",
        aliases: Vec<String> = "Aliases",
        driver_opts: HashMap<String, String> = "DriverOpts",
        gw_priority: i64 = "GwPriority",
        network_id: String = "NetworkID",
        endpoint_id: String = "EndpointID",
        gateway: String = "Gateway",
        ip_address: String = "IPAddress",
        ip_prefix_len: i64 = "IPPrefixLen",
        ipv6_gateway: String = "IPv6Gateway",
        global_ipv6_address: String = "GlobalIPv6Address",
        global_ipv6_prefix_len: i64 = "GlobalIPv6PrefixLen",
        dns_names: Vec<String> = "DNSNames",
    }
}

object! {
    /// Addresses that were asked for.
    EndpointIpamConfig as api::EndpointIpamConfig {
        ipv4_address: String = "IPv4Address",
        ipv6_address: String = "IPv6Address",
        link_local_ips: Vec<String> = "LinkLocalIPs",
    }
}
