use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bollard_stubs::models::ExecStartConfig;
use http::{HeaderMap, StatusCode};
use skep_engine::{ExecStartOptions, Size};
use tokio::io::AsyncWriteExt as _;

use crate::backend::App;
use crate::containers::multiplexed_or_raw;
use crate::finish::finish;
use crate::http::{ApiError, ApiResult, ApiVersion, JsonBody, Name};
use crate::stream::{Channel, DetachKeys, Duplex, Takeover, frame, pump};

/// `POST /exec/{id}/start`.
pub(super) async fn start(
    State(app): State<App>,
    Name(id): Name,
    version: ApiVersion,
    takeover: Takeover,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let config: ExecStartConfig = JsonBody::optional(&headers, body).await?.unwrap_or_default();
    let options =
        ExecStartOptions { detach: config.detach.unwrap_or(false), size: console_size(&config)? };
    let known = app.engine.exec_inspect(&id).await?;
    let keys = DetachKeys::parse(known.detach_keys.as_deref().unwrap_or(""))?;
    if takeover.is_upgrade() && !options.detach {
        app.engine.exec_check(&id)?;
        let tty = known.process_config.and_then(|process| process.tty).unwrap_or(false);
        return Ok(upgraded(app, id, options, keys, tty, takeover, version));
    }
    let engine = app.engine.clone();
    match finish(async move { engine.exec_start(&id, options).await }).await? {
        None => Ok(StatusCode::OK.into_response()),
        Some(session) => {
            let content_type = multiplexed_or_raw(session.tty, version);
            Ok(takeover.answer(content_type, Body::empty(), |client| pump(session, client, keys)))
        }
    }
}

/// Answers first and starts then, as Docker does. SDKs (docker-py) lose output that comes right behind
/// the answer, and they and the docker client look for the reason of a failed start in the stream; the
/// exec's exit code is 126 or 127 then.
fn upgraded(
    app: App,
    id: String,
    options: ExecStartOptions,
    keys: DetachKeys,
    tty: bool,
    takeover: Takeover,
    version: ApiVersion,
) -> Response {
    takeover.answer(multiplexed_or_raw(tty, version), Body::empty(), move |client| async move {
        match app.engine.exec_start(&id, options).await {
            Ok(Some(session)) => pump(session, client, keys).await,
            Ok(None) => {}
            Err(error) => say(client, tty, &error.report_of_exec()).await,
        }
    })
}

fn console_size(config: &ExecStartConfig) -> ApiResult<Option<Size>> {
    let Some(size) = &config.console_size else { return Ok(None) };
    let wrong =
        || ApiError::bad_request(format!("invalid console size {size:?}: it is height and width"));
    let [rows, cols] = size[..] else { return Err(wrong()) };
    if rows == 0 && cols == 0 {
        return Ok(None);
    }
    let side = |n: usize| u16::try_from(n).map_err(|_| wrong());
    Ok(Some(Size { rows: side(rows)?, cols: side(cols)? }))
}

async fn say(client: Duplex, tty: bool, message: &str) {
    let text = format!("{message}\r\n");
    let bytes =
        if tty { text.into_bytes().into() } else { frame(Channel::Stdout, text.as_bytes()) };
    let Duplex { mut writer, .. } = client;
    let said = async {
        writer.write_all(&bytes).await?;
        writer.shutdown().await
    };
    if let Err(error) = said.await {
        tracing::debug!(%error, "client left before it was told why its command did not run");
    }
}
