use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use skep_control::{Action, Store};
use skep_types::Timestamp;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use super::{Room, StoreCell, WriteError};
use crate::raft::{Command, Raft, Transaction};

/// Callers that may wait for the disk at the same time before new ones are held back.
const QUEUE: usize = 1024;
/// Actions in one entry before the rest waits for the next: keeps entries below about a megabyte.
const MAX_ACTIONS: usize = 512;
/// How often a disk without room is looked at again while somebody waits for it.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// The one door through which this manager changes the store.
///
/// Each write is a function of the store. The writer runs those that wait one after another, each on
/// the store that the one before it leaves behind, and puts all their actions into one log entry: so
/// nobody decides on a stale store, and many callers share one disk sync.
///
/// While the disk has no room, writes are refused before they reach raft; those of a
/// [patient](Self::patient) writer wait instead.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Job>,
    open: Arc<AtomicBool>,
    patient: bool,
}

type Decide = Box<dyn FnOnce(&Store, Timestamp) -> Option<Vec<Action>> + Send>;

type Done = oneshot::Sender<Result<u64, WriteError>>;

struct Job {
    patient: bool,
    decide: Decide,
    done: Done,
}

impl Writer {
    /// Starts the writing task; it ends when the last `Writer` is dropped.
    pub fn spawn(raft: Raft, cell: StoreCell, room: Room) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(raft, cell, room, jobs));
        Self { queue, open: Arc::default(), patient: false }
    }

    /// The same door for who has nothing better to do than to wait for room on the disk: the leader's
    /// loops.
    pub fn patient(&self) -> Self {
        Self { patient: true, ..self.clone() }
    }

    /// Opens the door while this manager leads and has applied everything that was committed before;
    /// deciding on an older store would hand out the same addresses twice.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// Runs `decide` on the latest store and commits its actions. Answers `decide`'s own answer with
    /// the index at which it took effect, once it is on disk and applied here. No actions: nothing is
    /// written, and the index is the store's. `Err` from `decide` writes nothing either.
    ///
    /// Cancelling the future does not cancel a write that has begun.
    pub async fn write<T, E>(
        &self,
        decide: impl FnOnce(&Store, Timestamp) -> Result<(Vec<Action>, T), E> + Send + 'static,
    ) -> Result<Result<(u64, T), E>, WriteError>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        if !self.open.load(Ordering::Acquire) {
            return Err(WriteError::NotLeader { leader: None });
        }
        let (answer_tx, answer_rx) = oneshot::channel();
        let decide: Decide = Box::new(move |store, now| {
            let (actions, answer) = match decide(store, now) {
                Ok((actions, value)) => (Some(actions), Ok(value)),
                Err(e) => (None, Err(e)),
            };
            // The caller may have gone away.
            let _ = answer_tx.send(answer);
            actions
        });
        let (done, committed) = oneshot::channel();
        self.queue
            .send(Job { patient: self.patient, decide, done })
            .await
            .map_err(|_| WriteError::Stopped)?;
        let committed = committed.await.map_err(|_| WriteError::Stopped)?;
        match answer_rx.await.map_err(|_| WriteError::Stopped)? {
            // A refusal rests on what was decided before it in the same entry, and fails with it.
            Err(refused) => committed.map(|_| Err(refused)),
            Ok(value) => Ok(Ok((committed?, value))),
        }
    }

    /// Commits actions decided elsewhere; their versions protect them from being stale.
    pub async fn propose(&self, actions: Vec<Action>) -> Result<u64, WriteError> {
        let written =
            self.write(move |_, _| Ok::<_, std::convert::Infallible>((actions, ()))).await?;
        match written {
            Ok((index, ())) => Ok(index),
            Err(never) => match never {},
        }
    }
}

async fn run(raft: Raft, cell: StoreCell, mut room: Room, jobs: mpsc::Receiver<Job>) {
    let mut jobs = Jobs { queue: jobs, held: VecDeque::new() };
    while let Some(first) = jobs.next().await {
        match room.check() {
            Ok(()) => Batch::collect(&cell, first, &mut jobs).commit(&raft).await,
            Err(_) if first.patient => jobs.held.push_back(first),
            Err(error) => refuse(&cell, first, error),
        }
    }
}

