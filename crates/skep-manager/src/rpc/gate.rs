use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::Either;
use tonic::Status;
use tonic::codegen::http;
use tower::{Layer, Service};

use crate::auth::admitted;
use crate::shared::Shared;

/// What may be called without a certificate: by who wants to become a node.
const OPEN: [&str; 3] = [
    "/docker.swarmkit.v1.CA/GetRootCACertificate",
    "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate",
    "/docker.swarmkit.v1.NodeCA/NodeCertificateStatus",
];

/// Asks for a node's certificate before anything else is answered, whether the call exists or not.
/// Which nodes may make a call is for each call to decide.
#[derive(Clone)]
pub(super) struct Gate(pub Arc<Shared>);

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { shared: self.0.clone(), inner }
    }
}

#[derive(Clone)]
pub(super) struct Gated<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S, A, B> Service<http::Request<A>> for Gated<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    B: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        match check(&self.shared, &request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

fn check<A>(shared: &Shared, request: &http::Request<A>) -> Result<(), Status> {
    if OPEN.contains(&request.uri().path()) {
        return Ok(());
    }
    admitted(shared, request.extensions()).map(|_| ())
}
