//! Memory that a burst of work left is given back.

use std::time::Duration;

use skep_sys::malloc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// Resident bytes more than after the last time that make it worth the while.
const WORTH: usize = 2 << 20;

/// Until `shutdown`.
pub async fn tend(shutdown: CancellationToken) {
    let mut floor = 0;
    while shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let now = malloc::resident();
        if now >= floor + WORTH {
            // A panic there is nothing that this could help.
            let _ = spawn_blocking(malloc::give_back).await;
            floor = malloc::resident();
        } else {
            floor = floor.min(now);
        }
    }
}
