use std::convert::Infallible;
use std::pin::Pin;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{Request, Uri, header};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::ServerHeaders;
use crate::http::{ApiError, split_version};

/// Of an error's text, bytes.
const LONGEST_TEXT: usize = 64 << 10;

/// A request's way in: its version is taken off the path and noted, the router answers, the common
/// headers are put on.
#[derive(Clone)]
pub(crate) struct ApiService {
    router: Router,
    headers: ServerHeaders,
    /// The connection came over a port that every browser of this host can reach.
    exposed: bool,
}

impl ApiService {
    pub fn new(router: Router, headers: ServerHeaders) -> Self {
        Self { router, headers, exposed: false }
    }

    /// For connections over a port without encryption, which web pages can reach too.
    pub fn exposed(mut self) -> Self {
        self.exposed = true;
        self
    }

    /// Answers one request.
    pub async fn answer(self, request: Request<Body>) -> Response {
        tracing::debug!(method = %request.method(), uri = %request.uri(), "request");
        let admitted = match self.exposed {
            true => super::origin::check(request.headers()),
            false => Ok(()),
        };
        let mut response = match admitted.and_then(|()| versioned(request)) {
            Ok(request) => {
                let Ok(response) = self.router.oneshot(request).await;
                response
            }
            Err(error) => error.into_response(),
        };
        response = in_json(response).await;
        self.headers.apply(response.headers_mut());
        response
    }
}

/// Every error has a body in JSON, also those that the router's own parts wrote as text.
async fn in_json(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), LONGEST_TEXT).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let message = match text.trim() {
        "" => status.canonical_reason().unwrap_or("unknown error").to_owned(),
        text => text.to_owned(),
    };
    ApiError::new(status, message).into_response()
}

impl hyper::service::Service<Request<Incoming>> for ApiService {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = self.clone().answer(request.map(super::body::read_to_end));
        Box::pin(async move { Ok(answer.await) })
    }
}

/// Refuses the byte that no name, path or value of Docker's can have: the kernel's texts end with it, so that it
/// would mean one thing here and another there. What a body holds is checked where bodies are read.
fn check_text(uri: &Uri) -> Result<(), ApiError> {
    let has_nul = |text: &str| text.contains("%00");
    if has_nul(uri.path()) || uri.query().is_some_and(has_nul) {
        return Err(ApiError::bad_request(
            "invalid request: a NUL byte (%00) in the path or the query",
        ));
    }
    Ok(())
}

/// Notes the version in the request's extensions and removes it from the path.
fn versioned(mut request: Request<Body>) -> Result<Request<Body>, ApiError> {
    check_text(request.uri())?;
    let (version, path) = split_version(request.uri().path())?;
    if path.len() != request.uri().path().len() {
        let rest = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let uri =
            rest.parse::<Uri>().map_err(|e| ApiError::bad_request(format!("invalid path: {e}")))?;
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(version);
    Ok(request)
}
