//! Namespaces at work: opened or made, brought into their planned state, removed.

use super::links::{self, CableEnds, Link, Links};
use super::netlink::Netlink;
use super::pins::{HOST_PIN, Pins};
use super::reaper::Reaper;
use super::routes::Connected;
use super::rules::Rules;
use super::traffic::Traffic;
use super::watch::{Ears, Heard, Listener};
use super::{conntrack, gate, nft, peers, refused, routes, sysctl};
use crate::cidr::Mac;
use crate::error::{NetError, Result};
use crate::files;
use crate::plan::{Applied, CablePlan, HostPlan, NsName, NsPlan, OVERLAY_PREFIX, Planned};
use rtnetlink::packet_route::link::InfoKind;
use skep_sys::files::KernelDir;
use skep_sys::netns::NetNs;
use skep_types::Repeated;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Namespaces worked on at the same time. The work is short system calls and `nft`
/// processes; more would only queue at the kernel's one lock for links.
const WORKERS: usize = 4;

/// A namespace that is open.
pub struct Space {
    name: NsName,
    ns: Arc<NetNs>,
    netlink: Netlink,
    rules: Rules,
    /// The plan whose flows connection tracking was last made to agree with; `None` when not known.
    flows: Option<Planned>,
    /// The bridges for which the way through iptables was last looked at; `None` when that may have changed.
    gate: Option<BTreeSet<String>>,
    /// Why that look failed, as last told.
    gate_failure: Option<String>,
    /// The plan that it was last brought to; `None` when not known.
    plan: Option<Planned>,
    /// Whether meddling is heard of.
    _heard: Option<Heard>,
}

/// Where things are.
#[derive(Debug, Clone)]
struct Places {
    pins: Arc<Pins>,
    /// What was written to nftables, per namespace.
    rules: PathBuf,
    nft: nft::Nft,
    /// The host's settings of IPv6, whose name would be looked for among those of all namespaces; `None` without IPv6.
    ipv6: Option<Arc<KernelDir>>,
    /// Records of rules that cannot be written.
    trouble: Arc<Mutex<Repeated>>,
}

/// Handles by namespace, shared with whoever opens sockets inside.
pub type Handles = Arc<Mutex<BTreeMap<NsName, Arc<NetNs>>>>;

/// All namespaces of this host.
pub struct Spaces {
    places: Places,
    spaces: BTreeMap<NsName, Space>,
    handles: Handles,
    reaper: Reaper,
    /// Where signs of meddling are heard.
    ears: Option<Ears>,
    /// Opened as an earlier daemon left them, and not yet compared with a plan.
    adopted: BTreeSet<NsName>,
}

/// What a job may look at beside its own namespace.
struct Context<'a> {
    places: &'a Places,
    /// The host's namespace, and those that cables end in.
    handles: BTreeMap<NsName, Arc<NetNs>>,
    /// Whether containers are going, whose cables the reaper may take.
    removing: bool,
    reaper: &'a Reaper,
}

impl Spaces {
    /// Opens the host's namespace (the calling thread's) and the folders.
    pub fn open(pins: PathBuf, rules: PathBuf, nft: nft::Nft) -> Result<Self> {
        for folder in [&pins, &rules] {
            files::own_folder(folder)?;
        }
        let host = NetNs::current().map_err(namespace("open", &pins))?;
        let reaper = Reaper::start(Arc::clone(&nft.traffic))
            .map_err(namespace("start the reaper for", &pins))?;
        let pins = Arc::new(Pins::open(pins)?);
        if !pins.shows(HOST_PIN, &host) {
            pins.pin(&NsName::Host, HOST_PIN, &host)?;
        }
        let ipv6 = sysctl::folder("net/ipv6")?.map(Arc::new);
        let mut spaces = Self {
            places: Places { pins, rules, nft, ipv6, trouble: Arc::default() },
            spaces: BTreeMap::new(),
            handles: Arc::default(),
            reaper,
            ears: None,
            adopted: BTreeSet::new(),
        };
        spaces.insert(NsName::Host, Arc::new(host), false)?;
        Ok(spaces)
    }

    /// Handles of the open namespaces.
    pub fn handles(&self) -> Handles {
        Arc::clone(&self.handles)
    }

