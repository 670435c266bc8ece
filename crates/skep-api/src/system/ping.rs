use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use skep_node::{LocalNodeState, SwarmInfo};

use crate::backend::App;
use crate::http::text;

/// `1` is the builder without BuildKit: clients then do not open a session for it.
const BUILDER: HeaderValue = HeaderValue::from_static("1");

/// `GET` and `HEAD /_ping`: clients negotiate by the headers of its answer.
pub(super) async fn ping(State(app): State<App>) -> Response {
    let swarm = swarm_header(&app.swarm.info().await);
    let mut response = text("OK");
    let headers = response.headers_mut();
    headers.insert("builder-version", BUILDER);
    headers.insert("swarm", HeaderValue::from_static(swarm));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

fn swarm_header(info: &SwarmInfo) -> &'static str {
    match info.local_state {
        LocalNodeState::Active if info.control_available => "active/manager",
        LocalNodeState::Active => "active/worker",
        other => other.as_str(),
    }
}
