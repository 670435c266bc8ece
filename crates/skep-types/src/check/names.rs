use std::net::IpAddr;

use super::{Malformed, Text};

/// The kernel's limit, in bytes.
const MAX_HOSTNAME: usize = 64;

/// Checks a host or domain name; `what` is the word for it.
///
/// # Errors
/// [`Malformed::Hostname`].
pub fn hostname(what: &'static str, text: &str, kind: Text) -> Result<(), Malformed> {
    // Blanks and control characters would break /etc/hosts.
    let bad =
        text.len() > MAX_HOSTNAME || text.contains(|c: char| c.is_whitespace() || c.is_control());
    if bad && !kind.is_open(text) {
        return Err(Malformed::Hostname { what, text: text.to_owned() });
    }
    Ok(())
}

/// Checks the address of a name server.
///
/// # Errors
/// [`Malformed::Nameserver`].
pub fn nameserver(text: &str) -> Result<IpAddr, Malformed> {
    text.parse().map_err(|_| Malformed::Nameserver { text: text.to_owned() })
}

/// Reads `name:address` (or `name=address`); `None` is the address of `host-gateway`.
///
/// # Errors
/// [`Malformed::ExtraHost`].
pub fn extra_host(text: &str) -> Result<(String, Option<IpAddr>), Malformed> {
    let bad = |why| Malformed::ExtraHost { text: text.to_owned(), why };
    let (name, address) =
        text.split_once([':', '=']).ok_or_else(|| bad("expected name:address"))?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(bad("no host name"));
    }
    if address == "host-gateway" {
        return Ok((name.to_owned(), None));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let address = bare.parse().map_err(|_| bad("invalid IP address"))?;
    Ok((name.to_owned(), Some(address)))
}

/// Reads a line of a hosts file, `address name…`, as a service has them, into `name:address` each.
///
/// # Errors
/// [`Malformed::ExtraHost`].
pub fn hosts_line(line: &str) -> Result<Vec<String>, Malformed> {
    let mut words = line.split_whitespace();
    let bad = |why| Malformed::ExtraHost { text: line.to_owned(), why };
    let address = words.next().ok_or_else(|| bad("expected an address and names"))?;
    let hosts: Vec<String> = words.map(|name| format!("{name}:{address}")).collect();
    if hosts.is_empty() {
        return Err(bad("expected an address and names"));
    }
    for host in &hosts {
        if extra_host(host).is_err() {
            return Err(bad("invalid IP address"));
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames() {
        hostname("hostname", "web-1.example", Text::Plain).unwrap();
        hostname("hostname", "{{ .Node.Hostname }}", Text::Template).unwrap();
        for bad in ["a b", "a\nb", &"a".repeat(65), "{{ .Node.Hostname }}"] {
            assert!(hostname("hostname", bad, Text::Plain).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(extra_host("a:host-gateway").unwrap(), ("a".to_owned(), None));
        assert_eq!(extra_host("a:::1").unwrap().1, Some("::1".parse().unwrap()));
        assert_eq!(extra_host("a:[::1]").unwrap().1, Some("::1".parse().unwrap()));
        for bad in ["a", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a:[::1"] {
            assert!(extra_host(bad).is_err(), "{bad}");
        }
        assert_eq!(hosts_line("192.0.2.1 a b").unwrap(), ["a:192.0.2.1", "b:192.0.2.1"]);
        for bad in ["", "192.0.2.1", "a 192.0.2.1", "192.0.2 a"] {
            let refused = hosts_line(bad).unwrap_err().to_string();
            assert!(refused.contains(&format!("{bad:?}")), "{refused}");
        }
        assert!(nameserver("9.9.9").unwrap_err().to_string().ends_with("9.9.9"));
    }
}
