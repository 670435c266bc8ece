use http::HeaderMap;

use super::progress;
use crate::auth::credentials;
use crate::backend::App;
use crate::http::{ApiResult, Params};

/// `POST /images/{name}/push`.
pub(super) async fn push(app: &App, name: &str, query: &Params, headers: &HeaderMap) -> ApiResult {
    let stream = app.engine.image_push(name, query.non_empty("tag"), credentials(headers)?).await?;
    progress::answer(stream).await
}
