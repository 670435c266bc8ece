//! The agent against a fake executor, and against a fake manager over real connections.

mod fake;
mod logs;
mod manager;
mod sessions;
mod tasks;

use std::time::Duration;

/// Waits until `value` gives something; panics with `state` after a generous limit.
async fn until<T>(
    what: &str,
    mut value: impl FnMut() -> Option<T>,
    state: impl Fn() -> String,
) -> T {
    for _ in 0..2000 {
        if let Some(value) = value() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}; now {}", state());
}