    /// A netlink connection of the host's namespace.
    pub fn host_netlink(&mut self) -> Option<&mut Netlink> {
        self.spaces.get_mut(&NsName::Host).map(|s| &mut s.netlink)
    }

    /// Tells `listener` from now on when somebody else may have changed a namespace.
    pub fn listen(&mut self, runtime: tokio::runtime::Handle, listener: Listener) {
        let Some(host) = self.spaces.get(&NsName::Host).map(|s| Arc::clone(&s.ns)) else { return };
        self.ears = Ears::open(&runtime, &host, &listener).map_err(not_heard(&NsName::Host)).ok();
        let heard: Vec<_> =
            self.spaces.values().map(|s| (s.name.clone(), self.hear(&s.name, &s.ns))).collect();
        for (name, heard) in heard {
            if let Some(space) = self.spaces.get_mut(&name) {
                space._heard = heard;
            }
        }
    }

    fn hear(&self, name: &NsName, ns: &NetNs) -> Option<Heard> {
        let host = self.spaces.get(&NsName::Host)?;
        if *name == NsName::Host {
            return None;
        }
        self.ears.as_ref()?.hear(&host.ns, ns, name).map_err(not_heard(name)).ok()
    }

    /// Whether a namespace was opened as an earlier daemon left it. Says so once.
    pub fn take_adopted(&mut self, name: &NsName) -> bool {
        self.adopted.remove(name)
    }

    /// Whether our own latest transaction in a namespace is at least as new as this
    /// nftables generation.
    pub fn wrote(&self, name: &NsName, generation: u32) -> bool {
        self.spaces.get(name).is_some_and(|space| space.rules.wrote(generation))
    }

