//! whoami: a service for demos and tests that says which container answered and whom it saw.
//!
//! HTTP/1.1 with keep-alive on TCP and one datagram for one on UDP, both on `PORT` (default 8000).
//! `/` answers `I'm HOSTNAME`; `/client` the peer's address; `/full` both; `/slow?MS` answers after
//! that many milliseconds; `/health` is 503 while the file `/unhealthy` exists. On SIGTERM it finishes
//! what it has, tells keep-alive clients to go, and exits.

mod http;
mod udp;

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long open connections may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(8);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whoami: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let port = match std::env::var("PORT") {
        Ok(text) => {
            text.parse().map_err(|_| io::Error::other(format!("PORT is no port: {text}")))?
        }
        Err(_) => 8000,
    };
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    let draining = Arc::new(AtomicBool::new(false));
    let open = Arc::new(AtomicUsize::new(0));

    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let listener =
        TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    udp::serve(port, name.clone())?;
    println!("listening on port {port} as {name}");

    let service = http::Service::new(name, Arc::clone(&draining), Arc::clone(&open));
    std::thread::spawn(move || service.accept(&listener));

    signals.forever().next();
    draining.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + DRAIN;
    while open.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("stopped with {} connections open", open.load(Ordering::SeqCst));
    Ok(())
}
