//! The loop that keeps the kernel as planned.
//!
//! One thread owns all namespaces. Whoever changed the world sends a request that
//! names the namespaces it cares about; requests that pile up while a round runs are
//! served together by the next one, so that thirty tasks starting at once cost a few
//! rounds, not thirty. Namespaces that changed but that nobody waits for are brought
//! up to date between requests. At intervals, and when asked, the kernel is read
//! back and compared instead of trusted. When the kernel tells that somebody else
//! changed a namespace, that one is compared soon.

use crate::apply::{Sign, Spaces, links, mtu_of};
use crate::error::{NetError, Result};
use crate::host_routes;
use crate::merge;
use crate::model::{BlockedPort, BlockedPorts};
use crate::plan::{HostPlan, NsName, NsPlan, Planned, Planner};
use crate::slack::Slack;
use crate::state::{Shared, lock};
use crate::storing::Storing;
use crate::world::{Facts, MeshPort, Services};
use skep_types::Protocol;
use skep_types::Repeated;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How soon a namespace that failed is tried again by itself.
const RETRY: Duration = Duration::from_secs(2);

/// How soon ports of the mesh that were not free are tried again.
const RETRY_PORTS: Duration = Duration::from_secs(2);

/// How long to listen on after a sign of meddling: it seldom comes alone.
const SETTLE: Duration = Duration::from_millis(200);
/// Least time between two comparisons because of signs: who writes rules all the time
/// must not keep us reading them.
const CALM: Duration = Duration::from_secs(1);

/// Which namespaces a request waits for.
#[derive(Debug, Clone)]
pub enum Interest {
    /// These, as far as they differ from their plan.
    Only(BTreeSet<NsName>),
    /// These, and that the world is on disk first: if it cannot be, the answer is that error.
    Stored(BTreeSet<NsName>),
    /// All, read back from the kernel.
    Verified,
}

/// What a comparison of plan and kernel found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReconcileReport {
    /// Namespaces looked at.
    pub namespaces: usize,
    /// Links, addresses, routes, rules and settings that were put right.
    pub repairs: usize,
    /// Namespaces that could not be put right; the reasons were logged.
    pub failures: usize,
}

/// Which namespaces must be read back although they are as planned, as far as we know.
enum Doubt {
    /// These.
    Of(BTreeSet<NsName>),
    /// All.
    All,
}

impl Doubt {
    /// Whether this one is among them.
    fn about(&self, name: &NsName) -> bool {
        match self {
            Self::Of(names) => names.contains(name),
            Self::All => true,
        }
    }
}

type Reply = oneshot::Sender<Result<Results>>;

enum Request {
    Converge(Interest, Reply),
    Signs(NsName, Sign),
    Stop,
}

/// The handle of the loop.
pub struct Controller {
    requests: Sender<Request>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Controller {
    /// Starts the loop. Needs a tokio runtime, on which the kernel is listened to.
    pub fn start(shared: Arc<Shared>, mut spaces: Spaces, storing: Storing) -> Result<Self> {
        let (requests, inbox) = mpsc::channel();
        let signs = requests.clone();
        let listener = Arc::new(move |name, sign| {
            // After the end nobody needs to know.
            let _ = signs.send(Request::Signs(name, sign));
        });
        spaces.listen(tokio::runtime::Handle::current(), listener);
        let worker = Worker {
            shared,
            spaces,
            applied: BTreeMap::new(),
            failed: BTreeMap::new(),
            troubles: BTreeMap::new(),
            suspects: BTreeSet::new(),
            suspects_at: None,
            calm_until: Instant::now(),
            blocked_at: None,
            slack: Slack::default(),
            planner: Planner::default(),
            planned: None,
            services: Services::default(),
            plans: Arc::default(),
            planned_for: None,
            storing,
            inbox,
        };
        let thread = thread::Builder::new()
            .name("skep-net".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| NetError::File {
                action: "start a thread for",
                path: "skep-net".into(),
                source,
            })?;
        Ok(Self { requests, thread: std::sync::Mutex::new(Some(thread)) })
    }

    /// Waits until the namespaces are as planned, or could not be made so: how much was changed in each that
    /// was looked at, or why it failed. Of others than those asked for nothing is said. The work goes on when the
    /// waiting is given up.
    pub async fn converge(&self, interest: Interest) -> Result<Results> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Converge(interest, reply)).map_err(|_| NetError::Closed)?;
        answer.await.map_err(|_| NetError::Closed)?
    }

    /// Ends the loop after the current round. Blocks.
    pub fn stop(&self) {
        // A loop that is gone already needs no telling.
        let _ = self.requests.send(Request::Stop);
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the network's loop had panicked");
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    spaces: Spaces,
    /// The plan each namespace was last brought to.
    applied: BTreeMap<NsName, Planned>,
    /// When a failed namespace may be tried again.
    failed: BTreeMap<NsName, Instant>,
    /// What is wrong with those that fail again and again.
    troubles: BTreeMap<NsName, Repeated>,
    /// Namespaces that somebody else may have changed, and when they are looked at.
    suspects: BTreeSet<NsName>,
    suspects_at: Option<Instant>,
    /// When the next look because of signs may be.
    calm_until: Instant,
    /// When ports of the mesh that were not free are tried again.
    blocked_at: Option<Instant>,
    /// Whose turn it is among those that nobody waits for.
    slack: Slack,
    planner: Planner,
    /// Version of the world that the last plans were made of.
    planned: Option<u64>,
    /// Its services.
    services: Services,
    /// These plans, and what was known of the host then.
    plans: Arc<HostPlan>,
    planned_for: Option<Facts>,
    storing: Storing,
    inbox: Receiver<Request>,
}

