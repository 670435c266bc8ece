use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_control::Leader;
use skep_types::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance;
use crate::shared::HostRoutes;
use crate::store::{StoreCell, Watched, WriteError, Writer, now};

/// Shortest time between two steps. The first change after a quiet time is answered at once; a burst
/// is gathered for this long.
const SPACING: Duration = Duration::from_millis(5);
/// Most actions of one entry; what is left comes in the next step.
const MAX_ACTIONS: usize = 400;
/// Pause after the store refused a step, which should not happen.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Runs allocator, orchestrators and scheduler after every change and whenever they ask to be woken,
/// until `stop` or until writing fails.
pub(super) async fn run(
    cell: &StoreCell,
    writer: &Writer,
    routes: &HostRoutes,
    stop: &CancellationToken,
) -> Result<(), WriteError> {
    let (_, mut watcher) = cell.watch();
    let leader = Arc::new(Mutex::new(Leader::new()));
    loop {
        let started = Instant::now();
        let next = step(&leader, writer, routes).await?;
        if next == Next::Now {
            continue;
        }
        let wake = async {
            match next {
                Next::Now => {}
                Next::At(at) => tokio::time::sleep((at - now()).to_std()).await,
                Next::Change => std::future::pending().await,
            }
        };
        let changed = async {
            match watcher.next().await {
                Some(watched) => observe(&leader, &watched),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = wake => {}
            () = changed => {}
        }
        tokio::time::sleep_until(started + SPACING).await;
        while let Some(watched) = watcher.try_next() {
            observe(&leader, &watched);
        }
    }
}

/// When to step again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Now,
    At(Timestamp),
    Change,
}

fn observe(leader: &Mutex<Leader>, watched: &Watched) {
    let mut leader = leader.lock().unwrap_or_else(PoisonError::into_inner);
    match watched {
        Watched::Changes(changes) => leader.observe(changes),
        // A new one looks at everything.
        Watched::Reread(_) => *leader = Leader::new(),
    }
}

async fn step(
    leader: &Arc<Mutex<Leader>>,
    writer: &Writer,
    routes: &HostRoutes,
) -> Result<Next, WriteError> {
    let leader = leader.clone();
    let routes = Arc::clone(routes);
    let written = writer.write(move |store, now| {
        let mut leader = leader.lock().unwrap_or_else(PoisonError::into_inner);
        if Leader::has_networks_to_allocate(store) {
            leader.know_routes(routes());
        }
        let mut step = leader.step(store, now, &mut chance::fill);
        let more = step.actions.len() > MAX_ACTIONS;
        step.actions.truncate(MAX_ACTIONS);
        let next = match step.wake_at {
            _ if more => Next::Now,
            Some(at) => Next::At(at),
            None => Next::Change,
        };
        Ok::<_, Infallible>((step.actions, next))
    });
    match written.await {
        Ok(Ok((_, next))) => Ok(next),
        Ok(Err(never)) => match never {},
        Err(error @ WriteError::Refused(_)) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the store refused the leader's step"
            );
            tokio::time::sleep(REFUSED_PAUSE).await;
            Ok(Next::Now)
        }
        Err(error) => Err(error),
    }
}
