//! Traces: reading namespaces until a packet's way is known.

use super::Net;
use crate::apply::{Nft, survey};
use crate::error::{NetError, Result};
use crate::plan::{self, NsName};
use crate::state::lock;
use crate::trace::{Live, Question, Scene, Trace, TraceQuery, trace};
use std::collections::{BTreeMap, BTreeSet};
use tokio::task::spawn_blocking;

/// Namespaces read at the same time.
const READERS: usize = 4;
/// Rounds of reading. A path of this host has a handful of namespaces one after another.
const ROUNDS: usize = 32;

impl Net {
    /// Follows the first packet of a connection from the kernel's state as it is now.
    ///
    /// Fails when the question makes no sense ([`NetError::Invalid`]), starts at nothing
    /// known ([`NetError::TraceOrigin`]) or on another host ([`NetError::TraceElsewhere`]).
    /// That the packet does not arrive is no failure but what the trace says.
    pub async fn trace(&self, query: TraceQuery) -> Result<Trace> {
        let net = self.clone();
        spawn_blocking(move || net.trace_now(&query)).await.map_err(|_| NetError::Closed)?
    }

    /// Blocks.
    fn trace_now(&self, query: &TraceQuery) -> Result<Trace> {
        let shared = self.shared();
        let world = shared.read(Clone::clone);
        let names = shared.names();
        let services = world.services();
        let plans = plan::plan(&world);
        let blocked = shared.blocked.borrow().clone();
        let mut live = BTreeMap::new();
        for _ in 0..ROUNDS {
            let scene = Scene {
                world: &world,
                services: &services,
                plans: &plans,
                live: &live,
                nodes: &query.nodes,
                known: query.services.as_deref(),
                blocked: &blocked,
            };
            let question = Question::read(query, &scene)?;
            match trace(&scene, &question, &names) {
                Ok(trace) => return Ok(trace),
                Err(needs) => live.extend(self.read_spaces(&needs)),
            }
        }
        Err(NetError::TraceUnsettled(query.target.clone()))
    }

    /// Reads namespaces, or says why each cannot be.
    fn read_spaces(&self, needs: &BTreeSet<NsName>) -> Vec<(NsName, Result<Live, String>)> {
        let shared = self.shared();
        let handles = lock(&shared.handles).clone();
        let nft = Nft {
            program: shared.config.nft.clone(),
            traffic: std::sync::Arc::clone(&shared.traffic),
        };
        let read = |name: &NsName| {
            let Some(handle) = handles.get(name) else {
                return Err("it is not there".to_owned());
            };
            match handle.run(|| survey(&nft, &name.to_string())) {
                Ok(Ok(live)) => Ok(live),
                Ok(Err(error)) => Err(skep_types::report(&error)),
                Err(error) => Err(error.to_string()),
            }
        };
        let names: Vec<&NsName> = needs.iter().collect();
        let share = names.len().div_ceil(READERS).max(1);
        std::thread::scope(|scope| {
            let readers: Vec<_> = names
                .chunks(share)
                .map(|some| {
                    let read = &read;
                    let work =
                        move || some.iter().map(|n| ((*n).clone(), read(n))).collect::<Vec<_>>();
                    (some, scope.spawn(work))
                })
                .collect();
            let mut found = Vec::new();
            for (some, reader) in readers {
                match reader.join() {
                    Ok(read) => found.extend(read),
                    Err(_) => found.extend(
                        some.iter().map(|n| ((*n).clone(), Err("its reader failed".to_owned()))),
                    ),
                }
            }
            found
        })
    }
}
