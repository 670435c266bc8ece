use axum::response::Response;
use bollard_stubs::models::CreateImageInfo;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json as value};
use skep_engine::{EngineError, ProgressStream};

use crate::http::ApiResult;
use crate::stream::{JsonLine, json_lines};

/// Progress as lines of JSON. What fails before there is any progress becomes the answer's status, as
/// in Docker; a later failure is the last line.
///
/// # Errors
/// Whatever the first item fails with.
pub(super) async fn answer(mut progress: ProgressStream) -> ApiResult<Response> {
    let first = match progress.next().await {
        Some(Err(error)) => return Err(error.into()),
        Some(Ok(line)) => Some(Ok(line)),
        None => None,
    };
    let lines = stream::iter(first).chain(progress).map(|item| match item {
        Ok(info) => line(&info),
        Err(error) => failure(error),
    });
    Ok(json_lines(lines))
}

fn failure(error: EngineError) -> JsonLine {
    tracing::debug!(error = %skep_types::report(&error), "an image operation failed after its answer began");
    JsonLine::error(&error.into())
}

/// One line. Those that clients wrote down as text of the daemon's come as `stream`, all others as
/// `status` with a bar where there is one.
fn line(info: &CreateImageInfo) -> JsonLine {
    if let (Some(status), None) = (&info.status, &info.id)
        && status.starts_with("Loaded image")
    {
        return JsonLine::new(&value!({ "stream": format!("{}\n", status.trim_end()) }));
    }
    let mut line = value!({ "status": info.status.as_deref().unwrap_or("") });
    if let Some(detail) = &info.progress_detail {
        let mut shown = serde_json::Map::new();
        if let Some(current) = detail.current {
            shown.insert("current".into(), current.into());
        }
        if let Some(total) = detail.total {
            shown.insert("total".into(), total.into());
        }
        line["progressDetail"] = Value::Object(shown);
    }
    if let Some(id) = &info.id {
        line["id"] = id.as_str().into();
    }
    if let Some(detail) = &info.error_detail {
        line["error"] = detail.message.as_deref().unwrap_or("").into();
        line["errorDetail"] = value!({ "message": detail.message });
    }
    JsonLine::new(&line)
}
