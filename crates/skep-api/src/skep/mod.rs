//! What this daemon has and Docker has not. Paths begin with `/skep/v1`, which no version of the
//! Engine API uses.

mod trace;

use axum::Router;
use axum::routing::get;

use crate::backend::App;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/skep/v1/net/trace", get(trace::trace))
}
