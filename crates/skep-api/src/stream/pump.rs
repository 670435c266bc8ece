use std::io;

use futures::StreamExt as _;
use skep_engine::{AttachSession, InputWriter, OutputStream, StdStream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Channel, DetachKeys, Duplex, frame};

/// Bytes read from a client at a time.
const CHUNK: usize = 32 << 10;

/// How output is put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As the terminal wrote it.
    Raw,
    /// With the eight-byte header that tells stdout from stderr.
    Multiplexed,
}

impl Framing {
    pub fn of_tty(tty: bool) -> Self {
        if tty { Self::Raw } else { Self::Multiplexed }
    }
}

/// Carries bytes between a client and a process until the output ends, the client leaves or types the
/// detach keys. The end of the client's input is passed on, and output goes on after it.
pub(crate) async fn pump(session: AttachSession, client: Duplex, keys: DetachKeys) {
    let AttachSession { tty, output, input } = session;
    let Duplex { reader, writer } = client;
    let inward = async {
        let end = match input {
            Some(input) if tty => copy_terminal(reader, input, &keys).await,
            Some(input) => copy_input(reader, input).await,
            None => discard(reader).await,
        };
        match end {
            // Keeps the session open: only its input has ended.
            Ok(InputEnd::Eof) => std::future::pending::<()>().await,
            Ok(InputEnd::Detached) => {}
            Err(error) => tracing::debug!(%error, "client's input broke off"),
        }
    };
    let outward = async {
        if let Err(error) = copy_output(output, writer, Framing::of_tty(tty)).await {
            tracing::debug!(%error, "client left before the output ended");
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

enum InputEnd {
    Eof,
    Detached,
}

async fn copy_output(
    mut output: OutputStream,
    mut writer: impl AsyncWrite + Unpin,
    framing: Framing,
) -> io::Result<()> {
    while let Some(item) = output.next().await {
        let bytes = match (item, framing) {
            (Ok((_, data)), Framing::Raw) => data,
            (Ok((stream, data)), Framing::Multiplexed) => frame(channel(stream), &data),
            (Err(error), framing) => {
                let text = format!("{}\n", error.report());
                let bytes = match framing {
                    Framing::Raw => text.into_bytes().into(),
                    Framing::Multiplexed => frame(Channel::System, text.as_bytes()),
                };
                writer.write_all(&bytes).await?;
                break;
            }
        };
        writer.write_all(&bytes).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

pub(super) fn channel(stream: StdStream) -> Channel {
    match stream {
        StdStream::Stderr => Channel::Stderr,
        _ => Channel::Stdout,
    }
}

async fn copy_input(
    mut reader: impl AsyncRead + Unpin,
    mut input: InputWriter,
) -> io::Result<InputEnd> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = reader.read(&mut buffer).await?;
        if n == 0 {
            ended(input.shutdown().await);
            return Ok(InputEnd::Eof);
        }
        if gone(input.write_all(&buffer[..n]).await) {
            return discard(reader).await;
        }
    }
}

async fn copy_terminal(
    mut reader: impl AsyncRead + Unpin,
    mut input: InputWriter,
    keys: &DetachKeys,
) -> io::Result<InputEnd> {
    let mut buffer = vec![0; CHUNK];
    let mut passed = Vec::with_capacity(CHUNK);
    let mut matcher = keys.matcher();
    loop {
        let n = reader.read(&mut buffer).await?;
        if n == 0 {
            if !gone(input.write_all(matcher.rest()).await) {
                ended(input.shutdown().await);
            }
            return Ok(InputEnd::Eof);
        }
        passed.clear();
        let detach = matcher.feed(&buffer[..n], &mut passed);
        if gone(input.write_all(&passed).await) {
            return discard(reader).await;
        }
        if detach {
            return Ok(InputEnd::Detached);
        }
    }
}

/// Reads until the client stops sending: a process without input must not stall its client.
async fn discard(mut reader: impl AsyncRead + Unpin) -> io::Result<InputEnd> {
    let mut buffer = vec![0; CHUNK];
    while reader.read(&mut buffer).await? != 0 {}
    Ok(InputEnd::Eof)
}

/// True if the process closed its input or has ended: no reason to stop showing its output.
fn gone(result: io::Result<()>) -> bool {
    match result {
        Ok(()) => false,
        Err(error) => {
            tracing::debug!(%error, "process takes no more input");
            true
        }
    }
}

fn ended(result: io::Result<()>) {
    gone(result);
}
