//! Namespaces at work: opened or made, brought into their planned state, removed.

use super::links::{self, CableEnds, Links};
use super::netlink::Netlink;
use super::reaper::Reaper;
use super::{conntrack, nft, peers, refused, routes, sysctl};
use crate::error::{NetError, Result};
use crate::files;
use crate::plan::{ALIAS, Applied, CablePlan, HostPlan, NsName, NsPlan, UdpFlow};
use rtnetlink::packet_route::link::InfoKind;
use skep_sys::netns::NetNs;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Namespaces worked on at the same time. The work is short system calls and `nft`
/// processes; more would only queue at the kernel's one lock for links.
const WORKERS: usize = 4;
/// The pin of the host's own namespace, which sandboxes in host mode name.
pub const HOST_PIN: &str = "default";

/// A namespace that is open.
pub struct Space {
    name: NsName,
    ns: Arc<NetNs>,
    netlink: Netlink,
    /// What was last written to nftables here; `None` when not known.
    rules: Option<Applied>,
    /// The UDP flows that connection tracking was last made to agree with.
    flows: Vec<UdpFlow>,
}

/// Where things are.
#[derive(Debug, Clone)]
struct Places {
    /// Pins.
    pins: PathBuf,
    /// What was written to nftables, per namespace.
    rules: PathBuf,
    nft: nft::Nft,
}

/// Handles by namespace, shared with whoever opens sockets inside.
pub type Handles = Arc<Mutex<BTreeMap<NsName, Arc<NetNs>>>>;

/// All namespaces of this host.
pub struct Spaces {
    places: Places,
    spaces: BTreeMap<NsName, Space>,
    handles: Handles,
    reaper: Reaper,
}

/// What a job may look at beside its own namespace.
struct Context<'a> {
    places: &'a Places,
    handles: &'a BTreeMap<NsName, Arc<NetNs>>,
    /// Whether containers are going, whose cables the reaper may take.
    removing: bool,
    reaper: &'a Reaper,
    verify: bool,
}

impl Spaces {
    /// Opens the host's namespace (the calling thread's) and the folders.
    pub fn open(pins: PathBuf, rules: PathBuf, nft: nft::Nft) -> Result<Self> {
        for folder in [&pins, &rules] {
            std::fs::create_dir_all(folder).map_err(|source| NetError::File {
                action: "make folder",
                path: folder.clone(),
                source,
            })?;
        }
        let host = NetNs::current().map_err(namespace("open", &pins))?;
        pin_host(&pins, &host)?;
        let pins_path = pins.clone();
        let mut spaces = Self {
            places: Places { pins, rules, nft },
            spaces: BTreeMap::new(),
            handles: Arc::default(),
            reaper: Reaper::start().map_err(namespace("start the reaper for", &pins_path))?,
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

    fn insert(&mut self, name: NsName, ns: Arc<NetNs>, fresh: bool) -> Result<()> {
        let label = name.to_string();
        let opened = ns.run(|| Ok((Netlink::open()?, nft::generation()?)));
        let (netlink, generation) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(source)) | Err(source) => return Err(refused(&label, "open netlink")(source)),
        };
        // A namespace just made has no rules; otherwise what is on record counts as
        // long as nobody wrote since.
        let rules = if fresh {
            Some(Applied { generation, ..Applied::default() })
        } else {
            self.places.load(&name).filter(|a| a.generation == generation)
        };
        lock(&self.handles).insert(name.clone(), Arc::clone(&ns));
        self.spaces.insert(name.clone(), Space { name, ns, netlink, rules, flows: Vec::new() });
        Ok(())
    }

    /// Brings the namespaces in `which` into their planned state; those without a
    /// plan are removed. `verify` reads back what would otherwise be trusted.
    /// Returns per namespace how much had to be changed, or why it failed.
    pub fn apply(
        &mut self,
        plans: &HostPlan,
        which: &BTreeSet<NsName>,
        verify: bool,
    ) -> BTreeMap<NsName, Result<usize>> {
        let mut results = BTreeMap::new();
        for name in which.iter().filter(|n| plans.contains_key(*n)) {
            if let Err(error) = self.ensure(name) {
                results.insert(name.clone(), Err(error));
            }
        }
        // A cable may end on the bridge of a namespace that has not been opened in
        // this life of the daemon.
        for cable in which.iter().filter_map(|n| plans.get(n)).flat_map(|p| &p.cables) {
            if plans.contains_key(&cable.port_ns)
                && let Err(error) = self.ensure(&cable.port_ns)
            {
                results.insert(cable.port_ns.clone(), Err(error));
            }
        }
        let handles = lock(&self.handles).clone();
        let removing = which.iter().any(|n| !plans.contains_key(n));
        let context = Context {
            places: &self.places,
            handles: &handles,
            removing,
            reaper: &self.reaper,
            verify,
        };
        // Bridges before the cables that end on them.
        for bridges in [true, false] {
            let jobs: VecDeque<(&mut Space, &NsPlan)> = self
                .spaces
                .values_mut()
                .filter(|s| which.contains(&s.name) && !results.contains_key(&s.name))
                .filter(|s| matches!(s.name, NsName::Host | NsName::Overlay(_)) == bridges)
                .filter_map(|s| plans.get(&s.name).map(|plan| (s, plan)))
                .collect();
            results.extend(run(jobs, &context));
        }
        for name in which.iter().filter(|n| !plans.contains_key(*n)) {
            results.insert(name.clone(), self.remove(name).map(usize::from));
        }
        results
    }

