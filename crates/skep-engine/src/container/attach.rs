//! Joining a container's streams, before or after its start.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use skep_container::{AttachOptions as ShimOptions, AttachStdin, Handle, Size};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use super::cell::{Container, PendingAttach};
use super::watch::Phase;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::options::{AttachOptions, AttachSession, InputWriter, LogsOptions, OutputStream};

/// Chunks of input that wait for a container to be started.
const INPUT_AHEAD: usize = 16;

impl Engine {
    /// Attaches to a container. Before its start the session waits for it and misses nothing; it ends
    /// with the run.
    ///
    /// # Errors
    /// `Conflict` when it is paused or about to be removed.
    pub async fn container_attach(
        &self,
        container: &str,
        options: AttachOptions,
    ) -> Result<AttachSession> {
        let c = self.inner.containers.find(container)?;
        match c.phase() {
            Phase::Paused => {
                return Err(EngineError::Conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    c.id
                )));
            }
            Phase::Restarting => {
                return Err(EngineError::Conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    c.id
                )));
            }
            Phase::Removing | Phase::Dead => {
                return Err(EngineError::Conflict(format!(
                    "container {} is marked for removal",
                    c.id
                )));
            }
            Phase::Created | Phase::Running | Phase::Exited => {}
        }
        let (tty, has_stdin) = c.read(|r| (r.tty(), r.config.open_stdin.unwrap_or(false)));
        let wanted = ShimOptions {
            stdin: options.stdin && has_stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let (output, input) = if options.stream {
            self.live_streams(&c, wanted).await?
        } else {
            (futures::stream::empty().boxed(), None)
        };
        let output = if options.logs {
            let logs = LogsOptions {
                stdout: options.stdout,
                stderr: options.stderr,
                ..LogsOptions::default()
            };
            self.logs_of(&c, logs)?.output.chain(output).boxed()
        } else {
            output
        };
        self.container_event(&c, "attach", &[]);
        Ok(AttachSession { tty, output, input })
    }

    async fn live_streams(
        &self,
        c: &Arc<Container>,
        wanted: ShimOptions,
    ) -> Result<(OutputStream, Option<InputWriter>)> {
        // Under the lock, so that a start is either over or will serve this client.
        let attached = {
            let _op = c.op.lock().await;
            c.reachable()?;
            match c.handle().filter(|_| c.phase().is_running()) {
                Some(handle) => Ok(handle.attach(wanted).await?),
                None => {
                    let (reply, waiting) = oneshot::channel();
                    c.live(|l| {
                        // Those whose client has gone need no serving.
                        l.pending.retain(|p| !p.reply.is_closed());
                        l.pending.push(PendingAttach { options: wanted, reply });
                    });
                    Err(waiting)
                }
            }
        };
        match attached {
            Ok(attached) => {
                let input = wanted.stdin.then(|| Box::pin(attached.stdin) as InputWriter);
                Ok((output_of(attached.output), input))
            }
            Err(waiting) => {
                let (sender, receiver) = mpsc::channel(INPUT_AHEAD);
                let (give, given) = oneshot::channel();
                // A task of its own: input must flow even while nobody reads the output.
                tokio::spawn(async move {
                    if let Ok(attached) = waiting.await {
                        // A client that has gone meanwhile needs no output.
                        drop(give.send(attached.output));
                        feed(attached.stdin, receiver).await;
                    }
                });
                let output = futures::stream::once(async move {
                    match given.await {
                        Ok(output) => output_of(output),
                        Err(_) => futures::stream::empty().boxed(),
                    }
                })
                .flatten();
                let input = wanted.stdin.then(|| {
                    Box::pin(PendingInput {
                        sender: Some(tokio_util::sync::PollSender::new(sender)),
                    }) as InputWriter
                });
                Ok((output.boxed(), input))
            }
        }
    }

    /// Gives clients that attached early their streams; right before the process runs.
    pub(crate) async fn serve_pending(&self, c: &Arc<Container>, handle: &Handle) {
        for pending in c.live(|l| std::mem::take(&mut l.pending)) {
            if pending.reply.is_closed() {
                continue;
            }
            match handle.attach(pending.options).await {
                // A client that has gone meanwhile detaches by this drop.
                Ok(attached) => drop(pending.reply.send(attached)),
                Err(error) => {
                    tracing::warn!(
                        container = c.id,
                        error = &error as &dyn std::error::Error,
                        "could not attach a waiting client"
                    );
                }
            }
        }
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// `NotRunning`.
    pub async fn container_resize(&self, container: &str, size: Size) -> Result<()> {
        let c = self.inner.containers.find(container)?;
        self.running_handle(&c)?.resize(size).await?;
        let (height, width) = (size.rows.to_string(), size.cols.to_string());
        self.container_event(&c, "resize", &[("height", &height), ("width", &width)]);
        Ok(())
    }
}

fn output_of(output: skep_container::OutputStream) -> OutputStream {
    output
        .map(|r| r.map_err(|e| EngineError::system("could not read the container's output", e)))
        .boxed()
}

/// Passes early input on once there is a process to take it.
async fn feed(mut stdin: AttachStdin, mut input: mpsc::Receiver<Option<Bytes>>) {
    while let Some(chunk) = input.recv().await {
        let done = match chunk {
            Some(bytes) => stdin.write_all(&bytes).await,
            None => stdin.shutdown().await,
        };
        if done.is_err() {
            // The process has ended; its output says so as well.
            return;
        }
    }
}

/// Input of a client that attached before the start. `None` in the channel is the end of input.
struct PendingInput {
    sender: Option<tokio_util::sync::PollSender<Option<Bytes>>>,
}

impl PendingInput {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        item: Option<Bytes>,
    ) -> Poll<std::io::Result<()>> {
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let Some(sender) = &mut self.sender else { return Poll::Ready(Err(broken())) };
        match std::task::ready!(sender.poll_reserve(cx)) {
            Ok(()) => Poll::Ready(sender.send_item(item).map_err(|_| broken())),
            Err(_) => Poll::Ready(Err(broken())),
        }
    }
}

impl tokio::io::AsyncWrite for PendingInput {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let item = Some(Bytes::copy_from_slice(data));
        this.poll_send(cx, item).map_ok(|()| data.len())
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.sender.is_none() {
            return Poll::Ready(Ok(()));
        }
        let sent = std::task::ready!(this.poll_send(cx, None));
        this.sender = None;
        Poll::Ready(sent.or(Ok(())))
    }
}
