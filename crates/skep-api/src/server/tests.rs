//! The server with toy operations, spoken to byte by byte: what matters here is what is on the wire.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use bytes::Bytes;
use futures::StreamExt as _;
use skep_engine::{AttachSession, StdStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{ApiService, ListenError, Listener, ServerHeaders, run};
use crate::http::{ApiError, ApiResult, ApiVersion, JsonBody, Params, json};
use crate::stream::{DetachKeys, MULTIPLEXED_STREAM, Takeover, later_json, pump};

const LIMIT: Duration = Duration::from_secs(10);

/// A process that says back what it is told and ends when its input does, or when it reads `bye`.
fn echo(tty: bool) -> AttachSession {
    let (input, mut process) = tokio::io::duplex(64);
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let n = process.read(&mut buffer).await.unwrap();
            if n == 0 {
                sender.send(Ok((StdStream::Stderr, Bytes::from_static(b"end")))).ok();
                return;
            }
            let data = Bytes::copy_from_slice(&buffer[..n]);
            if sender.send(Ok((StdStream::Stdout, data))).is_err() || buffer.starts_with(b"bye") {
                return;
            }
        }
    });
    let output = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    AttachSession { tty, output: output.boxed(), input: Some(Box::pin(input)) }
}

#[derive(Clone, Default)]
struct Toy {
    release: std::sync::Arc<Notify>,
    started: std::sync::Arc<Notify>,
}

fn router(toy: Toy) -> Router {
    async fn attach(query: Params, takeover: Takeover, body: Body) -> ApiResult {
        let session = echo(query.flag("tty"));
        let keys = DetachKeys::parse(query.text("detachKeys"))?;
        Ok(takeover.answer(MULTIPLEXED_STREAM, body, |client| pump(session, client, keys)))
    }
    async fn slow(State(toy): State<Toy>) -> ApiResult {
        toy.started.notify_one();
        toy.release.notified().await;
        json(&"done")
    }
    async fn later(State(toy): State<Toy>) -> ApiResult {
        Ok(later_json(async move {
            toy.release.notified().await;
            serde_json::json!({ "StatusCode": 0 })
        }))
    }
    Router::new()
        .route("/named/{name}", get(|name: axum::extract::Path<String>| async move { name.0 }))
        .route("/version-seen", get(|version: ApiVersion| async move { version.to_string() }))
        .route("/body", post(|JsonBody(body): JsonBody<Vec<u8>>| async move { json(&body) }))
        .route("/attach", post(attach))
        .route("/slow", get(slow))
        .route("/later", get(later))
        .fallback(|| async { ApiError::not_found("page not found").into_response() })
        .with_state(toy)
}

struct Server {
    path: PathBuf,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    toy: Toy,
    _folder: tempfile::TempDir,
}

fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/skep.sock");
    let toy = Toy::default();
    let service = ApiService::new(router(toy.clone()), ServerHeaders::new("skep/1"));
    let shutdown = CancellationToken::new();
    let listener = Listener::unix(&path).unwrap();
    let task = tokio::spawn(run(vec![listener], service, shutdown.clone()));
    Server { path, shutdown, task, toy, _folder: folder }
}

