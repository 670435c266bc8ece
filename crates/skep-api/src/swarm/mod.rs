//! This host's membership of a swarm, and the swarm as a whole.

mod cluster;
mod event;
mod filter;
mod init;
mod join;
mod key;
mod update;

use axum::Router;
use axum::routing::{get, post};
use skep_manager::Control;

pub(crate) use cluster::cluster_info;
pub(crate) use event::announce;
pub(crate) use filter::common;
pub(crate) use init::InitBody;
pub(crate) use join::JoinBody;
pub(crate) use key::UnlockBody;

use crate::backend::{App, Backend};
use crate::http::ApiResult;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/swarm", get(cluster::inspect))
        .route("/swarm/init", post(init::init))
        .route("/swarm/join", post(join::join))
        .route("/swarm/leave", post(join::leave))
        .route("/swarm/update", post(update::update))
        .route("/swarm/unlockkey", get(key::unlock_key))
        .route("/swarm/unlock", post(key::unlock))
}

impl Backend {
    /// The swarm's control API.
    ///
    /// # Errors
    /// 503 with Docker's text if this host is not a manager.
    pub(crate) fn control(&self) -> ApiResult<Control> {
        Ok(self.swarm.control()?)
    }
}

/// The `version` parameter of an update.
///
/// # Errors
/// 400 if it is missing or not a number.
pub(crate) fn object_version(query: &crate::http::Params) -> ApiResult<skep_types::Version> {
    let text = query.text("version");
    match text.parse() {
        Ok(index) => Ok(skep_types::Version { index }),
        Err(_) => {
            Err(crate::http::ApiError::bad_request(format!("invalid object version '{text}'")))
        }
    }
}
