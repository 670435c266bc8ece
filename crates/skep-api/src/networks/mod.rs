//! Networks of this host and of the swarm, which clients see as one list.
//!
//! Swarm networks are the manager's objects; what this host adds is who is connected here. A worker
//! knows only the swarm networks that its tasks use.

mod connect;
mod create;
mod find;
mod inspect;
mod list;
mod prune;
mod remove;
mod view;

use axum::Router;
use axum::routing::{get, post};

use crate::backend::App;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/networks", get(list::list))
        .route("/networks/create", post(create::create))
        .route("/networks/prune", post(prune::prune))
        .route("/networks/{id}", get(inspect::inspect).delete(remove::remove))
        .route("/networks/{id}/connect", post(connect::connect))
        .route("/networks/{id}/disconnect", post(connect::disconnect))
}
