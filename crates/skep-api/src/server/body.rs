//! Request bodies that are read to their end, also where the answer does not depend on it.
//!
//! Who is answered before its body was read goes on sending it. Were the connection closed then, many clients would
//! see that as a broken pipe and never read the answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};

/// How long what nobody wants is read: enough for a client to notice its answer and to hang up.
const LIMIT: Duration = Duration::from_secs(10);

/// The body, whose rest is read and thrown away when it is dropped.
pub(super) fn read_to_end(body: Incoming) -> Body {
    if body.is_end_stream() {
        return Body::empty();
    }
    Body::new(ReadToEnd(Some(Body::new(body))))
}

/// `None` at the end.
struct ReadToEnd(Option<Body>);

impl hyper::body::Body for ReadToEnd {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ReadToEnd {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // A connection that goes with its runtime has nobody left to answer.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut rest = body.into_data_stream();
            let read = async { while rest.next().await.is_some_and(|part| part.is_ok()) {} };
            // Past the limit the connection is closed.
            let _ = tokio::time::timeout(LIMIT, read).await;
        });
    }
}
