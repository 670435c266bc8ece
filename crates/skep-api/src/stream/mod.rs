//! Answers that go on: taken-over connections, multiplexed output, lines of JSON.

mod detach;
mod frame;
mod hijack;
mod ndjson;
mod pump;

pub(crate) use detach::DetachKeys;
pub(crate) use frame::{Channel, frame};
pub(crate) use hijack::{Duplex, Takeover};
pub(crate) use ndjson::{JsonLine, json_lines, later_json};
pub(crate) use pump::{Framing, pump};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use http::{HeaderValue, StatusCode, header};
use skep_engine::{EngineError, StdStream};

/// Content type of output that is one stream, as a terminal's.
pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of output in frames.
pub(crate) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// 200 with a body that comes as it is made. An error ends the connection in the middle of the body,
/// so that the client never takes a part for the whole.
pub(crate) fn streamed<S, E>(content_type: &'static str, stream: S) -> Response
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut response = Response::new(Body::from_stream(stream));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// One item of a process's output as bytes on the wire.
pub(crate) fn framed(
    item: Result<(StdStream, Bytes), EngineError>,
    framing: Framing,
) -> Result<Bytes, BrokenOff> {
    let (stream, data) = item.map_err(BrokenOff::new)?;
    Ok(match framing {
        Framing::Raw => data,
        Framing::Multiplexed => frame(pump::channel(stream), &data),
    })
}

/// The engine's bytes as a body's.
pub(crate) fn bytes_of(
    bytes: skep_engine::ByteStream,
) -> impl Stream<Item = Result<Bytes, BrokenOff>> {
    bytes.map_err(BrokenOff::new)
}

/// A stream failed in the middle: too late for a status, so its connection is cut.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(crate) struct BrokenOff(#[source] Box<dyn std::error::Error + Send + Sync>);

impl BrokenOff {
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        tracing::warn!(error = %skep_types::report(&error), "an answer broke off");
        Self(Box::new(error))
    }
}
