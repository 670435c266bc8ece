use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderValue, header};
use serde::Serialize;

use crate::http::ApiError;

/// One line of a stream of JSON documents: written by Docker with CR LF after progress, and LF after
/// all others; both are white space to a JSON reader.
pub(crate) struct JsonLine(Bytes);

impl JsonLine {
    pub fn new<T: Serialize>(value: &T) -> Self {
        let mut bytes = serde_json::to_vec(value).unwrap_or_else(|error| {
            // Maps with keys that are not text are the only way to get here, and we have none.
            serde_json::json!({ "error": error.to_string() }).to_string().into_bytes()
        });
        bytes.extend_from_slice(b"\r\n");
        Self(bytes.into())
    }

    /// How a stream tells that it failed after its status was sent.
    pub fn error(error: &ApiError) -> Self {
        Self::new(&serde_json::json!({
            "errorDetail": { "message": error.message },
            "error": error.message,
        }))
    }
}

/// 200 with lines of JSON, each sent as it comes.
pub(crate) fn json_lines(lines: impl Stream<Item = JsonLine> + Send + 'static) -> Response {
    answer(Body::from_stream(lines.map(|line| Ok::<_, Infallible>(line.0))))
}

/// 200 whose headers go out now and whose one JSON document follows when `document` is ready.
pub(crate) fn later_json<T, F>(document: F) -> Response
where
    T: Serialize,
    F: Future<Output = T> + Send + 'static,
{
    json_lines(futures::stream::once(async move { JsonLine::new(&document.await) }))
}

fn answer(body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
