use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use serde_json::{Value, json as value};

use crate::backend::App;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, JsonBody, Name, Params, created};
use crate::stream::{bytes_of, streamed};

/// `GET /containers/{id}/export`: the container's files as a tar.
pub(super) async fn export(State(app): State<App>, Name(id): Name) -> ApiResult {
    let tar = app.engine.container_export(&id).await?;
    Ok(streamed("application/x-tar", bytes_of(tar)))
}

/// `POST /commit`: an image from a container.
pub(super) async fn commit(
    State(app): State<App>,
    query: Params,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let Some(container) = query.non_empty("container").map(str::to_owned) else {
        return Err(ApiError::bad_request("query parameter container is missing"));
    };
    let reference = query.non_empty("repo").map(|repo| match query.non_empty("tag") {
        Some(tag) => format!("{repo}:{tag}"),
        None => repo.to_owned(),
    });
    let mut changes: Vec<String> = query.all("changes").to_vec();
    changes.retain(|change| !change.is_empty());
    if let Some(config) = JsonBody::<Value>::optional(&headers, body).await? {
        // Clients send what `--change` says as text; a configuration here would be laid over it.
        let unused = config.as_object().is_none_or(|fields| fields.values().all(is_empty));
        if !unused {
            return Err(ApiError::not_implemented(
                "a configuration in the body of commit is not supported: use the parameter changes",
            ));
        }
    }
    let (author, comment) = (query.text("author").to_owned(), query.text("comment").to_owned());
    let pause = query.flag_or("pause", true);
    let id = finish(async move {
        let reference = reference.as_deref();
        app.engine.container_commit(&container, reference, changes, &author, &comment, pause).await
    })
    .await?;
    created(&value!({ "Id": id }))
}

/// Go's zero values, which clients send for a configuration they have no wish for.
fn is_empty(field: &Value) -> bool {
    match field {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}
