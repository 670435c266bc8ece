//! The daemon itself: ping, version, info, events, disk usage, registry login; and the operations
//! Docker has that this daemon does not.

mod absent;
mod auth;
mod df;
mod events;
mod info;
mod ping;
mod version;

use axum::Router;
use axum::routing::{get, post};

pub(crate) use events::event_time;

use crate::backend::App;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_ping", get(ping::ping))
        .route("/version", get(version::version))
        .route("/info", get(info::info))
        .route("/auth", post(auth::auth))
        .route("/events", get(events::events))
        .route("/system/df", get(df::df))
        .merge(absent::routes())
}
