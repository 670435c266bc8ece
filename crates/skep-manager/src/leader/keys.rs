use std::convert::Infallible;
use std::time::Duration;

use skep_control::admission;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance;
use crate::store::{StoreCell, WriteError, Writer};

/// Docker's period.
const PERIOD: Duration = Duration::from_secs(12 * 3600);

/// Between two turns while somebody who was removed knows keys. Every node has to have followed one
/// before the next: it hears of it in milliseconds, and this is more than one attempt to connect.
const HASTE: Duration = Duration::from_secs(3);

/// Gives the swarm's networks new keys every [`PERIOD`], counted from the start of leadership, and every
/// [`HASTE`] as long as keys are exposed.
pub(super) async fn run(
    cell: &StoreCell,
    writer: &Writer,
    stop: &CancellationToken,
) -> Result<(), WriteError> {
    let (_, mut watcher) = cell.watch();
    let mut due = Instant::now() + PERIOD;
    loop {
        let exposed = |cluster| admission::network_keys_exposed(cluster);
        if !cell.read().cluster().is_some_and(|cluster| exposed(cluster)) {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = watcher.cluster_changed() => continue,
                () = tokio::time::sleep_until(due) => {}
            }
        }
        let written = writer.write(|store, now| {
            Ok::<_, Infallible>((admission::rotate_network_keys(store, now, &mut chance::fill), ()))
        });
        let (index, ()) = written.await?.unwrap_or_else(|never| match never {});
        tracing::info!(index, "rotated the networks' keys");
        due = Instant::now() + PERIOD;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(HASTE) => {}
        }
    }
}
