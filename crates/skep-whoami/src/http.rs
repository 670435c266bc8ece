use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// For how long a connection may be idle after SIGTERM before it is closed: a client that goes on at
/// once is told to go with its answer, and none is cut off between its request and the answer.
const IDLE: Duration = Duration::from_secs(1);

/// The HTTP side: a thread for each connection, which is plenty for a demo.
#[derive(Clone)]
pub struct Service {
    name: String,
    draining: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
}

struct Answer {
    status: &'static str,
    body: String,
}

impl Service {
    pub fn new(name: String, draining: Arc<AtomicBool>, open: Arc<AtomicUsize>) -> Self {
        Self { name, draining, open }
    }

    /// Accepts for ever.
    pub fn accept(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    let service = self.clone();
                    self.open.fetch_add(1, Ordering::SeqCst);
                    std::thread::spawn(move || {
                        if let Err(error) = service.converse(stream) {
                            eprintln!("connection: {error}");
                        }
                        service.open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
                Err(error) => eprintln!("accept: {error}"),
            }
        }
    }

    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        // An idle client must notice a drain soon.
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let peer = match stream.peer_addr()?.ip() {
            IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
            ip => ip,
        };
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some((path, keep)) = self.request(&mut reader)? {
            let answer = self.answer(&path, peer);
            let keep = keep && !self.draining.load(Ordering::SeqCst);
            let text = format!(
                "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n{}",
                answer.status,
                answer.body.len(),
                if keep { "keep-alive" } else { "close" },
                answer.body
            );
            stream.write_all(text.as_bytes())?;
            if !keep {
                break;
            }
        }
        Ok(())
    }

    /// Path and whether the client wants to go on; `None` at the end of the connection.
    fn request(&self, reader: &mut BufReader<TcpStream>) -> io::Result<Option<(String, bool)>> {
        let mut first = String::new();
        if !self.line(reader, &mut first)? {
            return Ok(None);
        }
        let mut words = first.split_whitespace();
        let path = words.nth(1).unwrap_or("/").to_owned();
        let mut keep = words.next() != Some("HTTP/1.0");
        loop {
            let mut header = String::new();
            if !self.line(reader, &mut header)? {
                return Ok(None);
            }
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                return Ok(Some((path, keep)));
            }
            if let Some(value) = header.strip_prefix("connection:") {
                keep = value.trim() == "keep-alive" || (keep && value.trim() != "close");
            }
        }
    }

    /// Reads a line; false at the end of the stream, or when draining finds the client idle.
    fn line(&self, reader: &mut BufReader<TcpStream>, line: &mut String) -> io::Result<bool> {
        let mut waiting_since = None;
        loop {
            match reader.read_line(line) {
                Ok(count) => return Ok(count > 0),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    if line.is_empty() && self.draining.load(Ordering::SeqCst) {
                        let since = *waiting_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= IDLE {
                            return Ok(false);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&self, path: &str, peer: IpAddr) -> Answer {
        let ok = |body| Answer { status: "200 OK", body };
        match path.split_once('?').unwrap_or((path, "")) {
            ("/client", _) => ok(format!("{peer}\n")),
            ("/full", _) => ok(format!("I'm {} and you are {peer}\n", self.name)),
            ("/slow", millis) => {
                std::thread::sleep(Duration::from_millis(millis.parse().unwrap_or(1000)));
                ok(format!("I'm {}, slowly\n", self.name))
            }
            ("/health", _) if Path::new("/unhealthy").exists() => {
                Answer { status: "503 Service Unavailable", body: "unhealthy\n".to_owned() }
            }
            ("/" | "/health", _) => ok(format!("I'm {}\n", self.name)),
            _ => Answer { status: "404 Not Found", body: format!("nothing at {path}\n") },
        }
    }
}