/// Sends a request and reads until the server closes.
async fn exchange(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get_path(path: &Path, target: &str) -> String {
    exchange(path, &format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

/// Reads up to the blank line after the headers.
async fn head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(LIMIT, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn next(stream: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

#[tokio::test]
async fn every_answer_has_the_headers_and_the_version_is_taken_off() {
    let server = server();
    let answer = get_path(&server.path, "/v1.41/version-seen?x=1").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n1.41"), "{answer}");
    assert!(get_path(&server.path, "/version-seen").await.ends_with("\r\n\r\n1.50"));
    for target in ["/v1.41/version-seen", "/nowhere", "/v1.99/version-seen"] {
        let answer = get_path(&server.path, target).await;
        for header in [
            "api-version: 1.50",
            "ostype: linux",
            "docker-experimental: false",
            "server: skep/1 (linux)",
        ] {
            assert!(answer.contains(header), "{header} in {answer}");
        }
    }
}

#[tokio::test]
async fn refusals_are_json_with_dockers_texts() {
    let server = server();
    for (target, status, message) in [
        ("/nowhere", "404 Not Found", "page not found"),
        ("/named/a%00b", "400 Bad Request", "invalid request: a NUL byte (%00)"),
        ("/v1.43/named/a?path=%00", "400 Bad Request", "invalid request: a NUL byte (%00)"),
        ("/named/%ff", "400 Bad Request", "Invalid URL: Invalid UTF-8 in `name`"),
        (
            "/v1.23/info",
            "400 Bad Request",
            "client version 1.23 is too old. Minimum supported API version is 1.24",
        ),
        (
            "/v1.51/info",
            "400 Bad Request",
            "client version 1.51 is too new. Maximum supported API version is 1.50",
        ),
    ] {
        let answer = get_path(&server.path, target).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains(&format!("{{\"message\":\"{message}")), "{answer}");
    }
}

#[tokio::test]
async fn bodies_are_checked() {
    let server = server();
    let send = async |content_type: &str, body: &str| {
        let length = body.len();
        exchange(
            &server.path,
            &format!(
                "POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{content_type}\
                 Content-Length: {length}\r\n\r\n{body}"
            ),
        )
        .await
    };
    const JSON: &str = "Content-Type: application/json\r\n";
    assert!(send(JSON, "[1,2]").await.contains("200 OK"));
    assert!(
        send("Content-Type: application/json; charset=utf-8\r\n", "[1]").await.contains("200 OK")
    );
    let answer = send("Content-Type: text/plain\r\n", "[1]").await;
    assert!(
        answer.contains("unsupported Content-Type header (text/plain): must be 'application/json'"),
        "{answer}"
    );
    assert!(send("", "[1]").await.contains("400 Bad Request"));
    let answer = send(JSON, "[1,\"x\"]").await;
    assert!(
        answer.contains("400 Bad Request") && answer.contains("invalid JSON: [1]: invalid type"),
        "{answer}"
    );
    assert!(send(JSON, "").await.contains("invalid JSON: got EOF while reading request body"));
}

#[tokio::test]
async fn taken_over_connection_is_framed_and_ends_one_way_at_a_time() {
    let server = server();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream
        .write_all(
            b"POST /attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        )
        .await
        .unwrap();
    let head = head(&mut stream).await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    assert!(head.contains("upgrade: tcp") && head.contains("connection: upgrade"), "{head}");
    assert!(head.contains("content-type: application/vnd.docker.multiplexed-stream"), "{head}");
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(next(&mut stream, 13).await, b"\x01\0\0\0\0\0\0\x05hello");
    // The end of input reaches the process, whose answer still comes.
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"\x02\0\0\0\0\0\0\x03end");
}

#[tokio::test]
async fn process_that_ends_closes_the_connection() {
    let server = server();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let request =
        b"POST /attach?tty=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nbye";
    stream.write_all(request).await.unwrap();
    head(&mut stream).await;
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"bye");
}

#[tokio::test]
async fn detach_keys_end_the_connection_and_not_the_process() {
    let server = server();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let request = b"POST /attach?tty=1&detachKeys=ctrl-a,x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    stream.write_all(request).await.unwrap();
    head(&mut stream).await;
    stream.write_all(b"\x01y").await.unwrap();
    assert_eq!(next(&mut stream, 2).await, b"\x01y");
    stream.write_all(b"\x01x").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn without_upgrade_the_output_is_the_body() {
    let server = server();
    let answer = exchange(
        &server.path,
        "POST /attach HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\x01\0\0\0\0\0\0\x02hi"), "{answer:?}");
    assert!(answer.contains("\x02\0\0\0\0\0\0\x03end"), "{answer:?}");
}

#[tokio::test]
async fn headers_come_before_a_body_that_takes_long() {
    let server = server();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream.write_all(b"GET /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    server.toy.release.notify_one();
    let mut rest = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.contains(r#"{"StatusCode":0}"#), "{rest}");
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_removes_the_socket() {
    let server = server();
    let path = server.path.clone();
    let request = tokio::spawn(async move { get_path(&path, "/slow").await });
    server.toy.started.notified().await;
    server.shutdown.cancel();
    server.toy.release.notify_one();
    assert!(request.await.unwrap().contains("\"done\""));
    tokio::time::timeout(LIMIT, server.task).await.unwrap().unwrap();
    assert!(!server.path.exists());
}

#[tokio::test]
async fn endless_requests_do_not_hold_up_shutdown() {
    let server = server();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream.write_all(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    head(&mut stream).await;
    server.shutdown.cancel();
    tokio::time::timeout(super::GRACE * 3, server.task).await.unwrap().unwrap();
    // The body is cut off without its end.
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap().ok();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn sockets_are_private_and_never_taken_from_a_living_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let first = Listener::unix(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(matches!(Listener::unix(&path), Err(ListenError::InUse(_))));
    // Also if nothing is ever served: what was made is removed, and nothing else.
    drop(first);
    assert!(!path.exists());
    let second = Listener::unix(&path).unwrap();
    std::fs::rename(&path, folder.path().join("aside")).unwrap();
    std::fs::write(&path, "x").unwrap();
    drop(second);
    assert_eq!(std::fs::read(&path).unwrap(), b"x");
    std::fs::remove_file(&path).unwrap();
    // What a daemon that was killed left is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    Listener::unix(&path).unwrap();
    let file = folder.path().join("f");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(Listener::unix(&file), Err(ListenError::NotASocket(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
}

#[tokio::test]
async fn plain_tcp_is_for_loopback_alone() {
    let refused = Listener::tcp("0.0.0.0:0".parse().unwrap()).await;
    assert!(matches!(refused, Err(ListenError::Insecure(_))));
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.tcp_address().unwrap();
    assert_ne!(address.port(), 0);
    let warning = listener.warning().unwrap();
    let begin = format!("WARNING: API is accessible on http://{address} without encryption.\n");
    assert!(warning.starts_with(&begin), "{warning}");

    // Web pages are kept out, clients are not.
    let service = ApiService::new(router(Toy::default()), ServerHeaders::new("skep/1"));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(vec![listener], service, shutdown.clone()));
    for (host, origin, status) in [
        (address.to_string().as_str(), "", "200 OK"),
        ("localhost", "", "200 OK"),
        ("evil.example", "", "403 Forbidden"),
        ("localhost", "Origin: http://evil.example\r\n", "403 Forbidden"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /version-seen HTTP/1.1\r\nHost: {host}\r\n{origin}Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{host} {answer}");
    }
    shutdown.cancel();
    tokio::time::timeout(LIMIT, task).await.unwrap().unwrap();
    // On a socket that only root and its group can open, a name says nothing.
    let server = server();
    let request = "GET /version-seen HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(exchange(&server.path, request).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn who_is_answered_early_can_send_on() {
    let (client, stream) = tokio::io::duplex(1024);
    let service = ApiService::new(router(Toy::default()), ServerHeaders::new("skep/1"));
    let connection = super::connection::serve_connection(stream, service, CancellationToken::new());
    let serving = tokio::spawn(connection);
    let (mut answers, mut asks) = tokio::io::split(client);
    let body = vec![b'x'; 1 << 20];
    let asking = async {
        let head =
            format!("PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        asks.write_all(head.as_bytes()).await?;
        asks.write_all(&body).await?;
        asks.write_all(b"GET /version-seen HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await
    };
    let mut said = String::new();
    let (asked, read) = tokio::join!(asking, answers.read_to_string(&mut said));
    asked.unwrap();
    read.unwrap();
    assert!(said.starts_with("HTTP/1.1 404"), "{said}");
    assert!(said.contains("HTTP/1.1 200"), "the connection is of use for more: {said}");
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_ends_the_connection() {
    let (mut client, stream) = tokio::io::duplex(1024);
    let service = ApiService::new(router(Toy::default()), ServerHeaders::new("skep/1"));
    let connection = super::connection::serve_connection(stream, service, CancellationToken::new());
    let serving = tokio::spawn(connection);
    client.write_all(b"GET /version-seen HTTP/1.1\r\nHost: x\r\nX-Slow:").await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(3600), client.read_to_end(&mut answer));
    ended.await.expect("the server gives up").unwrap();
    serving.await.unwrap();
}
