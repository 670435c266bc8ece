use std::net::IpAddr;

use thiserror::Error;

/// Why no address could be taken from a request or from the host; the texts are Docker's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    #[error(
        "listen address must be an IP address or network interface (with optional port number)"
    )]
    BadListen,
    #[error(
        "advertise address must be a non-zero IP address or network interface (with optional port \
         number)"
    )]
    BadAdvertise,
    #[error(
        "data path address must be a non-zero IP address or network interface (without a port number)"
    )]
    BadDataPath,
    #[error(
        "default advertise address must be a non-zero IP address or network interface (without a \
         port number)"
    )]
    BadDefaultAdvertise,
    /// Nothing could come in there.
    #[error("{role} address {ip} is not an address of this host")]
    NotOurs { role: &'static str, ip: IpAddr },
    /// Other nodes would send this host's VXLAN packets to somebody else.
    #[error(
        "advertise address {0} is not an address of this host; if it is translated to one, name that \
         one with --data-path-addr"
    )]
    AdvertiseNotOurs(IpAddr),
    /// Overlays' tunnels would be open to anybody, since only IPv4's senders are told apart.
    #[error(
        "data path address {0} is an IPv6 address, over which overlay networks cannot be carried; name an IPv4 \
         address of this host with --data-path-addr"
    )]
    DataPathV6(IpAddr),
    #[error("could not find the system's IP address")]
    NoAddress,
    #[error(
        "must specify a listening address because the address to advertise is not recognized as a \
         system address, and a system's IP address to use could not be uniquely identified"
    )]
    MustListen,
    #[error("interface {0} has no usable IPv4 or IPv6 addresses")]
    LinkWithoutAddress(String),
    #[error("interface {link} has more than one {family} address ({first} and {second})")]
    LinkWithMany { link: String, family: &'static str, first: IpAddr, second: IpAddr },
    #[error(
        "could not choose an IP address to advertise since this system has multiple addresses on \
         interface {link} ({first} and {second})"
    )]
    ManyOnOne { link: String, first: IpAddr, second: IpAddr },
    #[error(
        "could not choose an IP address to advertise since this system has multiple addresses on \
         different interfaces ({first} on {first_link} and {second} on {second_link})"
    )]
    ManyOnSeveral { first: IpAddr, first_link: String, second: IpAddr, second_link: String },
    #[error("could not read the host's network interfaces: {0}")]
    Links(String),
}
