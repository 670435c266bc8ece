//! What a shim says when something is wrong with itself.

use std::fmt;
use std::io::Write as _;

/// Writes a line to standard error, which is a file in the bundle. Where that disk is full there is nobody else
/// to be told, and nothing to end for it, as `eprintln!` would.
pub(super) fn note(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
