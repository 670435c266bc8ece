//! What libcontainer tells its log and not its caller.
//!
//! Its processes hand each other only the outermost text of an error ("failed to prepare rootfs");
//! what failed, on what and why is logged at level ERROR, deepest cause first, by the process it
//! happened in. Those lines go through the report's pipe, which all of them hold.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::report::{Report, Reporter};

struct Listener(Reporter);

/// From now on passes on what this process and its children log as errors. If somebody else listens
/// already, it goes there.
pub(super) fn listen(reporter: &Reporter) {
    let _ = tracing::subscriber::set_global_default(Listener(reporter.clone()));
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.send(&Report::Detail { text: line.finish() });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Takes out Rust's `(os error 22)`, which users of Docker do not know.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(
            part.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(')'),
        );
    }
    kept
}

/// The message, then the fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn finish(self) -> String {
        without_numbers(&(self.message + &self.fields))
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "err" | "e" => write!(self.fields, ": {value:?}"),
            name => write!(self.fields, ", {name} {value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go() {
        let text = "failed to set sysctl a=b: Invalid argument (os error 22), twice (os error 2)";
        assert_eq!(without_numbers(text), "failed to set sysctl a=b: Invalid argument, twice");
    }
}
