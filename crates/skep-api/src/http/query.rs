use std::collections::BTreeMap;
use std::convert::Infallible;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use skep_engine::Filters;

use super::ApiError;

/// A request's query, read with Docker's rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(BTreeMap<String, Vec<String>>);

impl Params {
    pub fn parse(query: &str) -> Self {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.entry(unescape(key)).or_default().push(unescape(value));
        }
        Self(values)
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The first value; a missing key is empty.
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// The first value unless it is missing or empty.
    pub fn non_empty(&self, key: &str) -> Option<&str> {
        Some(self.text(key)).filter(|value| !value.is_empty())
    }

    /// Every value of a key that may be repeated.
    pub fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Everything is true but nothing, `0`, `no`, `false` and `none`.
    pub fn flag(&self, key: &str) -> bool {
        let value = self.text(key).trim().to_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As `flag`, with another answer for a missing key.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.has(key) { self.flag(key) } else { default }
    }

    /// A number; missing or empty is `None`.
    pub fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, ApiError> {
        self.non_empty(key)
            .map(|value| {
                value.parse().map_err(|_| {
                    ApiError::bad_request(format!(
                        "invalid value for query parameter {key}: {value:?} is not a number in range"
                    ))
                })
            })
            .transpose()
    }

    /// The `filters` parameter.
    pub fn filters(&self) -> Result<Filters, ApiError> {
        Ok(Filters::parse(self.text("filters"))?)
    }

    /// The `filters` parameter of an operation that knows only these.
    pub fn known_filters(&self, known: &[&str]) -> Result<Filters, ApiError> {
        let filters = self.filters()?;
        filters.validate(known)?;
        Ok(filters)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or("")))
    }
}

/// Undoes form encoding: `+` is a space, `%xx` a byte. A broken escape stays as it is, and bytes that
/// are not UTF-8 become replacement characters, so no query is refused here.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).and_then(|pair| {
                    let pair = std::str::from_utf8(pair).ok()?;
                    pair.bytes().all(|b| b.is_ascii_hexdigit()).then_some(pair)
                });
                if let Some(value) = digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                    out.push(value);
                    at += 2;
                } else {
                    out.push(b'%');
                }
            }
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_dockers() {
        let query = Params::parse("a=1&b=True&c=0&d=no&e=&f=None&g=yes&h=false&i");
        for (key, expected) in [
            ("a", true),
            ("b", true),
            ("c", false),
            ("d", false),
            ("e", false),
            ("f", false),
            ("g", true),
            ("h", false),
            ("i", false),
            ("missing", false),
        ] {
            assert_eq!(query.flag(key), expected, "{key}");
        }
        assert!(query.flag_or("missing", true));
    }

    #[test]
    fn escapes_and_repeats() {
        let query = Params::parse("name=a%2Fb+c&names=x&names=y&bad=%zz%4");
        assert_eq!(query.text("name"), "a/b c");
        assert_eq!(query.all("names"), ["x", "y"]);
        assert_eq!(query.text("bad"), "%zz%4");
    }

    #[test]
    fn numbers_name_the_parameter() {
        let query = Params::parse("t=ten&ok=-1&none=");
        assert!(query.number::<i64>("t").unwrap_err().message.contains("t: \"ten\""));
        assert_eq!(query.number::<i64>("ok").unwrap(), Some(-1));
        assert_eq!(query.number::<i64>("none").unwrap(), None);
    }
}
