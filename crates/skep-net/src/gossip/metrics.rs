//! Counters of gossip as text (Prometheus exposition format 0.0.4).

use super::runner::Waiting;
use skep_gossip::{Counters, DropCause};
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

pub fn render(counters: &Counters, waiting: &Waiting) -> String {
    let plain = [
        ("packets_received", "UDP packets taken in.", counters.packets_in),
        ("packets_sent", "UDP packets given out.", counters.packets_out),
        ("streams_received", "TCP streams of other nodes.", counters.streams_in),
        ("streams_sent", "TCP streams to other nodes.", counters.streams_out),
        ("probes_failed", "Probes that nobody answered.", counters.probes_failed),
        (
            "probes_by_others",
            "Probes that were answered by way of other nodes only.",
            counters.probes_by_others,
        ),
        ("probes_by_stream", "Probes that only TCP answered.", counters.probes_by_stream),
        ("refutations", "Times this node denied its own failure.", counters.refutations),
    ];
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, help, value) in plain {
        let _ = write!(
            text,
            "# HELP skep_gossip_{name}_total {help}\n# TYPE skep_gossip_{name}_total counter\n\
             skep_gossip_{name}_total {value}\n"
        );
    }
    for (name, help, value) in [
        ("wishes", "Changes of this host that gossip has yet to take over.", &waiting.wishes),
        ("events", "Bundles of news that this host has yet to take over.", &waiting.events),
    ] {
        // The two ends count one after the other, so it may be one off for a moment.
        let value = value.load(Ordering::Relaxed);
        let _ = write!(
            text,
            "# HELP skep_gossip_waiting_{name} {help}\n# TYPE skep_gossip_waiting_{name} gauge\n\
             skep_gossip_waiting_{name} {value}\n"
        );
    }
    let name = "skep_gossip_dropped_total";
    let _ = write!(
        text,
        "# HELP {name} Messages that were not used, by cause.\n# TYPE {name} counter\n"
    );
    for cause in DropCause::ALL {
        let _ =
            writeln!(text, "{name}{{cause=\"{}\"}} {}", cause.as_str(), counters.dropped(cause));
    }
    text
}
