use super::Gossip;
use crate::codec::NodeState;
use crate::config::Timing;
use crate::time::Moment;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use std::time::Duration;

const REAP_INTERVAL: Duration = Duration::from_secs(5);
/// A tick this late means that the whole node stood still.
const STANDSTILL: Duration = Duration::from_secs(1);

/// What happens at intervals.
#[derive(Debug)]
pub(super) struct Timers {
    probe: Moment,
    push_pull: Moment,
    sync: Moment,
    reap: Moment,
    reconnect: Moment,
    rejoin: Moment,
}

impl Timers {
    /// Nodes started together must not act together, so each first time is random.
    pub(super) fn new(timing: &Timing, now: Moment, rng: &mut StdRng) -> Self {
        let mut within = |interval: Duration| now + interval.mul_f64(rng.random::<f64>());
        Self {
            probe: within(timing.probe_interval),
            push_pull: within(timing.push_pull_interval),
            sync: within(timing.bulk_sync_interval),
            reap: within(REAP_INTERVAL),
            reconnect: within(timing.reconnect_interval),
            rejoin: within(timing.rejoin_interval),
        }
    }

    fn next(&self) -> Moment {
        let all = [self.probe, self.push_pull, self.sync, self.reap, self.reconnect, self.rejoin];
        all.into_iter().min().unwrap_or_default()
    }
}

/// Whether `timer` is due; sets it again.
fn due(timer: &mut Moment, interval: Duration, now: Moment) -> bool {
    let due = *timer <= now;
    if due {
        // Missed turns are not made up for.
        let next = *timer + interval;
        *timer = if next > now { next } else { now + interval };
    }
    due
}

impl Gossip {
    /// When [`tick`](Self::tick) is to be called next, if nothing comes in before; `None` when this
    /// node has left.
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.left {
            return None;
        }
        if let Some(end) = self.leave_until {
            return Some(self.news_due.map_or(end, |due| due.min(end)));
        }
        let tables = self.networks.values().filter_map(|own| own.gossip_due);
        let streams = self.streams.values().map(|stream| stream.expires());
        let others = [self.news_due, self.next_suspicion(), self.next_pending(), self.next_sync()];
        let others = others.into_iter().chain([self.introduce_at, self.next_question()]).flatten();
        [self.timers.next()].into_iter().chain(tables).chain(streams).chain(others).min()
    }

    /// Lets time pass: does everything that is due at `now`.
    pub fn tick(&mut self, now: Moment) {
        let expected = self.next_deadline();
        self.advance(now);
        if self.left {
            return;
        }
        if let Some(lag) = expected.map(|at| self.now.since(at)).filter(|lag| *lag > STANDSTILL) {
            self.stood_still(lag);
        }
        let timing = self.config.timing;
        let now = self.now;
        self.end_streams();
        self.end_pending();
        self.continue_probe();
        self.ask_candidates();
        self.end_suspicions();
        self.end_pending_syncs();
        if self.leave_until.is_none() {
            if due(&mut self.timers.probe, timing.probe_interval, now) {
                self.start_probe();
            }
            let push_pull = timing.push_pull(self.cluster_size());
            if due(&mut self.timers.push_pull, push_pull, now) {
                self.regular_push_pull();
            }
            if due(&mut self.timers.sync, timing.bulk_sync_interval, now) {
                self.regular_syncs();
            }
            if due(&mut self.timers.reconnect, timing.reconnect_interval, now) {
                self.reconnect();
            }
            if due(&mut self.timers.rejoin, timing.rejoin_interval, now) {
                self.rejoin();
            }
            self.end_introduction();
            self.run_due_syncs();
            self.repeat_questions();
        }
        if due(&mut self.timers.reap, REAP_INTERVAL, now) {
            self.reap();
        }
        self.spread_due();
        self.end_leave();
    }

    /// Time never goes back: a caller's clock may, a little.
    pub(super) fn advance(&mut self, now: Moment) {
        self.now = self.now.max(now);
    }

    fn spread_due(&mut self) {
        let now = self.now;
        if self.news_due.is_some_and(|due| due <= now) {
            self.spread_news();
        }
        let networks = self.networks.iter();
        let networks = networks.filter(|(_, own)| own.gossip_due.is_some_and(|due| due <= now));
        let networks: Vec<_> = networks.map(|(network, _)| network.clone()).collect();
        for network in networks {
            self.spread_tables(&network);
        }
    }

    fn regular_push_pull(&mut self) {
        let living = self.members.values().filter(|m| m.state == NodeState::Alive);
        let addresses: Vec<_> = living.map(|member| member.address).collect();
        if let Some(address) = addresses.into_iter().choose(&mut self.rng) {
            self.push_pull_with(address, false);
        }
    }

    /// The host slept, or was too busy to run this node: nobody else is to blame for answers that
    /// were not read in that time.
    fn stood_still(&mut self, lag: Duration) {
        self.give_probe_up();
        self.postpone_suspicions(lag);
    }
}
