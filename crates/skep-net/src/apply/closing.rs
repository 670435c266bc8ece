//! Closes netfilter sockets later. While rules that a transaction removed are still being taken apart, which takes a
//! grace period of the kernel's (some ten milliseconds), closing any netfilter socket of the namespace waits for it
//! (`nft_rcv_nl_event` in `net/netfilter/nf_tables_api.c`). A change in hundreds of containers would wait hundreds of
//! times.

use rtnetlink::sys::Socket;
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How long a socket stays open: several grace periods. What is not over by then only this thread waits for.
const LINGER: Duration = Duration::from_millis(100);

type Closing = (Instant, Socket);

/// One for the process, as descriptors are.
static CLOSER: LazyLock<Option<Sender<Closing>>> = LazyLock::new(|| {
    let (sender, queue) = mpsc::channel();
    let started = thread::Builder::new().name("skep-net-close".to_owned()).spawn(|| run(queue));
    started.is_ok().then_some(sender)
});

/// Closes a socket after a while; at once where no thread can be had.
pub fn later(socket: Socket) {
    if let Some(closer) = &*CLOSER {
        // It comes back, and is closed, where the thread is gone.
        let _ = closer.send((Instant::now() + LINGER, socket));
    }
}

fn run(queue: Receiver<Closing>) {
    for (at, socket) in queue {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        drop(socket);
    }
}
