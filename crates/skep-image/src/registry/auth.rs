//! Challenges and tokens.
//!
//! Source: distribution's "Token Authentication Specification" and RFC 7235.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;

use super::{Credentials, RegistryError, url};

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The answer of a token server.
#[derive(Debug, Deserialize)]
pub(super) struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    pub(super) refresh_token: Option<String>,
}

impl TokenAnswer {
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let token = self.token.as_ref().or(self.access_token.as_ref())?;
        secret(&format!("Bearer {token}"))
    }
}

/// How to ask a token server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenRequest {
    /// With these query parameters and maybe a Basic header.
    Get { url: String, basic: bool },
    /// The OAuth2 form, for identity tokens.
    Post { url: String, form: String },
}

impl Challenge {
    /// The strongest challenge of an answer.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let all = headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut basic = None;
        for text in all {
            match Self::parse(text) {
                Some(bearer @ Self::Bearer { .. }) => return Some(bearer),
                other => basic = basic.or(other),
            }
        }
        basic
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (key, value) in parameters(rest) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }

    /// How to get a token for this challenge.
    ///
    /// # Errors
    /// [`RegistryError::Plain`] if a secret would go to an unencrypted server that `may_be_plain`
    /// does not allow.
    pub(super) fn token_request(
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        who: &Credentials,
        may_be_plain: bool,
        for_login: bool,
    ) -> Result<TokenRequest, RegistryError> {
        if *who != Credentials::Anonymous && !realm.starts_with("https://") && !may_be_plain {
            return Err(RegistryError::Plain(realm.into()));
        }
        if let Credentials::IdentityToken(token) = who {
            let mut form = format!(
                "grant_type=refresh_token&client_id=skep&refresh_token={}",
                url::encode(token)
            );
            form.push_str(&format!("&service={}", url::encode(service.unwrap_or_default())));
            form.push_str(&format!("&scope={}", url::encode(&scopes.join(" "))));
            return Ok(TokenRequest::Post { url: realm.into(), form });
        }
        let mut whole = realm.to_owned();
        if let Some(service) = service {
            whole = url::with(&whole, "service", service);
        }
        for scope in scopes {
            whole = url::with(&whole, "scope", scope);
        }
        let basic = if let Credentials::Password { username, .. } = who {
            whole = url::with(&whole, "account", username);
            if for_login {
                whole = url::with(&url::with(&whole, "client_id", "skep"), "offline_token", "true");
            }
            true
        } else {
            false
        };
        Ok(TokenRequest::Get { url: whole, basic })
    }
}

/// The Basic header of a name and password.
pub(super) fn basic(who: &Credentials) -> Option<HeaderValue> {
    match who {
        Credentials::Password { username, password } => {
            secret(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
        }
        _ => None,
    }
}

/// A header that no log shows.
pub(super) fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `key="value", key=value`; quoted values may hold commas and escapes.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| *c == ',' || c.is_whitespace()).is_some() {}
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && *c != ',') {
            key.push(c);
        }
        if chars.next_if_eq(&'=').is_none() {
            return found;
        }
        let mut value = String::new();
        if chars.next_if_eq(&'"').is_some() {
            while let Some(c) = chars.next() {
                match c {
                    '"' => break,
                    '\\' => value.extend(chars.next()),
                    c => value.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                value.push(c);
            }
        }
        found.push((key.trim().to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        for (text, want) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a/t\",service=\"r.io\",scope=\"repository:a/b:pull,push\"",
                bearer("https://a/t", Some("r.io"), Some("repository:a/b:pull,push")),
            ),
            (
                "bearer realm=https://a , service=\"a\\\"b\"",
                bearer("https://a ", Some("a\"b"), None),
            ),
            ("Bearer service=x", None),
            ("Negotiate", None),
            ("Bearer ,,,=", None),
        ] {
            assert_eq!(Challenge::parse(text), want, "{text}");
        }
    }

    #[test]
    fn token_requests() {
        let scopes = ["repository:a/b:pull".to_owned()];
        let ask = |who: &Credentials, realm: &str| {
            Challenge::token_request(realm, Some("s"), &scopes, who, false, false)
        };
        assert_eq!(
            ask(&Credentials::Anonymous, "http://t").unwrap(),
            TokenRequest::Get {
                url: "http://t?service=s&scope=repository%3Aa%2Fb%3Apull".into(),
                basic: false
            }
        );
        let who = Credentials::Password { username: "u".into(), password: "p".into() };
        assert!(matches!(ask(&who, "http://t"), Err(RegistryError::Plain(_))));
        assert_eq!(
            ask(&who, "https://t?x=y").unwrap(),
            TokenRequest::Get {
                url: "https://t?x=y&service=s&scope=repository%3Aa%2Fb%3Apull&account=u".into(),
                basic: true
            }
        );
        assert!(matches!(
            ask(&Credentials::IdentityToken("i".into()), "https://t"),
            Ok(TokenRequest::Post { .. })
        ));
        assert_eq!(basic(&who).unwrap(), "Basic dTpw");
    }
}
