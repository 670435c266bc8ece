use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::metrics::RaftServerMetrics;
use skep_types::Repeated;
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
    let mut trouble = Repeated::default();
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
            // An error means that raft has stopped. Its last word stays that this manager leads.
            metrics.wait_for(still).await.is_ok()
        };
        let ended = tokio::select! {
            raft_runs = lost => Ok(raft_runs),
            ended = lead(&shared, id, &work) => ended.map(|()| true),
        };
        work.cancel();
        shared.writer.set_open(false);
        shared.leading.send_replace(false);
        shared.sessions.clear();
        match ended {
            Ok(raft_runs) => {
                tracing::info!(term, "no longer leading");
                if !raft_runs {
                    return;
                }
            }
            Err(error) => {
                let error = skep_types::report(&error);
                if let Some(failures) = trouble.failed(Instant::now(), &error) {
                    tracing::error!(
                        term,
                        error,
                        failures,
                        "the leader's work ended, starting it anew"
                    );
                }
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
    // Without room on the disk the swarm can still be looked at; see the loop of this name.
    let take_over = match taken {
        Ok(()) => false,
        Err(WriteError::Disk { .. }) => true,
        Err(source) => return Err(LeadError::Write { name: "takeover", source }),
    };
    // Loops wait for room.
    let writer = shared.writer.patient();

    let mut loops: JoinSet<(&'static str, Result<(), WriteError>)> = JoinSet::new();
    macro_rules! run {
        ($name:literal, |$shared:ident, $writer:ident, $work:ident| $body:expr) => {{
            let ($shared, $writer, $work) = (shared.clone(), writer.clone(), work.clone());
            loops.spawn(async move { ($name, $body.await) });
        }};
    }
    if take_over {
        run!("takeover", |s, to, w| async {
            watchdog::take_over(&s.sessions, &s.cell, &to, &s.node_id).await?;
            w.cancelled().await;
            Ok(())
        });
    }
    run!("steps", |s, to, w| steps::run(&s.cell, &to, &s.host_routes, &w));
    run!("signer", |s, to, w| ca::run_signer(&s.cell, &to, &w));
    run!("rotation", |s, to, w| ca::run_rotation(&s.cell, &to, &w));
    run!("watchdog", |s, to, w| watchdog::run(&s, &to, &w));
    run!("statuses", |s, to, w| s.reports.run(&to, s.node_id.clone(), &w));
    run!("keys", |s, to, w| keys::run(&s.cell, &to, &w));
    run!("members", |s, to, w| members::run(&s.raft, id, &s.cell, &to, &w));
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
