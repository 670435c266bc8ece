//! Containers of this host.

mod archive;
mod attach;
mod create;
mod export;
mod lifecycle;
mod list;
mod logs;
mod observe;
mod resize;
mod update;
mod view;
mod wait;

use axum::Router;
use axum::routing::{delete, get, post};

pub(crate) use create::normalize as normalize_create;
pub(crate) use logs::{LogQuery, multiplexed_or_raw};
pub(crate) use resize::size;

use crate::backend::App;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/containers/json", get(list::list))
        .route("/containers/create", post(create::create))
        .route("/containers/prune", post(update::prune))
        .route("/containers/{id}", delete(lifecycle::remove))
        .route("/containers/{id}/json", get(list::inspect))
        .route("/containers/{id}/start", post(lifecycle::start))
        .route("/containers/{id}/stop", post(lifecycle::stop))
        .route("/containers/{id}/restart", post(lifecycle::restart))
        .route("/containers/{id}/kill", post(lifecycle::kill))
        .route("/containers/{id}/pause", post(lifecycle::pause))
        .route("/containers/{id}/unpause", post(lifecycle::unpause))
        .route("/containers/{id}/rename", post(update::rename))
        .route("/containers/{id}/update", post(update::update))
        .route("/containers/{id}/wait", post(wait::wait))
        .route("/containers/{id}/resize", post(resize::resize))
        .route("/containers/{id}/attach", post(attach::attach))
        .route("/containers/{id}/attach/ws", get(attach::websocket))
        .route("/containers/{id}/logs", get(logs::logs))
        .route("/containers/{id}/top", get(observe::top))
        .route("/containers/{id}/stats", get(observe::stats))
        .route("/containers/{id}/changes", get(observe::changes))
        .route("/containers/{id}/export", get(export::export))
        .route("/containers/{id}/archive", get(archive::get).head(archive::stat).put(archive::put))
        .route("/commit", post(export::commit))
}
