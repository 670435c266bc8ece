//! Registry credentials, as clients send them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use http::HeaderMap;
use serde::Deserialize;
use skep_image::Credentials;

use crate::http::{ApiError, decode};

/// Header with the credentials for the registry of the image at hand.
pub(crate) const REGISTRY_AUTH: &str = "x-registry-auth";

/// Docker's `AuthConfig`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuthConfig {
    username: String,
    password: String,
    /// Base64 of `name:password`, an older form.
    auth: String,
    pub serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

impl AuthConfig {
    pub fn credentials(self) -> Credentials {
        if !self.registrytoken.is_empty() {
            return Credentials::RegistryToken(self.registrytoken);
        }
        if !self.identitytoken.is_empty() {
            return Credentials::IdentityToken(self.identitytoken);
        }
        if !self.username.is_empty() {
            return Credentials::Password { username: self.username, password: self.password };
        }
        let joined =
            STANDARD.decode(&self.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match joined.as_deref().and_then(|text| text.split_once(':')) {
            Some((username, password)) => Credentials::Password {
                username: username.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            },
            None => Credentials::Anonymous,
        }
    }
}

/// The header's text; empty without the header.
pub(crate) fn registry_auth(headers: &HeaderMap) -> String {
    headers.get(REGISTRY_AUTH).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
}

/// The header's credentials; nobody's without the header or with an empty one.
///
/// # Errors
/// 400 if it is not base64url of JSON.
pub(crate) fn credentials(headers: &HeaderMap) -> Result<Credentials, ApiError> {
    registry_credentials(&registry_auth(headers))
        .map_err(|why| ApiError::bad_request(format!("invalid X-Registry-Auth header: {why}")))
}

/// Reads credentials as clients send them for a registry, in a header or with a service: base64url of
/// Docker's `AuthConfig`. An empty text is nobody in particular.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn registry_credentials(text: &str) -> Result<Credentials, String> {
    if text.is_empty() {
        return Ok(Credentials::Anonymous);
    }
    let bytes = URL_SAFE
        .decode(text)
        .or_else(|_| URL_SAFE_NO_PAD.decode(text))
        .or_else(|_| STANDARD.decode(text))
        .map_err(|error| error.to_string())?;
    if bytes.is_empty() {
        return Ok(Credentials::Anonymous);
    }
    let config: AuthConfig = decode(&bytes).map_err(|error| error.to_string())?;
    Ok(config.credentials())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(json: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(REGISTRY_AUTH, URL_SAFE.encode(json).parse().unwrap());
        headers
    }

    #[test]
    fn kinds_of_credentials() {
        assert!(matches!(credentials(&HeaderMap::new()), Ok(Credentials::Anonymous)));
        assert!(matches!(credentials(&header("{}")), Ok(Credentials::Anonymous)));
        assert!(matches!(
            credentials(&header(r#"{"username":"u","password":"p"}"#)),
            Ok(Credentials::Password { .. })
        ));
        assert!(matches!(
            credentials(&header(r#"{"identitytoken":"t"}"#)),
            Ok(Credentials::IdentityToken(_))
        ));
        let error = credentials(&header("nonsense")).unwrap_err();
        assert!(
            error.message.starts_with("invalid X-Registry-Auth header: invalid JSON"),
            "{error:?}"
        );
    }
}
