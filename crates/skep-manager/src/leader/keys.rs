use std::convert::Infallible;
use std::time::Duration;

use skep_control::admission;
use tokio_util::sync::CancellationToken;

use crate::chance;
use crate::store::{WriteError, Writer};

/// Docker's period.
const PERIOD: Duration = Duration::from_secs(12 * 3600);

/// Gives the swarm's networks new keys every [`PERIOD`], counted from the start of leadership.
pub(super) async fn run(writer: &Writer, stop: &CancellationToken) -> Result<(), WriteError> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PERIOD) => {}
        }
        let written = writer.write(|store, now| {
            Ok::<_, Infallible>((admission::rotate_network_keys(store, now, &mut chance::fill), ()))
        });
        let (index, ()) = written.await?.unwrap_or_else(|never| match never {});
        tracing::info!(index, "rotated the networks' keys");
    }
}