    fn insert(&mut self, name: NsName, ns: Arc<NetNs>, fresh: bool) -> Result<()> {
        let label = name.to_string();
        let traffic = &self.places.nft.traffic;
        let opened = ns.run(|| Ok((Netlink::open(traffic)?, nft::generation(traffic)?)));
        let (netlink, generation) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(source)) | Err(source) => return Err(refused(&label, "open netlink")(source)),
        };
        // A namespace just made has no rules; of another we know what is on record.
        let rules = Rules::noted(if fresh {
            Some(Applied { generation, ..Applied::default() })
        } else {
            self.places.load(&name)
        });
        // The host's namespace is there before our first start.
        if !fresh && (name != NsName::Host || rules.is_known()) {
            self.adopted.insert(name.clone());
        }
        lock(&self.handles).insert(name.clone(), Arc::clone(&ns));
        let _heard = self.hear(&name, &ns);
        let space = Space {
            name: name.clone(),
            ns,
            netlink,
            rules,
            flows: None,
            gate: None,
            gate_failure: None,
            plan: None,
            _heard,
        };
        self.spaces.insert(name, space);
        Ok(())
    }

    /// Brings the namespaces in `which` into their planned state; those without a
    /// plan are removed. What was made earlier is taken to be still there but in the `doubted`
    /// ones. Returns per namespace how much had to be changed, or why it failed.
    pub fn apply(
        &mut self,
        plans: &HostPlan,
        which: &BTreeSet<NsName>,
        doubted: impl Fn(&NsName) -> bool,
    ) -> BTreeMap<NsName, Result<usize>> {
        self.free_tunnels(plans);
        let mut results = BTreeMap::new();
        let wanted = which.iter().filter_map(|n| Some((n, plans.get(n)?)));
        // A cable may end on the bridge of a namespace that has not been opened in
        // this life of the daemon.
        let needed: BTreeSet<&NsName> = wanted
            .flat_map(|(name, plan)| {
                let far = plan.cables.iter().map(|c| &c.port_ns).filter(|n| plans.contains_key(n));
                std::iter::once(name).chain(far)
            })
            .collect();
        let mut pins = BTreeMap::new();
        for name in needed {
            match self.ensure(name, doubted(name)) {
                Ok(0) => {}
                Ok(changed) => {
                    pins.insert(name.clone(), changed);
                }
                Err(error) => {
                    results.insert(name.clone(), Err(error));
                }
            }
        }
        let removing = which.iter().any(|n| !plans.contains_key(n));
        let handles = {
            let open = lock(&self.handles);
            let ends = which.iter().filter_map(|n| plans.get(n)).flat_map(|p| &p.cables);
            let ends: BTreeSet<&NsName> = ends.map(|c| &c.port_ns).chain([&NsName::Host]).collect();
            ends.into_iter().filter_map(|n| Some((n.clone(), Arc::clone(open.get(n)?)))).collect()
        };
        let context = Context { places: &self.places, handles, removing, reaper: &self.reaper };
        for space in self.spaces.values_mut().filter(|s| doubted(&s.name)) {
            // To be read back, not believed.
            space.plan = None;
            space.gate = None;
        }
        // Bridges before the cables that end on them. Where they are there nobody has to wait for anybody,
        // so that a change of rotation is in force everywhere at once.
        let first: BTreeSet<NsName> = self
            .spaces
            .values()
            .filter(|s| matches!(s.name, NsName::Host | NsName::Overlay(_)))
            .filter(|s| {
                let bridges = |plan: &Planned| plan.bridges.clone();
                s.plan.is_none() || s.plan.as_ref().map(bridges) != plans.get(&s.name).map(bridges)
            })
            .map(|s| s.name.clone())
            .collect();
        for now in [true, false] {
            let jobs: VecDeque<(&mut Space, &Planned)> = self
                .spaces
                .values_mut()
                .filter(|s| which.contains(&s.name) && !results.contains_key(&s.name))
                .filter(|s| first.contains(&s.name) == now)
                .filter_map(|s| plans.get(&s.name).map(|plan| (s, plan)))
                .collect();
            results.extend(run(jobs, &context));
        }
        for (name, more) in pins {
            if let Some(Ok(changed)) = results.get_mut(&name) {
                *changed += more;
            }
        }
        for name in which.iter().filter(|n| !plans.contains_key(*n)) {
            results.insert(name.clone(), self.remove(name).map(usize::from));
        }
        results
    }

    /// Takes the VXLAN devices out of overlays that no plan speaks of. The kernel
    /// takes a namespace apart some time after its last user left, and until then its
    /// devices hold their ids in the host's namespace: an overlay that is made again
    /// soon, or another with the same id, could not be.
    fn free_tunnels(&mut self, plans: &HostPlan) {
        let gone = self
            .spaces
            .values_mut()
            .filter(|s| matches!(s.name, NsName::Overlay(_)) && !plans.contains_key(&s.name));
        for space in gone {
            let label = space.name.to_string();
            if let Err(error) = links::remove_vxlans(&mut space.netlink, &label) {
                tracing::warn!(
                    namespace = label,
                    error = &error as &dyn std::error::Error,
                    "cannot free a VXLAN id"
                );
            }
        }
    }

    /// Opens or makes a namespace, and pins a doubted one again where the pin was taken away.
    /// How much had to be changed in one that was open.
    fn ensure(&mut self, name: &NsName, doubted: bool) -> Result<usize> {
        let Some(file) = name.file() else { return Ok(0) };
        let pins = &self.places.pins;
        if let Some(space) = self.spaces.get(name) {
            let intact = !doubted || pins.shows(&file, &space.ns);
            return if intact { Ok(0) } else { pins.pin(name, &file, &space.ns).map(|()| 1) };
        }
        match pins.find(name, &file) {
            Ok(_) if !self.places.record(name).exists() => {
                return Err(NetError::PinOfAnother { path: pins.path(&file) });
            }
            Ok(ns) => self.insert(name.clone(), Arc::new(ns), false)?,
            Err(_) => {
                // First, for it says that the namespace is ours.
                self.places.store(name, &Applied::default())?;
                let ns = NetNs::anonymous().map_err(namespace("create", &pins.path(&file)))?;
                pins.pin(name, &file, &ns)?;
                self.insert(name.clone(), Arc::new(ns), true)?;
            }
        }
        Ok(0)
    }

    /// Whether there was something to remove.
    fn remove(&mut self, name: &NsName) -> Result<bool> {
        let Some(file) = name.file() else { return Ok(false) };
        let known = self.spaces.remove(name).is_some();
        self.adopted.remove(name);
        lock(&self.handles).remove(name);
        // Without a record it was never ours, whatever the plan wanted there.
        if !known && !self.places.record(name).exists() {
            return Ok(false);
        }
        let pinned = unpin(&self.places.pins, &file, &self.places.nft.traffic)?;
        self.places.forget(name);
        Ok(known || pinned)
    }

    /// Removes pins that no plan speaks of, as an earlier daemon may have left them. Those without a record
    /// are somebody else's.
    pub fn sweep(&mut self, plans: &HostPlan) -> Result<usize> {
        let wanted: BTreeSet<String> = plans.keys().filter_map(NsName::file).collect();
        let known: BTreeSet<String> = self.spaces.keys().filter_map(NsName::file).collect();
        let mut removed = 0;
        for file in self.places.pins.list()? {
            if wanted.contains(&file) || known.contains(&file) {
                continue;
            }
            if !self.places.record_of(&file).exists() {
                continue;
            }
            unpin(&self.places.pins, &file, &self.places.nft.traffic)?;
            forget(&self.places.record_of(&file));
            removed += 1;
        }
        Ok(removed)
    }
}

