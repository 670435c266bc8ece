use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::lenient::Lenient;
use super::{ApiError, ApiResult};

/// Largest JSON body: a service or a container with every option used is some kilobytes; secrets and
/// configs are bounded at 1000 KiB and travel in base64.
pub(crate) const MAX_JSON_BYTES: usize = 8 << 20;

/// Why a JSON body cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The body is empty although the operation needs one.
    #[error("invalid JSON: got EOF while reading request body")]
    Empty,
    /// Not JSON at all.
    #[error("invalid JSON: {0}")]
    Syntax(serde_json::Error),
    /// JSON of another shape; `path` names the field, as in `HostConfig.Memory`. It is empty for the
    /// document itself and where the field is not known.
    #[error("invalid JSON: {path}{}{cause}", if path.is_empty() { "" } else { ": " })]
    Shape { path: String, cause: serde_json::Error },
    /// A text that no name, path or value of Docker's can be: the kernel's texts end with that byte.
    #[error("invalid JSON: a NUL byte in {path}")]
    Nul { path: String },
}

/// A JSON body of type `T`.
///
/// As in Docker: a body needs `Content-Type: application/json`; unknown fields are ignored; `null`
/// means the field is absent. An empty body is an error for this type; operations whose body is
/// optional take `Option<JsonBody<T>>`-like [`JsonBody::optional`].
pub(crate) struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> JsonBody<T> {
    /// Reads a request whose body may be missing.
    pub async fn optional(headers: &HeaderMap, body: Body) -> ApiResult<Option<T>> {
        match read(headers, body).await? {
            Some(bytes) => decode(&bytes).map(Some).map_err(into_api),
            None => Ok(None),
        }
    }
}

/// A JSON body with its nulls, for operations to which some of them mean something.
pub(crate) struct RawJson(pub Value);

impl<S: Send + Sync> FromRequest<S> for RawJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body).await?.ok_or_else(|| into_api(BodyError::Empty))?;
        document(&bytes).map(Self).map_err(into_api)
    }
}

/// The body, unless it is empty.
async fn read(headers: &HeaderMap, body: Body) -> ApiResult<Option<Bytes>> {
    let bytes = collect(body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    check_content_type(headers)?;
    Ok(Some(bytes))
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        match Self::optional(&parts.headers, body).await? {
            Some(value) => Ok(Self(value)),
            None => Err(into_api(BodyError::Empty)),
        }
    }
}

fn into_api(error: BodyError) -> ApiError {
    ApiError::bad_request(error.to_string())
}

/// Decodes JSON after removing nulls.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(BodyError::Empty);
    }
    decode_value(document(bytes)?)
}

/// Reads a document and refuses what no text in it may hold.
fn document(bytes: &[u8]) -> Result<Value, BodyError> {
    let value = serde_json::from_slice(bytes).map_err(BodyError::Syntax)?;
    match find_nul(&value) {
        Some(path) => Err(BodyError::Nul { path }),
        None => Ok(value),
    }
}

/// Where a document holds a NUL byte, as in `HostConfig.Binds[0]`; for a key, that of what it is in.
fn find_nul(value: &Value) -> Option<String> {
    let below = |at: String, rest: String| match rest.is_empty() || rest.starts_with('[') {
        true => at + &rest,
        false => format!("{at}.{rest}"),
    };
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(at, item)| Some(below(format!("[{at}]"), find_nul(item)?)))
        }
        Value::Object(fields) => fields.iter().find_map(|(key, field)| {
            if key.contains('\0') {
                return Some(String::new());
            }
            Some(below(key.clone(), find_nul(field)?))
        }),
        _ => None,
    }
}

/// Decodes a document after removing nulls.
pub(crate) fn decode_value<T: DeserializeOwned>(mut value: Value) -> Result<T, BodyError> {
    strip_nulls(&mut value);
    serde_path_to_error::deserialize(Lenient(value)).map_err(|error| BodyError::Shape {
        path: Some(error.path().to_string()).filter(|path| path != ".").unwrap_or_default(),
        cause: error.into_inner(),
    })
}

/// Removes object members and array items that are `null`, at every depth.
pub(crate) fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(strip_nulls);
        }
        _ => {}
    }
}

fn check_content_type(headers: &HeaderMap) -> ApiResult<()> {
    let value = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or(b"");
    let value = String::from_utf8_lossy(value);
    let kind = value.split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "unsupported Content-Type header ({value}): must be 'application/json'"
    )))
}

async fn collect(body: Body) -> ApiResult<Bytes> {
    match Limited::new(body, MAX_JSON_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
            http::StatusCode::PAYLOAD_TOO_LARGE,
            format!("request body is larger than {MAX_JSON_BYTES} bytes"),
        )),
        Err(error) => Err(ApiError::bad_request(format!("cannot read the request body: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        inner: Inner,
        names: Vec<String>,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        memory: i64,
    }

    #[test]
    fn wrong_fields_are_named() {
        let error = decode::<Outer>(br#"{"Inner":{"Memory":"much"}}"#).unwrap_err();
        assert!(
            error.to_string().starts_with("invalid JSON: Inner.Memory: invalid type"),
            "{error}"
        );
        let error = decode::<Outer>(br#"{"Inner":"#).unwrap_err();
        assert!(error.to_string().starts_with("invalid JSON: EOF"), "{error}");
        assert!(matches!(decode::<Outer>(b" "), Err(BodyError::Empty)));
        assert!(decode::<Outer>(b"{} x").is_err());
    }

    #[test]
    fn no_text_holds_a_nul_byte() {
        for (body, path) in [
            (r#"{"Names":["a","b\u0000c"]}"#, "Names[1]"),
            (r#"{"Else":{"Labels":{"a":"\u0000"}}}"#, "Else.Labels.a"),
            (r#"{"Else":[{"Target":"/a\u0000"}]}"#, "Else[0].Target"),
            (r#"{"Else":{"a\u0000":1}}"#, "Else"),
        ] {
            let refused = decode::<Outer>(body.as_bytes()).unwrap_err().to_string();
            assert_eq!(refused, format!("invalid JSON: a NUL byte in {path}"));
        }
        decode::<Outer>(br#"{"Names":["a\u0001", "\\u0000"]}"#).unwrap();
    }

    #[test]
    fn nulls_are_absent_and_unknown_fields_ignored() {
        let body = br#"{"Inner":{"Memory":null},"Names":["a",null],"Else":1}"#;
        let outer: Outer = decode(body).unwrap();
        assert_eq!((outer.inner.memory, outer.names), (0, vec!["a".to_owned()]));
    }
}
