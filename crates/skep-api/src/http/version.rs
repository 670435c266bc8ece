use std::fmt;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::ApiError;

/// A version of the Engine API, as `1.50`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    pub major: u32,
    pub minor: u32,
}

/// The newest version served, and the one of paths without a version.
pub(crate) const MAX_VERSION: ApiVersion = ApiVersion { major: 1, minor: 50 };
/// The oldest version served.
pub(crate) const MIN_VERSION: ApiVersion = ApiVersion { major: 1, minor: 24 };

impl ApiVersion {
    /// True if this request's version is `1.minor` or newer.
    pub fn at_least(self, minor: u32) -> bool {
        self >= Self { major: 1, minor }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().copied().unwrap_or(MAX_VERSION))
    }
}

/// Takes `/v1.41` off the front of a path. A path without it has the newest version.
///
/// Errors: 400 with Docker's texts if the version is outside what is served.
pub(crate) fn split_version(path: &str) -> Result<(ApiVersion, &str), ApiError> {
    let Some((text, rest)) = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        Some(rest.split_at(end))
    }) else {
        return Ok((MAX_VERSION, path));
    };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok((MAX_VERSION, path));
    }
    let Some(version) = ApiVersion::parse(text) else {
        return Err(ApiError::bad_request(format!("invalid API version: {text}")));
    };
    if version > MAX_VERSION {
        return Err(ApiError::bad_request(format!(
            "client version {text} is too new. Maximum supported API version is {MAX_VERSION}"
        )));
    }
    if version < MIN_VERSION {
        return Err(ApiError::bad_request(format!(
            "client version {text} is too old. Minimum supported API version is {MIN_VERSION}, \
             please upgrade your client to a newer version"
        )));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_taken_off() {
        let v = |minor| ApiVersion { major: 1, minor };
        assert_eq!(split_version("/v1.41/containers/json").unwrap(), (v(41), "/containers/json"));
        assert_eq!(split_version("/containers/json").unwrap(), (MAX_VERSION, "/containers/json"));
        // Not a version: the rooms called "volumes" and "version" begin with a v as well.
        assert_eq!(split_version("/volumes/x").unwrap(), (MAX_VERSION, "/volumes/x"));
        assert_eq!(split_version("/version").unwrap(), (MAX_VERSION, "/version"));
    }

    #[test]
    fn versions_out_of_range_are_refused() {
        let message = |path| split_version(path).unwrap_err().message;
        assert_eq!(
            message("/v1.99/info"),
            "client version 1.99 is too new. Maximum supported API version is 1.50"
        );
        assert_eq!(
            message("/v1.12/info"),
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade \
             your client to a newer version"
        );
        assert_eq!(message("/v1.2.3/info"), "invalid API version: 1.2.3");
    }
}
