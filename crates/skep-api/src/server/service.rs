use std::convert::Infallible;
use std::pin::Pin;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{Request, Uri};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::ServerHeaders;
use crate::http::{ApiError, split_version};

/// A request's way in: its version is taken off the path and noted, the router answers, the common
/// headers are put on.
#[derive(Clone)]
pub(crate) struct ApiService {
    router: Router,
    headers: ServerHeaders,
}

impl ApiService {
    pub fn new(router: Router, headers: ServerHeaders) -> Self {
        Self { router, headers }
    }

    /// Answers one request.
    pub async fn answer(self, request: Request<Body>) -> Response {
        tracing::debug!(method = %request.method(), uri = %request.uri(), "request");
        let mut response = match versioned(request) {
            Ok(request) => {
                let Ok(response) = self.router.oneshot(request).await;
                response
            }
            Err(error) => error.into_response(),
        };
        self.headers.apply(response.headers_mut());
        response
    }
}

impl hyper::service::Service<Request<Incoming>> for ApiService {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = self.clone().answer(request.map(Body::new));
        Box::pin(async move { Ok(answer.await) })
    }
}

/// Notes the version in the request's extensions and removes it from the path.
fn versioned(mut request: Request<Body>) -> Result<Request<Body>, ApiError> {
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