impl Places {
    fn record(&self, name: &NsName) -> PathBuf {
        self.record_of(&name.to_string())
    }

    /// The record of what is pinned under a file name.
    fn record_of(&self, file: &str) -> PathBuf {
        self.rules.join(format!("{file}.json"))
    }

    fn load(&self, name: &NsName) -> Option<Applied> {
        // A record that cannot be read only costs one full replacement of the rules.
        serde_json::from_slice(&skep_sys::files::read_existing(&self.record(name)).ok()?).ok()
    }

    fn store(&self, name: &NsName, applied: &Applied) -> Result<()> {
        files::replace_json(&self.record(name), applied, files::Durability::Volatile)
    }

    /// The same where there is a record already. One that cannot be written costs one full replacement of
    /// the rules at the next start, no more: the old one, of another generation, is not believed then.
    fn update(&self, name: &NsName, applied: &Applied) {
        let stored = self.store(name, applied);
        let mut trouble = lock(&self.trouble);
        match stored {
            Ok(()) => drop(trouble.succeeded()),
            Err(error) => {
                let reason = skep_types::report(&error);
                if let Some(failures) = trouble.failed(Instant::now(), &reason) {
                    tracing::warn!(error = reason, failures, "cannot store a record of rules");
                }
            }
        }
    }

    fn forget(&self, name: &NsName) {
        forget(&self.record(name));
    }
}

fn forget(record: &Path) {
    if let Err(error) = skep_sys::files::remove_file(record, files::Durability::Volatile) {
        tracing::warn!(%error, path = %record.display(), "cannot remove a record of rules");
    }
}

