//! Which requests may come over a port without encryption.
//!
//! Such a port is on loopback, but every browser of this host can reach it for every page it shows. Two
//! ways lead there: a page whose name was made to mean 127.0.0.1 (its `Host` is that name), and a page
//! that posts to 127.0.0.1 itself (its `Origin` is the page's). Command lines and SDKs send an address
//! or `localhost`, and no origin.

use std::net::IpAddr;

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
        && !is_own(origin, host)
    {
        return Err(ApiError::forbidden(format!(
            "refused a request of a web page from {origin:?} over a port without TLS: only pages of this \
             host (http://localhost) may send one"
        )));
    }
    Ok(())
}

/// Whether a page is this host's own: from a loopback address, `localhost` or a name in it, or from the very
/// host that the request is for. Any other host has an address, and may have a name, that means it and not us.
fn is_own(origin: &str, host: Option<&str>) -> bool {
    let Some(("http" | "https", page)) = origin.split_once("://") else { return false };
    let page = name(page);
    match page.parse::<IpAddr>() {
        Ok(address) if address.to_canonical().is_loopback() => return true,
        Err(_) if page == "localhost" || page.ends_with(".localhost") => return true,
        _ => {}
    }
    !page.is_empty() && host.is_some_and(|host| name(host) == page)
}

/// Whether nobody outside can decide what this host (with or without a port) means: an address,
/// `localhost` and names in it, and single words, which the public name service does not have.
fn is_local(host: &str) -> bool {
    let name = name(host);
    name.parse::<IpAddr>().is_ok()
        || name.ends_with(".localhost")
        || name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A host without its port, in lower case, an IPv6 address without brackets. `?` if it is none.
fn name(host: &str) -> String {
    if let Some(rest) = host.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, _)) if address.contains(':') => address.to_ascii_lowercase(),
            _ => "?".to_owned(),
        };
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
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
        for (host, origin, own) in [
            ("127.0.0.1:2375", "http://localhost", true),
            ("127.0.0.1:2375", "https://LOCALHOST:8443", true),
            ("localhost:2375", "http://ui.localhost:3000", true),
            ("localhost:2375", "http://127.0.0.1:2375", true),
            ("localhost:2375", "http://127.8.8.8", true),
            ("localhost:2375", "http://[::1]:8080", true),
            ("docker:2375", "http://docker:8080", true),
            ("192.0.2.1:2375", "http://192.0.2.1", true),
            ("[2001:db8::1]:2375", "http://[2001:db8::1]", true),
            ("127.0.0.1:2375", "null", false),
            ("127.0.0.1:2375", "", false),
            ("127.0.0.1:2375", "http://", false),
            ("", "http://", false),
            ("127.0.0.1:2375", "http://198.51.100.7", false),
            ("127.0.0.1:2375", "http://[2001:db8::1]:2375", false),
            ("127.0.0.1:2375", "http://evil", false),
            ("docker:2375", "http://evil:2375", false),
            ("127.0.0.1:2375", "https://evil.example", false),
            ("127.0.0.1:2375", "http://localhost.evil.example", false),
            ("127.0.0.1:2375", "http://127.0.0.1.evil.example", false),
            ("127.0.0.1:2375", "http://0.0.0.0", false),
            ("127.0.0.1:2375", "file://localhost", false),
            ("127.0.0.1:2375", "chrome-extension://docker", false),
            ("docker", "http://[docker]", false),
        ] {
            let checked = check(&headers(&[(header::HOST, host), (header::ORIGIN, origin)]));
            let status = checked.map_err(|refused| refused.status);
            let wanted = if own { Ok(()) } else { Err(http::StatusCode::FORBIDDEN) };
            assert_eq!(status, wanted, "{origin} to {host}");
        }
        check(&headers(&[(header::HOST, "evil.example")])).unwrap_err();
    }
}
