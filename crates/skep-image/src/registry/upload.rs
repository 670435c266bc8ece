//! Blobs to a registry: known ones are skipped, shared ones mounted, broken uploads resumed.

use std::{
    io::{self, Seek, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use futures::stream;
use http::{HeaderName, Method, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, BufReader};

use super::{
    RegistryError,
    connect::Body,
    push::denied,
    session::{Ask, Session},
    url,
};
use crate::{digest::Digest, manifest::Descriptor, progress::Progress};

const CHUNK: usize = 64 << 10;
const TICK: Duration = Duration::from_millis(100);

/// Called with the bytes sent so far.
type Report<'a> = &'a (dyn Fn(u64) + Send + Sync);

impl Session {
    /// Brings a layer there in the cheapest way.
    pub(super) async fn upload_layer(
        &self,
        blob: &Descriptor,
        path: &Path,
        short: &str,
        sources: &[String],
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        progress.status(short, "Waiting");
        let slot = self.inner.registry.upload_slots.acquire().await;
        let _slot = slot.map_err(|_| RegistryError::Timeout("an upload slot".into()))?;
        if self.has_blob(&blob.digest).await? {
            progress.status(short, "Layer already exists");
            return Ok(());
        }
        for source in sources {
            if self.mount(&blob.digest, source).await? {
                progress.status(short, format!("Mounted from {source}"));
                return Ok(());
            }
        }
        let last = std::sync::Mutex::new(None::<Instant>);
        let report = |sent: u64| {
            let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if sent == blob.size || last.is_none_or(|last| last.elapsed() >= TICK) {
                *last = Some(Instant::now());
                progress.bytes(short, "Pushing", sent, Some(blob.size));
            }
        };
        self.send_blob(blob, path, &report).await?;
        progress.status(short, "Pushed");
        Ok(())
    }

    /// Uploads a blob unless the registry has it.
    pub(super) async fn upload_blob(
        &self,
        blob: &Descriptor,
        path: &Path,
        report: Report<'_>,
    ) -> Result<(), RegistryError> {
        if self.has_blob(&blob.digest).await? {
            Ok(())
        } else {
            self.send_blob(blob, path, report).await
        }
    }

    async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let answer =
            self.send(Ask::new(Method::HEAD, self.url(&format!("blobs/{digest}")))).await?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(denied(self.failure(answer).await)),
        }
    }

    /// Asks for a blob of another repository. `false`: it has to be sent.
    async fn mount(&self, digest: &Digest, from: &str) -> Result<bool, RegistryError> {
        let target = url::with(&self.url("blobs/uploads/"), "mount", &digest.to_string());
        let answer = self.send(Ask::new(Method::POST, url::with(&target, "from", from))).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                // An upload was opened instead; it is not needed.
                if let Ok(location) = answer.location()
                    && let Err(error) = self.send(Ask::new(Method::DELETE, location)).await
                {
                    tracing::debug!(%error, "cannot close an unneeded upload");
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    async fn send_blob(
        &self,
        blob: &Descriptor,
        path: &Path,
        report: Report<'_>,
    ) -> Result<(), RegistryError> {
        let answer = self.send(Ask::new(Method::POST, self.url("blobs/uploads/"))).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(denied(self.failure(answer).await));
        }
        let mut location = answer.location()?;
        let retry = self.inner.settings.retry;
        let (mut sent, mut failures, mut pause) = (0, 0, retry.first_pause);
        while sent < blob.size {
            match self.send_rest(&location, blob, path, sent, report).await {
                Ok(next) => {
                    location = next;
                    break;
                }
                Err(error)
                    if error.is_passing() && failures + 1 < error.attempts(retry.attempts) =>
                {
                    failures += 1;
                    let text = skep_types::report(&error);
                    tracing::info!(blob = %blob.digest, sent, error = text, "upload interrupted, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(retry.longest_pause);
                    let (at, next) = self.progress_of(&location).await?;
                    if at > sent {
                        (failures, pause) = (0, retry.first_pause);
                    }
                    (sent, location) = (at.min(blob.size), next);
                }
                Err(error) => return Err(error),
            }
        }
        let close = Ask::new(Method::PUT, url::with(&location, "digest", &blob.digest.to_string()));
        let answer =
            self.send(close.header(header::CONTENT_TYPE, "application/octet-stream")).await?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(denied(self.failure(answer).await)),
        }
    }

    /// Sends everything from `offset` on; where to go on.
    async fn send_rest(
        &self,
        location: &str,
        blob: &Descriptor,
        path: &Path,
        offset: u64,
        report: Report<'_>,
    ) -> Result<String, RegistryError> {
        // The request's body outlives this borrow, so counts come back through a channel.
        let (count, counts) = std::sync::mpsc::channel::<u64>();
        let make = || Ok((file_body(path, offset, blob.size, count.clone())?, blob.size - offset));
        let mut ask = Ask::new(Method::PATCH, location)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(&make);
        if offset > 0 {
            ask = ask.header(header::CONTENT_RANGE, &format!("{offset}-{}", blob.size - 1));
        }
        let mut send = std::pin::pin!(self.send(ask));
        let mut tick = tokio::time::interval(TICK);
        let answer = loop {
            tokio::select! {
                answer = &mut send => break answer?,
                _ = tick.tick() => {
                    if let Some(sent) = counts.try_iter().last() {
                        report(sent);
                    }
                }
            }
        };
        match answer.status() {
            StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::NO_CONTENT => {
                answer.location()
            }
            _ => Err(denied(self.failure(answer).await)),
        }
    }

    /// How much of an upload has arrived, and where to go on.
    async fn progress_of(&self, location: &str) -> Result<(u64, String), RegistryError> {
        const RANGE: HeaderName = header::RANGE;
        let answer = self.send(Ask::new(Method::GET, location)).await?;
        if !answer.status().is_success() {
            return Err(self.failure(answer).await);
        }
        // `Range: 0-<last>`; an empty upload has `0-0`, as has one of a single byte: sending that
        // byte again does no harm, skipping it would.
        let last =
            answer.header(RANGE).and_then(|range| range.rsplit_once('-')?.1.parse::<u64>().ok());
        let next = answer.location().unwrap_or_else(|_| location.to_owned());
        Ok((last.filter(|last| *last > 0).map_or(0, |last| last + 1), next))
    }
}

/// The bytes of a file from `offset` to `end`.
fn file_body(
    path: &Path,
    offset: u64,
    end: u64,
    count: std::sync::mpsc::Sender<u64>,
) -> io::Result<Body> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let reader = BufReader::with_capacity(256 << 10, tokio::fs::File::from_std(file));
    let frames =
        stream::try_unfold((reader, offset, count), move |(mut reader, at, count)| async move {
            if at >= end {
                return Ok(None);
            }
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let mut chunk = BytesMut::with_capacity(want);
            let n = (&mut reader).take(want as u64).read_buf(&mut chunk).await?;
            if n == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a file of the image store has shrunk",
                ));
            }
            let at = at + n as u64;
            // The other end leaves with the request.
            let _gone = count.send(at);
            Ok::<_, io::Error>(Some((Frame::data(chunk.freeze()), (reader, at, count))))
        });
    Ok(BodyExt::boxed(StreamBody::new(frames)))
}
