//! Which requests may come over a port without encryption.
//!
//! Such a port is on loopback, but every browser of this host can reach it for every page it shows. Two
//! ways lead there: a page whose name was made to mean 127.0.0.1 (its `Host` is that name), and a page
//! that posts to 127.0.0.1 itself (its `Origin` is the page's). Command lines and SDKs send an address
//! or `localhost`, and no origin.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, header};

use crate::http::ApiError;

/// # Errors
/// 403 if a browser sent it for a page from elsewhere, or may have.
pub(super) fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).map(|value| value.to_str().unwrap_or("?"));
    if let Some(host) = host
        && !is_local(host)
    {
        return Err(ApiError::forbidden(format!(
            "refused a request for host {host:?} over a port without TLS: use localhost or the address"
        )));
    }
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("?"));
    if let Some(origin) = origin
        && !origin.split_once("://").is_some_and(|(_, host)| is_local(host))
    {
        return Err(ApiError::forbidden(format!(
            "refused a request of a web page from {origin:?} over a port without TLS"
        )));
    }
    Ok(())
}

/// Whether nobody outside can decide what this host (with or without a port) means: an address,
/// `localhost` and names in it, and single words, which the public name service does not have.
fn is_local(host: &str) -> bool {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok()
        || name.ends_with(".localhost")
        || name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_others_can_define_are_refused() {
        for (host, local) in [
            ("", true),
            ("127.0.0.1:2375", true),
            ("192.0.2.1", true),
            ("[::1]:2375", true),
            ("localhost:2375", true),
            ("LOCALHOST", true),
            ("api.moby.localhost", true),
            ("docker:2375", true),
            ("evil.example:2375", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example.:2375", false),
            ("localhost.evil.example", false),
            ("[evil.example]", false),
            ("?", false),
        ] {
            assert_eq!(is_local(host), local, "{host}");
        }
    }

    #[test]
    fn a_page_is_judged_by_its_origin() {
        let headers = |list: &[(header::HeaderName, &str)]| -> HeaderMap {
            list.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
        };
        let host = (header::HOST, "127.0.0.1:2375");
        check(&headers(&[])).unwrap();
        check(&headers(std::slice::from_ref(&host))).unwrap();
        check(&headers(&[host.clone(), (header::ORIGIN, "http://localhost:8080")])).unwrap();
        for origin in ["null", "https://evil.example", "file://evil.example"] {
            let refused = check(&headers(&[host.clone(), (header::ORIGIN, origin)])).unwrap_err();
            assert_eq!(refused.status, http::StatusCode::FORBIDDEN, "{origin}");
        }
        check(&headers(&[(header::HOST, "evil.example")])).unwrap_err();
    }
}