    fn ensure(&mut self, name: &NsName) -> Result<()> {
        let Some(file) = name.file() else { return Ok(()) };
        if self.spaces.contains_key(name) {
            return Ok(());
        }
        let path = self.places.pins.join(file);
        match NetNs::open(&path) {
            Ok(ns) => self.insert(name.clone(), Arc::new(ns), false),
            Err(_) => {
                let ns = NetNs::create(&path).map_err(namespace("create", &path))?;
                self.places.forget(name);
                self.insert(name.clone(), Arc::new(ns), true)
            }
        }
    }

    /// Whether there was something to remove.
    fn remove(&mut self, name: &NsName) -> Result<bool> {
        let Some(file) = name.file() else { return Ok(false) };
        let known = self.spaces.remove(name).is_some();
        lock(&self.handles).remove(name);
        let path = self.places.pins.join(file);
        let pinned = path.exists();
        NetNs::remove(&path).map_err(namespace("remove", &path))?;
        self.places.forget(name);
        Ok(known || pinned)
    }

    /// Removes pins that no plan speaks of, as an earlier daemon may have left them.
    pub fn sweep(&mut self, plans: &HostPlan) -> Result<usize> {
        let wanted: BTreeSet<String> = plans.keys().filter_map(NsName::file).collect();
        let known: BTreeSet<String> = self.spaces.keys().filter_map(NsName::file).collect();
        let failed =
            |source| NetError::File { action: "list", path: self.places.pins.clone(), source };
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.places.pins).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let file = entry.file_name().to_string_lossy().into_owned();
            if wanted.contains(&file) || known.contains(&file) || file == HOST_PIN {
                continue;
            }
            let path = entry.path();
            NetNs::remove(&path).map_err(namespace("remove", &path))?;
            removed += 1;
        }
        Ok(removed)
    }
}

impl Places {
    fn record(&self, name: &NsName) -> PathBuf {
        self.rules.join(format!("{name}.json"))
    }

    fn load(&self, name: &NsName) -> Option<Applied> {
        // A record that cannot be read only costs one full replacement of the rules.
        serde_json::from_slice(&std::fs::read(self.record(name)).ok()?).ok()
    }

    fn store(&self, name: &NsName, applied: &Applied) -> Result<()> {
        files::replace_json(&self.record(name), applied, files::Durability::Volatile)
    }

    fn forget(&self, name: &NsName) {
        let path = self.record(name);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "cannot remove a record of rules");
        }
    }
}