fn namespace(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> NetError {
    let path = path.to_owned();
    move |source| NetError::Namespace { action, path, source }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_heard(name: &NsName) -> impl Fn(std::io::Error) -> std::io::Error {
    move |error| {
        tracing::warn!(namespace = %name, %error, "cannot listen for changes; they are found at intervals");
        error
    }
}

/// Removes a pin, after the VXLAN devices behind it: see [`Spaces::free_tunnels`]. Whether there was one.
fn unpin(pins: &Pins, file: &str, traffic: &Arc<Traffic>) -> Result<bool> {
    // What is no namespace has nothing in it.
    if file.starts_with(OVERLAY_PREFIX)
        && let Ok(ns) = NetNs::open(&pins.path(file))
    {
        match ns.run(|| Netlink::open(traffic)) {
            Ok(Ok(mut netlink)) => links::remove_vxlans(&mut netlink, file)?,
            Ok(Err(source)) | Err(source) => return Err(refused(file, "open netlink")(source)),
        }
    }
    pins.remove(file)
}

fn run(
    jobs: VecDeque<(&mut Space, &Planned)>,
    context: &Context<'_>,
) -> BTreeMap<NsName, Result<usize>> {
    let workers = WORKERS.min(jobs.len());
    let queue = Mutex::new(jobs);
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some((space, plan)) = lock(&queue).pop_front() else { break };
                    let name = space.name.clone();
                    // This thread ends with the jobs.
                    let entered = space
                        .ns
                        .enter()
                        .map_err(namespace("enter", &context.places.pins.path(&name.to_string())));
                    let result = entered.and_then(|()| converge(space, plan, context));
                    if name.is_sandbox() {
                        // There are many, and hardly ever something to do in one.
                        space.netlink.rest();
                    }
                    lock(&results).insert(name, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Brings one namespace into its planned state. Runs inside it.
fn converge(space: &mut Space, plan: &Planned, context: &Context<'_>) -> Result<usize> {
    // Not known, should this fail half way.
    let changed = match space.plan.take() {
        Some(before) if plan.differs_lightly(&before) => advance(space, &before, plan, context)?,
        before => settle(space, before.as_ref(), plan, context)?,
    };
    space.plan = Some(plan.clone());
    Ok(changed)
}

/// From a plan that is in force to one that has other rules, peers or ports: touches these and reads nothing else. So a
/// container that comes to a host costs the same however many are there.
fn advance(
    space: &mut Space,
    before: &Planned,
    plan: &Planned,
    context: &Context<'_>,
) -> Result<usize> {
    let label = space.name.to_string();
    let mut changed = 0;
    for port in before.ports.difference(&plan.ports) {
        let Some(link) = links::get(&mut space.netlink, &label, port)? else { continue };
        if !context.reaper.has(&space.name, link.index) {
            discard(space, port, &link, context)?;
            changed += 1;
        }
    }
    for (old, new) in before.vxlans.iter().zip(&plan.vxlans).filter(|(old, new)| old != new) {
        if let Some(link) = links::get(&mut space.netlink, &label, &new.name)? {
            changed += peers::change(&mut space.netlink, &label, link.index, old, new)?;
        }
    }
    changed += write_rules(space, plan, context)?;
    if space.name == NsName::Host {
        changed += open_gate(space, plan);
    }
    forget_flows(space, plan, context);
    Ok(changed)
}

/// Compares a namespace with its plan, and makes it so. Of the plan that it was brought to before only the settings are
/// believed: their names are looked for among those of all namespaces.
fn settle(
    space: &mut Space,
    before: Option<&Planned>,
    plan: &Planned,
    context: &Context<'_>,
) -> Result<usize> {
    let label = space.name.to_string();
    let known = before.map_or(&[][..], |before| &before.sysctls);
    let mut changed = sysctl::apply(plan.sysctls.iter().filter(|s| !known.contains(s)))?;
    let mut found = links::read(&mut space.netlink, &label)?;
    if space.name != NsName::Host {
        if found.keys().all(|name| name == "lo") {
            // Nothing has ever come here.
            space.flows.get_or_insert_with(|| plan.clone());
        }
        changed += links::loopback(&mut space.netlink, &label, &found)?;
    }
    for bridge in &plan.bridges {
        changed += links::bridge(&mut space.netlink, &label, bridge, &mut found)?;
    }
    changed += collect(space, plan, context, &mut found)?;
    for vxlan in &plan.vxlans {
        let Some(host) = context.handles.get(&NsName::Host) else { continue };
        let mut underlay = open(host, &NsName::Host, space.netlink.traffic())?;
        let target = space.ns.fd().map_err(refused(&label, "find"))?;
        let target = target.as_fd();
        changed +=
            links::vxlan(&mut space.netlink, &mut underlay, target, &label, vxlan, &mut found)?;
    }
    if matches!(space.name, NsName::Overlay(_)) {
        let entries = peers::Entries::read(&mut space.netlink, &label)?;
        for vxlan in &plan.vxlans {
            let Some(link) = found.get(&vxlan.name) else { continue };
            changed += peers::apply(&mut space.netlink, &label, link.index, vxlan, &entries)?;
        }
        let links = found.values();
        let own = links.filter_map(|l| Some((l.index, Mac(<[u8; 6]>::try_from(&l.mac[..]).ok()?))));
        changed += peers::unlearn(&mut space.netlink, &label, &own.collect(), &entries)?;
    }
    changed += write_rules(space, plan, context)?;
    if space.name == NsName::Host {
        changed += open_gate(space, plan);
    }
    for cable in &plan.cables {
        changed += lay(space, cable, context, &mut found)?;
    }
    changed += assign(space, plan, &found)?;
    let connected = connected(plan, &found);
    changed += routes::routes(&mut space.netlink, &label, &plan.routes, &connected, &found)?;
    changed += routes::marks(&mut space.netlink, &label, &plan.marks)?;
    // Once more for interfaces that did not exist the first time.
    changed += sysctl::apply(plan.sysctls.iter().filter(|s| sysctl::is_of_interface(s)))?;
    forget_flows(space, plan, context);
    Ok(changed)
}

/// Makes connection tracking agree with the planned flows. A drained backend that goes changes no rule, only where
/// flows may lead.
fn forget_flows(space: &mut Space, plan: &Planned, context: &Context<'_>) {
    let label = space.name.to_string();
    let before = space.flows.iter().flat_map(Planned::flows);
    let outdated = conntrack::outdated(before, plan.flows());
    match conntrack::flush(&context.places.nft.traffic, &outdated) {
        Ok(flows) => {
            if flows > 0 {
                tracing::debug!(namespace = label, flows, "forgot outdated flows");
            }
            space.flows = Some(plan.clone());
        }
        Err(error) => tracing::warn!(namespace = label, %error, "cannot forget outdated flows"),
    }
}

/// Removes links that no plan speaks of: in the host only bridges that carry our
/// mark and ports on our bridges, in a container's namespace nothing (it may have
/// made links itself), elsewhere everything of the kinds we make.
fn collect(
    space: &mut Space,
    plan: &NsPlan,
    context: &Context<'_>,
    found: &mut Links,
) -> Result<usize> {
    let planned = |name: &str| {
        plan.bridges.iter().any(|b| b.name == name)
            || plan.vxlans.iter().any(|v| v.name == name)
            || plan.cables.iter().any(|c| c.interface == name)
            || plan.ports.contains(name)
    };
    let bridges: BTreeSet<u32> =
        plan.bridges.iter().filter_map(|b| found.get(&b.name)).map(|l| l.index).collect();
    let doomed: Vec<String> = found
        .iter()
        .filter(|(name, link)| {
            !planned(name)
                && !context.reaper.has(&space.name, link.index)
                && match space.name {
                    NsName::Sandbox(_) => false,
                    NsName::Host => {
                        link.is_ours()
                            || (is_port_name(name)
                                && link.master.is_some_and(|m| bridges.contains(&m)))
                    }
                    _ => matches!(
                        link.kind,
                        Some(InfoKind::Bridge | InfoKind::Veth | InfoKind::Vxlan)
                    ),
                }
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in &doomed {
        let Some(link) = found.remove(name) else { continue };
        discard(space, name, &link, context)?;
    }
    Ok(doomed.len())
}

/// Removes a link, or has it removed soon.
fn discard(space: &mut Space, name: &str, link: &Link, context: &Context<'_>) -> Result<()> {
    let label = space.name.to_string();
    if context.removing && is_port_name(name) && link.master.is_some() {
        links::silence(&mut space.netlink, &label, name, link)?;
        context.reaper.take(&space.name, &space.ns, link.index);
        return Ok(());
    }
    links::remove(&mut space.netlink, &label, name, link.index)
}

/// `veth` and seven hex digits, as [`crate::world::port_name`] makes them.
fn is_port_name(name: &str) -> bool {
    name.strip_prefix("veth")
        .is_some_and(|rest| rest.len() == 7 && rest.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Sees to the way through iptables, where bridges or somebody's rules may have changed it. An iptables that
/// cannot be used here, as beside rules that only nft understands, keeps nothing else from being made; it is
/// tried again with the next comparison.
fn open_gate(space: &mut Space, plan: &NsPlan) -> usize {
    let bridges: BTreeSet<String> = plan.bridges.iter().map(|b| b.name.clone()).collect();
    if space.gate.as_ref() == Some(&bridges) {
        return 0;
    }
    let names = bridges.iter().map(String::as_str).collect();
    let applied = gate::apply(&space.name.to_string(), &names);
    let (changed, failure) = match applied {
        Ok(changed) => (changed, None),
        Err(error) => (0, Some(skep_types::report(&error))),
    };
    if let Some(error) = failure.as_ref().filter(|_| failure != space.gate_failure) {
        tracing::warn!(error, "another's FORWARD chain may drop containers' packets");
    }
    space.gate_failure = failure;
    space.gate = Some(bridges);
    changed
}

/// Makes our table the planned one.
fn write_rules(space: &mut Space, plan: &Planned, context: &Context<'_>) -> Result<usize> {
    let label = space.name.to_string();
    let note = |applied: &Applied| context.places.update(&space.name, applied);
    let written = space.rules.write(&context.places.nft, &label, &plan.ruleset(), note);
    if !written.as_ref().is_ok_and(|written| !written.meddled) {
        space.gate = None;
    }
    let written = written?;
    if written.replaced {
        // Under rules that were not ours anything may have been remembered.
        space.flows = None;
    }
    Ok(written.changed)
}

fn lay(
    space: &mut Space,
    cable: &CablePlan,
    context: &Context<'_>,
    found: &mut Links,
) -> Result<usize> {
    let label = space.name.to_string();
    let Some(outer_ns) = context.handles.get(&cable.port_ns) else {
        return Err(NetError::Overlay {
            network: cable.port_ns.to_string(),
            why: "its namespace could not be made",
        });
    };
    let mut outer = open(outer_ns, &cable.port_ns, space.netlink.traffic())?;
    let port = links::get(&mut outer, &cable.port_ns.to_string(), &cable.port)?;
    let inner_ns = space.ns.fd().map_err(refused(&label, "find"))?;
    let mut ends = CableEnds {
        inner: &mut space.netlink,
        inner_ns: inner_ns.as_fd(),
        links: found,
        outer: &mut outer,
        port,
    };
    let (mut changed, new) = links::cable(&mut ends, &label, cable)?;
    let port = ends.port;
    if new && cable.port_ns == NsName::Host {
        // Elsewhere the namespace's default says so already. Before the port goes up,
        // or it would announce itself.
        if let Some(ipv6) = &context.places.ipv6 {
            changed += sysctl::set(ipv6, format!("conf/{}/disable_ipv6", cable.port), "1")?;
        }
    }
    changed += links::port(&mut outer, port.as_ref(), cable)?;
    Ok(changed)
}

fn assign(space: &mut Space, plan: &NsPlan, found: &Links) -> Result<usize> {
    let label = space.name.to_string();
    let addresses = links::read_addresses(&mut space.netlink, &label)?;
    let none = BTreeSet::new();
    let bridges =
        plan.bridges.iter().map(|b| (b.name.as_str(), b.addresses.iter().copied().collect()));
    let cables = plan.cables.iter().map(|c| (c.interface.as_str(), c.addresses.clone()));
    let mut changed = 0;
    for (name, wanted) in bridges.chain(cables) {
        let Some(link) = found.get(name) else { continue };
        let has = addresses.get(&link.index).unwrap_or(&none);
        changed += links::addresses(&mut space.netlink, &label, (name, link.index), &wanted, has)?;
    }
    Ok(changed)
}

/// The routes that the kernel makes for planned addresses.
fn connected(plan: &NsPlan, found: &Links) -> BTreeSet<Connected> {
    let bridges = plan.bridges.iter().map(|b| (&b.name, b.addresses.iter().collect::<Vec<_>>()));
    let cables = plan.cables.iter().map(|c| (&c.interface, c.addresses.iter().collect()));
    let mut routes = BTreeMap::new();
    for (name, addresses) in bridges.chain(cables) {
        let Some(link) = found.get(name) else { continue };
        for address in addresses.into_iter().filter(|a| a.prefix() < 32) {
            // Of several addresses in one subnet the first is the source.
            routes.entry((address.network(), link.index)).or_insert(address.addr());
        }
    }
    routes.into_iter().map(|((subnet, link), source)| Connected { subnet, link, source }).collect()
}

fn open(ns: &NetNs, name: &NsName, traffic: &Arc<Traffic>) -> Result<Netlink> {
    match ns.run(|| Netlink::open(traffic)) {
        Ok(Ok(netlink)) => Ok(netlink),
        Ok(Err(source)) | Err(source) => Err(refused(&name.to_string(), "open netlink")(source)),
    }
}