/// Answers a job that may not write: what needs no write is as good as done.
fn refuse(cell: &StoreCell, job: Job, error: WriteError) {
    let store = cell.read();
    let nothing = (job.decide)(&store, now()).unwrap_or_default().is_empty();
    // The caller may have gone away.
    drop(job.done.send(if nothing { Ok(store.index()) } else { Err(error) }));
}

/// The queue, and before it what waits for room.
struct Jobs {
    queue: mpsc::Receiver<Job>,
    held: VecDeque<Job>,
}

impl Jobs {
    /// What is held comes again after a pause; what comes meanwhile goes first.
    async fn next(&mut self) -> Option<Job> {
        // Whose loop has ended must not write as if it had not.
        self.held.retain(|job| !job.done.is_closed());
        if self.held.is_empty() {
            return self.queue.recv().await;
        }
        match tokio::time::timeout(ROOM_PAUSE, self.queue.recv()).await {
            Ok(job) => job,
            Err(_) => self.held.pop_front(),
        }
    }

    fn try_next(&mut self) -> Option<Job> {
        self.held.retain(|job| !job.done.is_closed());
        self.held.pop_front().or_else(|| self.queue.try_recv().ok())
    }
}

/// Jobs that share an entry.
#[derive(Default)]
struct Batch {
    command: Command,
    /// Who waits, with the place of his transaction in the entry; without one he waits for all that
    /// he saw to be on disk.
    waiting: Vec<(Option<usize>, Done)>,
    /// The store's index before the entry.
    base: u64,
}

impl Batch {
    /// Lets every waiting job decide, in order.
    fn collect(cell: &StoreCell, first: Job, jobs: &mut Jobs) -> Self {
        let mut store = cell.read();
        let mut batch = Self { base: store.index(), ..Self::default() };
        let mut actions_so_far = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            let now = now();
            let actions = (job.decide)(&store, now).unwrap_or_default();
            if actions.is_empty() {
                batch.waiting.push((None, job.done));
            } else {
                actions_so_far += actions.len();
                match store.apply(store.index() + 1, now, actions.clone()) {
                    Ok(_) => {
                        batch.waiting.push((Some(batch.command.transactions.len()), job.done));
                        batch.command.transactions.push(Transaction { time: now, actions });
                    }
                    // The caller may have gone away, here and below.
                    Err(e) => drop(job.done.send(Err(WriteError::Refused(e)))),
                }
            }
            next = if actions_so_far < MAX_ACTIONS { jobs.try_next() } else { None };
        }
        batch
    }

    async fn commit(self, raft: &Raft) {
        let results = if self.command.transactions.is_empty() {
            Ok(Vec::new())
        } else {
            raft.client_write(self.command).await.map(|response| response.data).map_err(write_error)
        };
        for (place, done) in self.waiting {
            let result = match (&results, place) {
                (Err(e), _) => Err(e.clone()),
                (Ok(results), Some(place)) => match results.get(place) {
                    Some(result) => result.clone().map_err(WriteError::Overtaken),
                    None => Err(WriteError::Unknown),
                },
                (Ok(results), None) => Ok(results
                    .iter()
                    .filter_map(|r| r.as_ref().ok())
                    .max()
                    .copied()
                    .unwrap_or(self.base)),
            };
            drop(done.send(result));
        }
    }
}

fn write_error(error: RaftError<u64, ClientWriteError<u64, crate::raft::Member>>) -> WriteError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            let leader = forward.leader_node.map(|member| (member.node_id, member.addr));
            WriteError::NotLeader { leader }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(_)) => WriteError::Unknown,
        RaftError::Fatal(_) => WriteError::Stopped,
    }
}

/// The wall clock. Read at this door only, so that the store's times are the leader's.
pub(crate) fn now() -> Timestamp {
    Timestamp::new(OffsetDateTime::now_utc())
}
