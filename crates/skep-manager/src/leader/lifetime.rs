use std::sync::Arc;
use std::time::Duration;

use openraft::metrics::RaftServerMetrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{keys, members, steps};
use crate::ca;
use crate::dispatcher::watchdog;
use crate::raft::{Member, RaftId};
use crate::shared::Shared;
use crate::store::WriteError;

type ServerMetrics = RaftServerMetrics<RaftId, Member>;

/// Pause before work that ended by itself starts anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs the leader's work whenever this manager leads, until the manager stops.
pub(crate) async fn supervise(shared: Arc<Shared>, id: RaftId) {
    let mut metrics = shared.raft.server_metrics();
    loop {
        let leads = |m: &ServerMetrics| m.current_leader == Some(id);
        // Biased: whoever stops leads on in raft for a moment, and must not begin anew.
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            led = metrics.wait_for(leads) => if led.is_err() { return },
        }
        let term = metrics.borrow().vote.leader_id().term;
        tracing::info!(term, "leading the swarm");
        let work = shared.stop.child_token();
        let lost = async {
            let still =
                |m: &ServerMetrics| m.current_leader != Some(id) || m.vote.leader_id().term != term;
            // An error means that raft has stopped.
            drop(metrics.wait_for(still).await);
        };
        let ended = tokio::select! {
            () = lost => Ok(()),
            ended = lead(&shared, id, &work) => ended,
        };
        work.cancel();
        shared.writer.set_open(false);
        shared.leading.send_replace(false);
        shared.sessions.clear();
        match ended {
            Ok(()) => tracing::info!(term, "no longer leading"),
            Err(error) => {
                tracing::error!(
                    term,
                    error = &error as &dyn std::error::Error,
                    "the leader's work ended, starting it anew"
                );
                tokio::select! {
                    () = shared.stop.cancelled() => return,
                    () = tokio::time::sleep(RESTART_PAUSE) => {}
                }
            }
        }
    }
}

/// Why the leader's work ended by itself.
#[derive(Debug, thiserror::Error)]
enum LeadError {
    #[error("cannot make sure that the store is up to date: {0}")]
    Barrier(String),
    #[error("the loop {name} could not write")]
    Write {
        name: &'static str,
        #[source]
        source: WriteError,
    },
    #[error("the loop {name} ended without being told to")]
    Ended { name: &'static str },
    #[error("a loop panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

async fn lead(shared: &Arc<Shared>, id: RaftId, work: &CancellationToken) -> Result<(), LeadError> {
    let barrier = shared.raft.ensure_linearizable().await;
    barrier.map_err(|e| LeadError::Barrier(e.to_string()))?;
    shared.writer.set_open(true);
    let taken =
        watchdog::take_over(&shared.sessions, &shared.cell, &shared.writer, &shared.node_id).await;
    taken.map_err(|source| LeadError::Write { name: "takeover", source })?;

    let mut loops: JoinSet<(&'static str, Result<(), WriteError>)> = JoinSet::new();
    macro_rules! run {
        ($name:literal, |$shared:ident, $work:ident| $body:expr) => {{
            let ($shared, $work) = (shared.clone(), work.clone());
            loops.spawn(async move { ($name, $body.await) });
        }};
    }
    run!("steps", |s, w| steps::run(&s.cell, &s.writer, &s.host_routes, &w));
    run!("signer", |s, w| ca::run_signer(&s.cell, &s.writer, &w));
    run!("rotation", |s, w| ca::run_rotation(&s.cell, &s.writer, &w));
    run!("watchdog", |s, w| watchdog::run(&s, &w));
    run!("statuses", |s, w| s.reports.run(&s.writer, s.node_id.clone(), &w));
    run!("keys", |s, w| keys::run(&s.cell, &s.writer, &w));
    run!("members", |s, w| members::run(&s.raft, id, &s.cell, &s.writer, &w));
    shared.leading.send_replace(true);

    // The first end is everybody's: dropping the set ends the others.
    match loops.join_next().await {
        None => Ok(()),
        Some(Err(panic)) => Err(LeadError::Panicked(panic)),
        Some(Ok((_, Ok(())))) if work.is_cancelled() => Ok(()),
        Some(Ok((name, Ok(())))) => Err(LeadError::Ended { name }),
        Some(Ok((name, Err(source)))) => Err(LeadError::Write { name, source }),
    }
}
