//! The little that is needed of URLs.

use http::Uri;

use super::RegistryError;

/// Percent-encodes a query value.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Adds a query parameter.
pub(super) fn with(url: &str, key: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{key}={}", encode(value))
}

/// A `Location` seen from the URL that gave it.
pub(super) fn resolve(base: &Uri, location: &str) -> Result<String, RegistryError> {
    let bad = || RegistryError::Protocol {
        url: base.to_string(),
        reason: format!("it redirects to {location:?}"),
    };
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map(ToString::to_string).unwrap_or_default();
    let whole = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = whole.parse().map_err(|_| bad())?;
    if uri.authority().is_none() {
        return Err(bad());
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let base: Uri = "https://r:5000/v2/a/blobs/uploads/".parse().unwrap();
        for (location, want) in [
            ("http://x/y?z", "http://x/y?z"),
            ("/v2/b?s=1", "https://r:5000/v2/b?s=1"),
            ("//cdn/x", "https://cdn/x"),
            ("id", "https://r:5000/v2/a/blobs/uploads/id"),
        ] {
            assert_eq!(resolve(&base, location).unwrap(), want);
        }
        assert!(resolve(&base, "http://").is_err());
        assert_eq!(
            with("http://a?b=c", "digest", "sha256:1/2"),
            "http://a?b=c&digest=sha256%3A1%2F2"
        );
    }
}