impl Worker {
    fn run(mut self) {
        let interval = self.shared.config.verify_interval;
        let mut verify_at = Instant::now() + interval;
        // When more is to be done that nobody waits for.
        let mut pending = None;
        loop {
            let wait = self.idle(pending.into_iter().fold(verify_at, Instant::min));
            let mut batch = Vec::new();
            match self.inbox.recv_timeout(wait) {
                Ok(request) => batch.push(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            batch.extend(self.inbox.try_iter());
            let mut waiting = Vec::new();
            let mut stop = false;
            for request in batch {
                match request {
                    Request::Converge(interest, reply) => waiting.push((interest, reply)),
                    Request::Signs(name, sign) => self.heed(&name, &sign),
                    Request::Stop => stop = true,
                }
            }
            let now = Instant::now();
            let all =
                now >= verify_at || waiting.iter().any(|(i, _)| matches!(i, Interest::Verified));
            let doubt = if all {
                self.suspects.clear();
                self.suspects_at = None;
                verify_at = now + interval;
                Doubt::All
            } else if self.suspects_at.is_some_and(|at| at <= now) {
                self.suspects_at = None;
                self.calm_until = now + CALM;
                Doubt::Of(std::mem::take(&mut self.suspects))
            } else {
                Doubt::Of(BTreeSet::new())
            };
            pending = self.round(waiting, &doubt);
            if stop {
                return;
            }
        }
    }

    /// How long nothing needs to be done. `at`: something is, whatever else.
    fn idle(&self, at: Instant) -> Duration {
        let now = Instant::now();
        // A container's that failed has its turn among the others.
        let failed = self.failed.iter().map(|(name, at)| match name.is_sandbox() {
            true => self.slack.next(now).max(*at),
            false => *at,
        });
        let others = self.suspects_at.iter().chain(&self.blocked_at).copied();
        let others = others.chain(self.storing.retry_at());
        let next = failed.chain(others).fold(at, Instant::min);
        next.saturating_duration_since(now)
    }

    /// Finds the namespaces that a sign gives reason to look at. What we do ourselves
    /// makes the same signs; most of those are told apart here, and the rest cost a look.
    fn heed(&mut self, place: &NsName, sign: &Sign) {
        let mut suspects: Vec<NsName> = match sign {
            Sign::Missed => self.applied.keys().cloned().collect(),
            Sign::Rules(generation) if self.spaces.wrote(place, *generation) => Vec::new(),
            Sign::Rules(_) | Sign::Routing => vec![place.clone()],
            Sign::Link(link) => self.owners(place, link),
        };
        suspects.retain(|name| self.applied.contains_key(name));
        if suspects.is_empty() {
            return;
        }
        tracing::debug!(namespace = %place, ?sign, "somebody may have changed a network namespace");
        self.shared.metrics.sign();
        self.suspects.extend(suspects);
        let at = self.calm_until.max(Instant::now() + SETTLE);
        self.suspects_at.get_or_insert(at);
    }

    /// The namespaces whose plans have, or need, a link that is in `place`.
    fn owners(&self, place: &NsName, link: &str) -> Vec<NsName> {
        // With a bridge its ports come loose.
        let far = |plan: &NsPlan| {
            let mut cables = plan.cables.iter().filter(|c| c.port_ns == *place);
            cables.any(|c| c.port == link || c.bridge == link)
        };
        let here = |plan: &NsPlan| {
            plan.bridges.iter().any(|b| b.name == link)
                || plan.vxlans.iter().any(|v| v.name == link)
                || plan.cables.iter().any(|c| c.interface == link)
        };
        self.applied
            .iter()
            .filter(|(name, plan)| far(plan) || (*name == place && here(plan)))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// One round. When more is to be done that nobody waits for.
    fn round(&mut self, waiting: Vec<(Interest, Reply)>, doubt: &Doubt) -> Option<Instant> {
        let verify = matches!(doubt, Doubt::All);
        if verify {
            self.look_around();
        }
        let rerouted = doubt.about(&NsName::Host);
        if rerouted {
            self.read_routes();
        }
        let busy = !waiting.is_empty();
        let stored = |interest: &Interest| matches!(interest, Interest::Stored(_));
        let asked = waiting.iter().any(|(interest, _)| stored(interest));
        let (plans, disk) = self.prepare(rerouted, asked);
        let waiting = match disk {
            Ok(()) => waiting,
            // The others' namespaces are brought up to date all the same.
            Err(error) => {
                let (refused, waiting) = waiting.into_iter().partition(|(i, _)| stored(i));
                refuse(refused, &error);
                waiting
            }
        };
        // What failed may be there in part.
        let failed = self.failed.keys();
        let differing =
            merge::join(&*plans, &self.applied).filter(|(_, plan, applied)| plan != applied);
        let dirty: BTreeSet<NsName> =
            differing.map(|(name, ..)| name).chain(failed).cloned().collect();
        // What is not to be done any more is not to be tried again.
        self.failed.retain(|name, _| dirty.contains(name));
        self.troubles.retain(|name, _| dirty.contains(name));
        let now = Instant::now();
        let mut which: BTreeSet<NsName> = BTreeSet::new();
        if verify {
            which.extend(plans.keys().cloned());
            which.extend(dirty.iter().cloned());
        } else {
            // Also while somebody waits for others: else a busy host would never come to these.
            let ripe = dirty.iter().filter(|n| self.failed.get(*n).is_none_or(|at| *at <= now));
            which.extend(self.slack.take(&ripe.cloned().collect(), now));
        }
        let unasked = if verify { 0 } else { which.iter().filter(|n| n.is_sandbox()).count() };
        for (interest, _) in &waiting {
            match interest {
                Interest::Only(names) | Interest::Stored(names) => {
                    which.extend(names.intersection(&dirty).cloned());
                }
                Interest::Verified => which.extend(dirty.iter().cloned()),
            }
        }
        if let Doubt::Of(names) = doubt {
            which.extend(names.iter().filter(|n| plans.contains_key(*n)).cloned());
        }
        // A cable needs the bridge at its other end.
        let far = which.iter().filter_map(|name| plans.get(name)).flat_map(|plan| &plan.cables);
        let far: Vec<NsName> = far.map(|cable| cable.port_ns.clone()).collect();
        which.extend(far.into_iter().filter(|name| dirty.contains(name)));
        let results = self.apply(&plans, &which, doubt);
        if unasked > 0 {
            let (part, all) = (u32::try_from(unasked), u32::try_from(which.len()));
            let (part, all) = (part.unwrap_or(u32::MAX), all.unwrap_or(u32::MAX));
            let share = now.elapsed().mul_f64(f64::from(part) / f64::from(all));
            self.slack.spent(share, busy, Instant::now());
        }
        self.listen(&plans);
        for (interest, reply) in waiting {
            // Who stopped waiting does not need an answer.
            let _ = reply.send(Ok(answer(&interest, &results)));
        }
        let left = dirty
            .iter()
            .any(|n| !which.contains(n) && self.failed.get(n).is_none_or(|at| *at <= now));
        left.then(|| self.slack.next(Instant::now()))
    }

    /// Holds ports, stores the state, makes the plans. `asked`: somebody waits for the state to be stored.
    fn prepare(
        &mut self,
        rerouted: bool,
        asked: bool,
    ) -> (Arc<HostPlan>, std::result::Result<(), Arc<NetError>>) {
        let mut state = self.shared.lock();
        let version = state.version;
        let changed = self.planned != Some(version);
        if changed {
            self.services = state.world.services();
        }
        let wanted = &self.services.mesh;
        let refused = state.ports.mesh(wanted);
        self.blocked_at = (!refused.is_empty()).then(|| Instant::now() + RETRY_PORTS);
        state.world.facts.blocked_ports = refused.keys().copied().collect();
        self.tell_blocked(wanted, &refused);
        if changed || rerouted {
            self.tell_collisions(state.world.collisions());
        }
        if changed || self.planned_for.as_ref() != Some(&state.world.facts) {
            let mut plans = self.planner.plan(&state.world, &self.services);
            // What is as it was is held once, and found equal without being read. Containers' plans are already.
            for (name, plan) in plans.iter_mut().filter(|(name, _)| !name.is_sandbox()) {
                if let Some(applied) = self.applied.get(name).filter(|applied| *applied == plan) {
                    *plan = applied.clone();
                }
            }
            self.plans = Arc::new(plans);
            self.planned_for = Some(state.world.facts.clone());
        }
        let due = self.storing.due(&state.world, version, asked, Instant::now());
        drop(state);
        self.planned = Some(version);
        let plans = Arc::clone(&self.plans);
        // Before the kernel is touched, so that a crash leaves nothing that nobody knows of.
        let disk = due.map_or(Ok(()), |due| self.storing.store(&self.shared, due));
        (plans, disk)
    }

    /// Has ports listened on whose rules are in force: all that were held when the plans were made.
    fn listen(&self, plans: &HostPlan) {
        if self.applied.get(&NsName::Host) != plans.get(&NsName::Host) {
            return;
        }
        let mut state = self.shared.lock();
        // What was published since comes with the next round.
        if self.planned == Some(state.version) {
            state.ports.listen();
        }
    }

    /// Says which ports of the routing mesh are not free, as far as that is news.
    fn tell_blocked(
        &self,
        wanted: &BTreeMap<(Protocol, u16), MeshPort>,
        refused: &BTreeMap<(Protocol, u16), NetError>,
    ) {
        let now: BlockedPorts = wanted
            .iter()
            .filter_map(|(key, mesh)| {
                let blocked = BlockedPort {
                    service: mesh.service_id.as_str().into(),
                    service_name: mesh.service.clone(),
                    reason: skep_types::report(refused.get(key)?),
                };
                Some((*key, blocked))
            })
            .collect();
        self.shared.blocked.send_if_modified(|before| {
            for ((protocol, port), blocked) in now.iter().filter(|(k, _)| !before.contains_key(k)) {
                tracing::error!(
                    %protocol, port, service = blocked.service_name, reason = blocked.reason,
                    "a port of the routing mesh is not free on this host"
                );
            }
            for ((protocol, port), blocked) in before.iter().filter(|(k, _)| !now.contains_key(k)) {
                tracing::info!(
                    %protocol, port, service = blocked.service_name,
                    "a port of the routing mesh is blocked no more"
                );
            }
            let news = *before != now;
            *before = now;
            news
        });
    }

    /// Says which networks hide a route of the host, or the other way round, as far as that is news.
    fn tell_collisions(&self, now: Vec<String>) {
        let before = std::mem::replace(&mut lock(&self.shared.problems).collisions, now.clone());
        for collision in now.iter().filter(|c| !before.contains(c)) {
            tracing::warn!(collision, "a network and a route of this host overlap");
        }
        for collision in before.iter().filter(|c| !now.contains(c)) {
            tracing::info!(collision, "a network and a route of this host overlap no more");
        }
    }

    fn apply(&mut self, plans: &HostPlan, which: &BTreeSet<NsName>, doubt: &Doubt) -> Results {
        if matches!(doubt, Doubt::All) {
            // First, because what an earlier daemon left may hold what is needed now.
            match self.spaces.sweep(plans) {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "removed leftover network namespaces"),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot sweep network namespaces"
                    );
                }
            }
        }
        let mut results = Results::new();
        let applied = self.spaces.apply(plans, which, |name| doubt.about(name));
        self.shared.metrics.verified(applied.len());
        for (name, result) in applied {
            match result {
                Ok(changed) => {
                    self.succeeded(&name, plans.get(&name), changed);
                    results.insert(name, Ok(changed));
                }
                Err(error) => {
                    let error = Arc::new(error);
                    self.failed(&name, &error);
                    results.insert(name, Err(error));
                }
            }
        }
        results
    }

