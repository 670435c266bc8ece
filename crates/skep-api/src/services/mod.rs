//! Services of the swarm.

mod create;
mod list;
mod logs;
mod update;
mod view;

use axum::Router;
use axum::routing::{get, post};

pub(crate) use logs::swarm_logs;
pub(crate) use view::task_spec;

use crate::backend::App;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/services", get(list::list))
        .route("/services/create", post(create::create))
        .route("/services/{id}", get(list::inspect).delete(update::remove))
        .route("/services/{id}/update", post(update::update))
        .route("/services/{id}/logs", get(logs::logs))
}
