//! `EXPOSE 80`, `80/udp`, `8000-8010/tcp`.

use super::error::{ChangeError, bad};

pub(super) fn add(ports: &mut Vec<String>, text: &str) -> Result<(), ChangeError> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad("EXPOSE", text, "invalid protocol"));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        return Err(bad("EXPOSE", text, "invalid port"));
    };
    if first > last {
        return Err(bad("EXPOSE", text, "the range ends before it starts"));
    }
    for port in first..=last {
        let port = format!("{port}/{protocol}");
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    Ok(())
}