    fn succeeded(&mut self, name: &NsName, plan: Option<&Planned>, changed: usize) {
        // Only what had been as planned can have drifted.
        let adopted = self.spaces.take_adopted(name);
        let known = plan.is_some() && self.applied.get(name) == plan;
        if (known || adopted) && changed > 0 {
            self.shared.metrics.repaired(name, changed);
            tracing::warn!(
                namespace = %name,
                repairs = changed,
                since = if known { "the last look" } else { "an earlier daemon" },
                "the kernel had drifted from the plan; repaired"
            );
        }
        match plan {
            Some(plan) => self.applied.insert(name.clone(), plan.clone()),
            None => self.applied.remove(name),
        };
        self.failed.remove(name);
        self.troubles.remove(name);
        lock(&self.shared.problems).namespaces.remove(name);
    }

    fn failed(&mut self, name: &NsName, error: &Arc<NetError>) {
        let reason = skep_types::report(error);
        let trouble = self.troubles.entry(name.clone()).or_default();
        if let Some(failures) = trouble.failed(Instant::now(), &reason) {
            tracing::error!(
                namespace = %name,
                error = reason,
                failures,
                "cannot bring a network namespace into its planned state"
            );
        }
        self.shared.metrics.failed(name);
        // Unknown until it succeeds, so that it stays on the list.
        self.applied.remove(name);
        self.failed.insert(name.clone(), Instant::now() + RETRY);
        lock(&self.shared.problems).namespaces.insert(name.clone(), skep_types::report(error));
    }

