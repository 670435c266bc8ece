use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bollard_stubs::models::ExecStartConfig;
use http::{HeaderMap, StatusCode};
use skep_engine::{EngineError, ExecStartOptions, Size};
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
    let tty = config.tty.unwrap_or(false);
    let options =
        ExecStartOptions { detach: config.detach.unwrap_or(false), size: console_size(&config)? };
    let exec = id.clone();
    let engine = app.engine.clone();
    let session =
        finish(async move { Ok::<_, ApiError>(engine.exec_start(&exec, options).await) }).await?;
    match session {
        Ok(None) => Ok(StatusCode::OK.into_response()),
        Ok(Some(session)) => {
            let content_type = multiplexed_or_raw(session.tty, version);
            let keys = DetachKeys::default();
            Ok(takeover.answer(content_type, Body::empty(), |client| pump(session, client, keys)))
        }
        // Docker's clients expect a command that cannot be run to say so on the stream; they then
        // take 126 or 127 from the exec's exit code.
        Err(EngineError::CommandFailed { failure }) if takeover.is_upgrade() => {
            let message = format!(
                "OCI runtime exec failed: exec failed: unable to start container process: {failure}: unknown"
            );
            Ok(say(takeover, tty, version, &message))
        }
        Err(error) => Err(error.into()),
    }
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

fn say(takeover: Takeover, tty: bool, version: ApiVersion, message: &str) -> Response {
    let text = format!("{message}\r\n");
    let bytes =
        if tty { text.into_bytes().into() } else { frame(Channel::Stdout, text.as_bytes()) };
    takeover.answer(multiplexed_or_raw(tty, version), Body::empty(), |client| async move {
        let Duplex { mut writer, .. } = client;
        let said = async {
            writer.write_all(&bytes).await?;
            writer.shutdown().await
        };
        if let Err(error) = said.await {
            tracing::debug!(%error, "client left before it was told why its command did not run");
        }
    })
}
