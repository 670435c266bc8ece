use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::http::MAX_VERSION;

/// Headers of every answer: clients negotiate by them.
#[derive(Clone)]
pub(crate) struct ServerHeaders(Vec<(HeaderName, HeaderValue)>);

impl ServerHeaders {
    /// `product` is for instance `skep/0.1.0`.
    pub fn new(product: &str) -> Self {
        let text = |text: String| {
            HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("skep"))
        };
        Self(vec![
            (HeaderName::from_static("api-version"), text(MAX_VERSION.to_string())),
            (HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false")),
            (HeaderName::from_static("ostype"), HeaderValue::from_static("linux")),
            (header::SERVER, text(format!("{product} (linux)"))),
        ])
    }

    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.insert(name.clone(), value.clone());
        }
    }
}
