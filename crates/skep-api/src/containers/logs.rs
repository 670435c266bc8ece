use axum::extract::State;
use futures::StreamExt as _;
use skep_engine::LogsOptions;
use time::OffsetDateTime;

use crate::backend::App;
use crate::http::{ApiError, ApiResult, ApiVersion, Name, Params};
use crate::stream::{Framing, MULTIPLEXED_STREAM, RAW_STREAM, framed, streamed};
use crate::system::event_time;

/// The parameters that the logs of containers, services and tasks share.
pub(crate) struct LogQuery {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    pub timestamps: bool,
    pub details: bool,
    /// Last lines; `None` is all.
    pub tail: Option<u64>,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
}

impl LogQuery {
    /// # Errors
    /// 400 if no stream is asked for or a time is malformed.
    pub fn parse(query: &Params) -> ApiResult<Self> {
        let parsed = Self {
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr"),
            follow: query.flag("follow"),
            timestamps: query.flag("timestamps"),
            details: query.flag("details"),
            // As Docker: `all` and whatever else is not a number is everything.
            tail: query.text("tail").parse().ok(),
            since: event_time(query, "since")?,
            until: event_time(query, "until")?,
        };
        if !parsed.stdout && !parsed.stderr {
            return Err(ApiError::bad_request(
                "Bad parameters: you must choose at least one stream",
            ));
        }
        Ok(parsed)
    }
}

/// The content type of a process's output. Until 1.41 it was the same with and without frames.
pub(crate) fn multiplexed_or_raw(tty: bool, version: ApiVersion) -> &'static str {
    if !tty && version.at_least(42) { MULTIPLEXED_STREAM } else { RAW_STREAM }
}

/// `GET /containers/{id}/logs`.
pub(super) async fn logs(
    State(app): State<App>,
    Name(id): Name,
    version: ApiVersion,
    query: Params,
) -> ApiResult {
    let LogQuery { stdout, stderr, follow, timestamps, details, tail, since, until } =
        LogQuery::parse(&query)?;
    let tail = tail.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX));
    let options = LogsOptions { stdout, stderr, follow, timestamps, details, tail, since, until };
    let session = app.engine.container_logs(&id, options).await?;
    let framing = Framing::of_tty(session.tty);
    Ok(streamed(
        multiplexed_or_raw(session.tty, version),
        session.output.map(move |item| framed(item, framing)),
    ))
}