    /// Refreshes the host's routes, and who else wants our bridges' names.
    fn read_routes(&mut self) {
        let bridges = self.shared.read(|world| world.bridge_names());
        let Some(netlink) = self.spaces.host_netlink() else { return };
        match host_routes::of_host(netlink, &bridges, &self.shared.config.resolv_conf) {
            Ok(routes) => self.shared.lock().world.facts.host_routes = routes,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the host's routes"
                );
            }
        }
        match host_routes::claims(netlink, &self.shared.config) {
            Ok(claims) => self.shared.lock().world.facts.claims = claims,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the host's links"
                );
            }
        }
    }

    /// Refreshes what is known of the host: the underlay's MTU.
    fn look_around(&mut self) {
        let cluster = self.shared.read(|w| w.running.cluster.clone());
        let Some(IpAddr::V4(address)) = cluster.map(|c| c.data_path_addr) else { return };
        let Some(netlink) = self.spaces.host_netlink() else { return };
        match mtu_of(netlink, "host", address) {
            Ok(Some(mtu)) => {
                // Loopback's 65536 is no sensible underlay and does not fit.
                let mtu = u16::try_from(mtu).unwrap_or(links::ETHERNET_MTU);
                self.shared.lock().world.facts.underlay_mtu = mtu;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the underlay's MTU"
                );
            }
        }
    }
}

/// What became of namespaces that were looked at.
pub type Results = BTreeMap<NsName, Result<usize, Arc<NetError>>>;

impl ReconcileReport {
    /// Counts.
    pub fn of(results: &Results) -> Self {
        let failures = results.values().filter(|result| result.is_err()).count();
        let repairs = results.values().filter_map(|result| result.as_ref().ok()).sum();
        Self { namespaces: results.len(), repairs, failures }
    }
}

fn answer(interest: &Interest, results: &Results) -> Results {
    match interest {
        Interest::Only(names) | Interest::Stored(names) => {
            let mine = results.iter().filter(|(name, _)| names.contains(name));
            mine.map(|(name, result)| (name.clone(), result.clone())).collect()
        }
        Interest::Verified => results.clone(),
    }
}

/// Refuses what could not be written down.
fn refuse(waiting: Vec<(Interest, Reply)>, error: &Arc<NetError>) {
    for (_, reply) in waiting {
        let error = NetError::NotStored { source: Arc::clone(error) };
        // Who stopped waiting does not need an answer.
        let _ = reply.send(Err(error));
    }
}
