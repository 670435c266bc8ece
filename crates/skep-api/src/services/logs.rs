use std::fmt::Write as _;

use axum::extract::State;
use bytes::Bytes;
use futures::StreamExt as _;
use skep_manager::{Control, LogMessage, LogOptions, LogSelector, LogStream};
use skep_types::Timestamp;

use crate::backend::App;
use crate::containers::{LogQuery, multiplexed_or_raw};
use crate::http::{ApiResult, ApiVersion, Name, Params};
use crate::stream::{BrokenOff, Channel, frame, streamed};

/// `GET /services/{id}/logs`.
pub(super) async fn logs(
    State(app): State<App>,
    Name(id): Name,
    version: ApiVersion,
    query: Params,
) -> ApiResult {
    let control = app.control()?;
    let service = control.get_service(&id, false).await?;
    let tty =
        service.spec.task_template.container_spec.as_ref().is_some_and(|container| container.tty);
    let selector = LogSelector { services: vec![service.id.into()], ..LogSelector::default() };
    swarm_logs(&control, selector, &query, tty, version).await
}

/// Logs of services or tasks from wherever they run.
pub(crate) async fn swarm_logs(
    control: &Control,
    selector: LogSelector,
    query: &Params,
    tty: bool,
    version: ApiVersion,
) -> ApiResult {
    let query = LogQuery::parse(query)?;
    let mut streams = Vec::new();
    if query.stdout {
        streams.push(LogStream::Stdout);
    }
    if query.stderr {
        streams.push(LogStream::Stderr);
    }
    let options = LogOptions {
        streams,
        follow: query.follow,
        tail: query.tail,
        since: query.since.map(Timestamp::new),
    };
    let messages = control.logs(selector, options).await?;
    let (timestamps, details) = (query.timestamps, query.details);
    let bytes = messages.map(move |message| {
        let message = match message {
            Ok(message) => message,
            // In the stream the client shows the reason; a stream that breaks off shows none.
            Err(error) => {
                let text = format!("Error grabbing logs: {error}\n");
                let text = text.as_bytes();
                return Ok(if tty {
                    Bytes::copy_from_slice(text)
                } else {
                    frame(Channel::System, text)
                });
            }
        };
        let line = line(&message, timestamps, details);
        Ok::<Bytes, BrokenOff>(match (tty, message.stream) {
            (true, _) => line.into(),
            (false, LogStream::Stdout) => frame(Channel::Stdout, &line),
            (false, LogStream::Stderr) => frame(Channel::Stderr, &line),
        })
    });
    Ok(streamed(multiplexed_or_raw(tty, version), bytes))
}

/// A message with what was asked to stand before it: time, then details.
fn line(message: &LogMessage, timestamps: bool, details: bool) -> Vec<u8> {
    let mut head = String::new();
    if timestamps {
        head.push_str(&fixed_width(message.timestamp));
        head.push(' ');
    }
    if details {
        // The task is told by three attributes, by which `docker service logs` finds its name.
        let context = [
            ("com.docker.swarm.node.id", message.node_id.as_str()),
            ("com.docker.swarm.service.id", message.service_id.as_str()),
            ("com.docker.swarm.task.id", message.task_id.as_str()),
        ];
        let own = message.attrs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let own = own.filter(|(key, _)| context.iter().all(|(taken, _)| taken != key));
        let mut all: Vec<(&str, &str)> = context.into_iter().chain(own).collect();
        all.sort_unstable();
        for (at, (key, value)) in all.into_iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(head, "{comma}{}={}", escape(key), escape(value));
        }
        head.push(' ');
    }
    let mut line = head.into_bytes();
    line.extend_from_slice(&message.data);
    line
}

/// RFC 3339 with all nine decimals, so that lines align.
fn fixed_width(time: Timestamp) -> String {
    let text = time.to_string();
    let seconds = text.split_once(['.', 'Z']).map_or(text.as_str(), |(seconds, _)| seconds);
    format!("{seconds}.{:09}Z", time.subsec_nanos())
}

/// Form encoding, as the client undoes it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            b' ' => out.push('+'),
            other => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> LogMessage {
        LogMessage {
            service_id: "s".into(),
            node_id: "n".into(),
            task_id: "t".into(),
            timestamp: Timestamp::from_unix(1_600_000_000, 120_000_000).unwrap(),
            stream: LogStream::Stdout,
            data: b"hello\n".to_vec(),
            attrs: [("env".to_owned(), "a b,c".to_owned())].into(),
        }
    }

    #[test]
    fn heads_are_what_the_client_takes_apart() {
        assert_eq!(line(&message(), false, false), b"hello\n");
        let full = String::from_utf8(line(&message(), true, true)).unwrap();
        assert_eq!(
            full,
            "2020-09-13T12:26:40.120000000Z com.docker.swarm.node.id=n,com.docker.swarm.service.id=s,\
             com.docker.swarm.task.id=t,env=a+b%2Cc hello\n"
        );
    }
}
