//! The kernel's lists of sockets, `/proc/net/tcp` and its siblings.

use skep_types::Protocol;
use std::net::{IpAddr, Ipv6Addr};

/// What a listening TCP socket's state is there.
const LISTENING: &str = "0A";
/// What an unconnected UDP socket's state is there.
const UNCONNECTED: &str = "07";

/// A bound socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Its address; `0.0.0.0` or `::` for all.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its number, as in the names of processes' descriptors: `socket:[4026]`.
    pub inode: u64,
    /// Whether it takes connections or packets from anybody: it listens, or is connected to nobody.
    pub open: bool,
}

/// The sockets of a protocol in the calling thread's network namespace. The kernel lists none of SCTP.
pub fn list(protocol: Protocol) -> Vec<Socket> {
    let (names, state) = match protocol {
        Protocol::Tcp => (["tcp", "tcp6"], LISTENING),
        Protocol::Udp => (["udp", "udp6"], UNCONNECTED),
        Protocol::Sctp => return Vec::new(),
    };
    let mut found = Vec::new();
    for name in names {
        // The IPv6 table is missing where IPv6 is.
        if let Ok(text) = std::fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
            found.extend(text.lines().skip(1).filter_map(|line| socket(line, state)));
        }
    }
    found
}

/// A line of such a list; a socket in `state` is open.
fn socket(line: &str, state: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = local_address(fields.next()?)?;
    let (_remote, found) = (fields.next()?, fields.next()?);
    // Between them: queues, timer, retransmits, user, timeouts.
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Socket { address, port, inode, open: found == state })
}

/// `0100007F:1F90` is 127.0.0.1:8080: words in the machine's order, the port in the
/// network's.
fn local_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(four.into()),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn addresses_of_sockets() {
        assert_eq!(local_address("0100007F:1F90"), Some((Ipv4Addr::LOCALHOST.into(), 8080)));
        assert_eq!(
            local_address("00000000000000000000000000000000:0050"),
            Some((Ipv6Addr::UNSPECIFIED.into(), 80))
        );
        assert_eq!(local_address("0100007F"), None);
        assert_eq!(local_address("010000:1F90"), None);
    }

    #[test]
    fn lines() {
        let line = |state: &str| {
            format!(
                "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 \
                 1000        0 52012 1 0000000000000000 100 0 0 10 0"
            )
        };
        for (state, open) in [("0A", true), ("01", false)] {
            let address = Ipv4Addr::LOCALHOST.into();
            let found = Socket { address, port: 8080, inode: 52012, open };
            assert_eq!(socket(&line(state), LISTENING), Some(found));
        }
        assert_eq!(socket("   0: 0100007F:1F90 00000000:0000 0A", LISTENING), None);
        assert_eq!(socket("", LISTENING), None);
    }

    #[test]
    fn own_sockets_are_found() {
        use std::os::fd::AsRawFd as _;
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for (protocol, address, descriptor) in [
            (Protocol::Tcp, tcp.local_addr().unwrap(), tcp.as_raw_fd()),
            (Protocol::Udp, udp.local_addr().unwrap(), udp.as_raw_fd()),
        ] {
            let found = list(protocol).into_iter().find(|socket| socket.port == address.port());
            let found = found.expect("the socket is listed");
            let name = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap();
            assert_eq!(name.to_str().unwrap(), format!("socket:[{}]", found.inode));
            assert_eq!((found.address, found.open), (address.ip(), true));
        }
        assert_eq!(list(Protocol::Sctp), []);
    }
}
