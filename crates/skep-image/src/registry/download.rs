//! Layers, each downloaded once at a time, resumed when the connection breaks.

use std::sync::{Arc, PoisonError, Weak};

use http::{Method, StatusCode, header};
use tokio::{io::AsyncWriteExt, sync::watch};

use super::{
    Registry, RegistryError,
    running::{Download, Stage},
    session::{Answer, Ask, Session},
};
use crate::{
    digest::{Digest, Hasher},
    error::{Error, Result, Shared},
    manifest::Descriptor,
    space,
    store::Work,
};

impl Registry {
    /// Joins the download of a blob, or starts it. `true`: it was started here, with this session's
    /// credentials.
    pub(super) fn download(
        &self,
        session: &Arc<Session>,
        blob: &Descriptor,
    ) -> Result<(Arc<Download>, bool)> {
        let mut running = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, download| download.strong_count() > 0);
        if let Some(download) = running.get(&blob.digest).and_then(Weak::upgrade)
            && !matches!(*download.stage.borrow(), Stage::Failed(_))
        {
            return Ok((download, false));
        }
        let work = Work::start(&session.inner)?;
        let (report, stage) = watch::channel(Stage::Waiting);
        let (session, wanted) = (Arc::clone(session), blob.clone());
        let task = tokio::spawn(async move {
            let result = fetch(&session, &wanted, &work, &report).await;
            let last = match result {
                Ok(()) => Stage::Done,
                Err(error) => Stage::Failed(Shared(Arc::new(error))),
            };
            report.send_replace(last);
            // Until nobody watches, the blob is kept by this operation's pin.
            report.closed().await;
        });
        let download = Arc::new(Download { stage, task: task.abort_handle() });
        running.insert(blob.digest, Arc::downgrade(&download));
        Ok((download, true))
    }
}

async fn fetch(
    session: &Session,
    blob: &Descriptor,
    work: &Work,
    report: &watch::Sender<Stage>,
) -> Result<()> {
    if work.pin_blob(blob.digest).is_some() {
        return Ok(());
    }
    let _slot =
        session.inner.registry.download_slots.acquire().await.map_err(|_| Error::Cancelled)?;
    check_space(session, blob)?;
    let (file, path) = work.scratch_file()?;
    let mut part = Part { file: tokio::fs::File::from_std(file), hasher: Hasher::new(), done: 0 };
    let retry = session.inner.settings.retry;
    let (mut failures, mut pause) = (0, retry.first_pause);
    loop {
        let before = part.done;
        match part.run(session, blob, report).await {
            Ok(()) => break,
            Err(error) if error.is_passing() => {
                if part.done > before {
                    (failures, pause) = (0, retry.first_pause);
                }
                failures += 1;
                if failures >= error.attempts(retry.attempts) {
                    return Err(error.into());
                }
                let error = skep_types::report(&error);
                tracing::info!(blob = %blob.digest, done = part.done, error, "download interrupted, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(retry.longest_pause);
            }
            Err(error) => return Err(error.into()),
        }
    }
    report.send_replace(Stage::Verifying);
    part.file.flush().await.map_err(RegistryError::Scratch)?;
    let actual: Digest = part.hasher.finish();
    if actual != blob.digest {
        let what = "filesystem layer".into();
        return Err(RegistryError::Digest { what, expected: blob.digest, actual }.into());
    }
    work.publish(&path, blob.digest, blob.size)
}

/// What is there of a blob.
struct Part {
    file: tokio::fs::File,
    hasher: Hasher,
    done: u64,
}

impl Part {
    /// One connection's worth. `Ok` when all bytes are there.
    async fn run(
        &mut self,
        session: &Session,
        blob: &Descriptor,
        report: &watch::Sender<Stage>,
    ) -> Result<(), RegistryError> {
        let url = session.url(&format!("blobs/{}", blob.digest));
        let mut ask = Ask::new(Method::GET, url.as_str());
        if self.done > 0 {
            ask = ask.header(header::RANGE, &format!("bytes={}-", self.done));
        }
        let answer = session.send(ask).await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(&answer, self.done) => {}
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
                if self.done > 0 =>
            {
                // It does not resume. Start again.
                self.restart().await?;
                if answer.status() != StatusCode::OK {
                    return Err(RegistryError::Broken { url, source: "it cannot resume".into() });
                }
            }
            StatusCode::OK => {}
            _ => return Err(session.failure(answer).await),
        }
        let mut body = answer.response.into_body();
        while let Some(chunk) = session.chunk(&mut body, &url).await? {
            let done = self.done + chunk.len() as u64;
            if done > blob.size {
                let what = format!("layer {}", blob.digest);
                return Err(RegistryError::Size { what, expected: blob.size, actual: done });
            }
            self.file.write_all(&chunk).await.map_err(RegistryError::Scratch)?;
            self.hasher.update(&chunk);
            self.done = done;
            report.send_replace(Stage::Running(done));
        }
        if self.done < blob.size {
            let source = format!("{} of {} bytes came", self.done, blob.size).into();
            return Err(RegistryError::Broken { url, source });
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), RegistryError> {
        use tokio::io::AsyncSeekExt;
        self.file.flush().await.map_err(RegistryError::Scratch)?;
        self.file.set_len(0).await.map_err(RegistryError::Scratch)?;
        self.file.rewind().await.map_err(RegistryError::Scratch)?;
        (self.hasher, self.done) = (Hasher::new(), 0);
        Ok(())
    }
}

/// `Content-Range: bytes <first>-<last>/<size>`.
fn starts_at(answer: &Answer, offset: u64) -> bool {
    let range = answer.header(header::CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
    range.and_then(|range| range.split('-').next()?.trim().parse::<u64>().ok()) == Some(offset)
}

fn check_space(session: &Session, blob: &Descriptor) -> Result<(), RegistryError> {
    let root = std::fs::File::open(session.inner.files.root()).map_err(RegistryError::Scratch)?;
    let room = space::check(root, blob.size, &session.inner.settings.limits);
    Ok(room.map_err(|e| RegistryError::Scratch(e.into()))??)
}