fn namespace(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> NetError {
    let path = path.to_owned();
    move |source| NetError::Namespace { action, path, source }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pin_host(pins: &Path, host: &NetNs) -> Result<()> {
    let path = pins.join(HOST_PIN);
    if NetNs::open(&path).is_ok_and(|pinned| pinned.is_same(host).unwrap_or(false)) {
        return Ok(());
    }
    NetNs::remove(&path).map_err(namespace("remove", &path))?;
    host.pin(&path).map_err(namespace("pin", &path))
}

fn run(
    jobs: VecDeque<(&mut Space, &NsPlan)>,
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
                    let ns = Arc::clone(&space.ns);
                    let result = match ns.run(|| converge(space, plan, context)) {
                        Ok(result) => result,
                        Err(source) => Err(namespace(
                            "enter",
                            &context.places.pins.join(name.to_string()),
                        )(source)),
                    };
                    lock(&results).insert(name, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Brings one namespace into its planned state. Runs inside it.
fn converge(space: &mut Space, plan: &NsPlan, context: &Context<'_>) -> Result<usize> {
    let label = space.name.to_string();
    let mut changed = sysctl::apply(&plan.sysctls)?;
    let mut found = links::read(&mut space.netlink, &label)?;
    if space.name != NsName::Host {
        changed += links::loopback(&mut space.netlink, &label, &found)?;
    }
    for bridge in &plan.bridges {
        changed += links::bridge(&mut space.netlink, &label, bridge, &mut found)?;
    }
    changed += collect(space, plan, context, &mut found)?;
    for vxlan in &plan.vxlans {
        let Some(host) = context.handles.get(&NsName::Host) else { continue };
        let mut underlay = open(host, &NsName::Host)?;
        let target = space.ns.as_fd();
        changed +=
            links::vxlan(&mut space.netlink, &mut underlay, target, &label, vxlan, &mut found)?;
        if let Some(link) = found.get(&vxlan.name) {
            changed += peers::apply(&mut space.netlink, &label, link.index, vxlan)?;
        }
    }
    let rules = write_rules(space, plan, context)?;
    changed += rules;
    for cable in &plan.cables {
        changed += lay(space, cable, context, &mut found)?;
    }
    changed += assign(space, plan, &found)?;
    changed += routes::routes(&mut space.netlink, &label, &plan.routes, &found)?;
    changed += routes::marks(&mut space.netlink, &label, &plan.marks)?;
    // Once more for interfaces that did not exist the first time.
    changed += sysctl::apply(&plan.sysctls)?;
    // A drained backend that goes changes no rule, only where flows may lead.
    if rules > 0 || space.flows != plan.udp_flows {
        match conntrack::flush(&plan.udp_flows) {
            Ok(flows) => {
                tracing::debug!(namespace = label, flows, "forgot outdated UDP flows");
                space.flows.clone_from(&plan.udp_flows);
            }
            Err(error) => {
                tracing::warn!(namespace = label, %error, "cannot forget outdated UDP flows")
            }
        }
    }
    Ok(changed)
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
    let label = space.name.to_string();
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
                        link.alias.starts_with(ALIAS)
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
        if context.removing && is_port_name(name) && link.master.is_some() {
            links::silence(&mut space.netlink, &label, name, &link)?;
            context.reaper.take(&space.name, &space.ns, link.index);
        } else {
            links::remove(&mut space.netlink, &label, name, link.index)?;
        }
    }
    Ok(doomed.len())
}

/// `veth` and seven hex digits, as [`crate::world::port_name`] makes them.
fn is_port_name(name: &str) -> bool {
    name.strip_prefix("veth")
        .is_some_and(|rest| rest.len() == 7 && rest.chars().all(|c| c.is_ascii_hexdigit()))
}

fn write_rules(space: &mut Space, plan: &NsPlan, context: &Context<'_>) -> Result<usize> {
    let label = space.name.to_string();
    if context.verify {
        let generation =
            nft::generation().map_err(refused(&label, "read the nftables generation"))?;
        space.rules = space.rules.take().filter(|a| a.generation == generation);
    }
    let script = match &space.rules {
        Some(applied) => match plan.rules.change_from(&applied.rules) {
            Some(script) => script,
            None => return Ok(0),
        },
        None => plan.rules.replace(),
    };
    // Not known until written again, should this fail half way.
    space.rules = None;
    context.places.nft.transact(&label, &script)?;
    let generation = nft::generation().map_err(refused(&label, "read the nftables generation"))?;
    let applied = Applied { rules: plan.rules.clone(), generation };
    context.places.store(&space.name, &applied)?;
    space.rules = Some(applied);
    Ok(1)
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
    let mut outer = open(outer_ns, &cable.port_ns)?;
    let mut outer_links = links::read(&mut outer, &cable.port_ns.to_string())?;
    let mut ends = CableEnds {
        inner: &mut space.netlink,
        inner_ns: space.ns.as_fd(),
        links: found,
        outer: &mut outer,
        outer_links: &mut outer_links,
    };
    let (mut changed, new) = links::cable(&mut ends, &label, cable)?;
    if new && cable.port_ns == NsName::Host {
        // Elsewhere the namespace's default says so already. Before the port goes up,
        // or it would announce itself.
        let quiet = [(format!("net/ipv6/conf/{}/disable_ipv6", cable.port), "1".to_owned())];
        changed += outer_ns
            .run(|| sysctl::apply(&quiet))
            .map_err(namespace("enter", &context.places.pins.join(HOST_PIN)))??;
    }
    changed += links::port(&mut outer, &outer_links, cable)?;
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

fn open(ns: &NetNs, name: &NsName) -> Result<Netlink> {
    match ns.run(Netlink::open) {
        Ok(Ok(netlink)) => Ok(netlink),
        Ok(Err(source)) | Err(source) => Err(refused(&name.to_string(), "open netlink")(source)),
    }
}
