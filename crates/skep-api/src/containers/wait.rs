use axum::extract::State;
use serde_json::json as value;
use skep_engine::WaitCondition;

use crate::backend::App;
use crate::http::{ApiResult, Name, Params};
use crate::stream::later_json;

/// `POST /containers/{id}/wait`: the headers go out once the wait is registered, and clients start the
/// container only then; the body follows when the condition is met.
pub(super) async fn wait(State(app): State<App>, Name(id): Name, query: Params) -> ApiResult {
    let condition = WaitCondition::parse(query.text("condition"))?;
    let ended = app.engine.container_wait(&id, condition)?;
    Ok(later_json(async move {
        let answer = ended.await;
        match answer.error.and_then(|error| error.message) {
            Some(message) => {
                value!({ "StatusCode": answer.status_code, "Error": { "Message": message } })
            }
            None => value!({ "StatusCode": answer.status_code }),
        }
    }))
}
