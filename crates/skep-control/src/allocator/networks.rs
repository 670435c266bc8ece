use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use skep_types::{
    Cidr, Driver, HostRoute, IpamConfig, IpamOptions, Network, NetworkId, StringMap, VXLAN_ID_LIST,
};

use super::{AllocError, Allocator};
use crate::admission::{VNI_RANGE, is_predefined};
use crate::store::index::vnis;
use crate::{Draft, Store};

impl Allocator {
    pub(super) fn allocate_networks(&mut self, draft: &mut Draft, routes: &[HostRoute]) {
        let waiting: Vec<Arc<Network>> =
            draft.networks().filter(|network| needs_allocation(network)).cloned().collect();
        if waiting.is_empty() {
            return;
        }
        let mut ordered = waiting;
        // The ingress network gets the first subnet, then first come, first served.
        ordered.sort_by_key(|n| (!n.spec.ingress, n.meta.created_at, n.meta.version));
        let mut in_use = InUse::new(draft);
        for network in ordered {
            match self.allocate(draft, &network, &mut in_use, routes) {
                Ok(allocated) => draft.put(allocated),
                Err(error) => {
                    tracing::debug!(network.id = %network.id, %error, "network waits");
                }
            }
        }
    }

    fn allocate(
        &mut self,
        store: &Store,
        network: &Network,
        in_use: &mut InUse,
        routes: &[HostRoute],
    ) -> Result<Network, AllocError> {
        let name = &network.spec.annotations.name;
        let wanted = network.spec.ipam.as_ref().map_or(&[][..], |ipam| &ipam.configs);
        let mut configs = Vec::new();
        for config in wanted.iter().filter(|config| !config.subnet.is_empty()) {
            let subnet: Cidr =
                config.subnet.parse().map_err(|_| AllocError::NetworkNotAllocated(name.clone()))?;
            if in_use.overlaps(&subnet) {
                return Err(AllocError::SubnetInUse(name.clone(), config.subnet.clone()));
            }
            configs.push((subnet, config.clone()));
        }
        if configs.is_empty() {
            let subnet = self.next_subnet(store, in_use, routes, name)?;
            configs.push((subnet, IpamConfig::default()));
        }
        let chosen = &network.spec.driver_configuration.options;
        let ids = self.vnis(chosen.get(VXLAN_ID_LIST), configs.len(), in_use, name)?;

        in_use.subnets.extend(configs.iter().map(|(subnet, _)| *subnet));
        in_use.vnis.extend(&ids);
        let mut options: StringMap = chosen.clone();
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        options.insert(VXLAN_ID_LIST.to_owned(), ids.join(","));
        let driver = network.spec.driver_configuration.name.as_str();
        let mut allocated = network.clone();
        allocated.driver_state =
            Driver { name: if driver.is_empty() { "overlay" } else { driver }.to_owned(), options };
        allocated.ipam = Some(IpamOptions {
            driver: Driver { name: "default".to_owned(), ..Driver::default() },
            configs: configs.into_iter().map(|(subnet, config)| complete(subnet, config)).collect(),
        });
        Ok(allocated)
    }

    /// The next free subnet of the pools, one after the other: one that no route of the leader's host
    /// touches, or else one that none reserves.
    fn next_subnet(
        &mut self,
        store: &Store,
        in_use: &InUse,
        routes: &[HostRoute],
        name: &str,
    ) -> Result<Cidr, AllocError> {
        let none = || AllocError::NoSubnet(name.to_owned());
        let cluster = store.cluster().ok_or_else(none)?;
        let size = u8::try_from(cluster.subnet_size).map_err(|_| none())?;
        let pools: Vec<Cidr> =
            cluster.default_addr_pool.iter().filter_map(|pool| pool.parse().ok()).collect();
        let total: u64 = pools.iter().map(|pool| pool.subnets(size)).sum();
        let last = self
            .last_subnet
            .or_else(|| in_use.subnets.iter().filter_map(|net| number_of(&pools, size, net)).max());
        let start = last.map_or(0, |last| last + 1);
        let free = |avoid: fn(&HostRoute, Ipv4Addr, u8) -> bool| {
            (start..total).chain(0..start.min(total)).find_map(|number| {
                let net = piece(&pools, size, number)?;
                let routed = |route| avoid(route, net.addr(), net.prefix());
                (!in_use.overlaps(&net) && !routes.iter().any(routed)).then_some((number, net))
            })
        };
        let found = free(HostRoute::touches).or_else(|| free(HostRoute::reserves));
        let (number, net) = found.ok_or_else(none)?;
        self.last_subnet = Some(number);
        Ok(net)
    }

    fn vnis(
        &mut self,
        chosen: Option<&String>,
        count: usize,
        in_use: &InUse,
        name: &str,
    ) -> Result<Vec<u32>, AllocError> {
        let none = || AllocError::NoVni(name.to_owned());
        let mut ids: Vec<u32> = Vec::new();
        for text in chosen.iter().flat_map(|list| list.split(',')) {
            let id = text.trim().parse().map_err(|_| none())?;
            if in_use.vnis.contains(&id) {
                return Err(none());
            }
            ids.push(id);
        }
        let (first, end) = (*VNI_RANGE.start(), *VNI_RANGE.end());
        while ids.len() < count {
            let highest = in_use.vnis.last().copied();
            let last = self.last_vni.or(highest).filter(|last| (first..end).contains(last));
            let start = last.map_or(first, |last| last + 1);
            let id = (start..=end)
                .chain(first..start)
                .find(|id| !in_use.vnis.contains(id) && !ids.contains(id))
                .ok_or_else(none)?;
            self.last_vni = Some(id);
            ids.push(id);
        }
        Ok(ids)
    }
}

pub(crate) fn needs_allocation(network: &Network) -> bool {
    !is_predefined(network) && network.driver_state.name.is_empty()
}

/// Subnets and VXLAN ids of all networks, those included that are gone while tasks still use them.
struct InUse {
    subnets: BTreeSet<Cidr>,
    vnis: BTreeSet<u32>,
}

impl InUse {
    fn new(store: &Store) -> Self {
        let mut networks: BTreeMap<&NetworkId, &Network> =
            store.networks().map(|network| (&network.id, network.as_ref())).collect();
        for (id, task) in store.network_uses() {
            if networks.contains_key(id) {
                continue;
            }
            let attachments = store.task(task).map(|task| task.networks_attachments.iter());
            let copy = attachments.into_iter().flatten().find(|a| a.network.id == *id);
            if let Some(copy) = copy {
                networks.insert(id, &copy.network);
            }
        }
        let configs = networks.values().flat_map(|n| n.ipam.iter()).flat_map(|i| &i.configs);
        Self {
            subnets: configs.filter_map(|config| config.subnet.parse().ok()).collect(),
            vnis: networks.values().flat_map(|network| vnis(network)).collect(),
        }
    }

    fn overlaps(&self, net: &Cidr) -> bool {
        self.subnets.iter().any(|other| other.overlaps(net))
    }
}

/// The config as it is in use: with a gateway, by default the first address.
fn complete(subnet: Cidr, mut config: IpamConfig) -> IpamConfig {
    config.subnet = subnet.to_string();
    if config.gateway.is_empty() {
        let mut hosts = (subnet.first().saturating_add(1)..subnet.last()).map(Ipv4Addr::from);
        let first = hosts.find(|a| !config.reserved.values().any(|r| *r == a.to_string()));
        config.gateway = first.map(|address| address.to_string()).unwrap_or_default();
    }
    config
}

/// The subnet with a number, counted through all pools.
fn piece(pools: &[Cidr], size: u8, number: u64) -> Option<Cidr> {
    let mut rest = number;
    for pool in pools {
        let count = pool.subnets(size);
        if rest < count {
            return pool.subnet(size, rest);
        }
        rest -= count;
    }
    None
}

/// The number of a subnet that was cut from the pools.
fn number_of(pools: &[Cidr], size: u8, net: &Cidr) -> Option<u64> {
    let mut before = 0;
    for pool in pools {
        if net.prefix() == size && pool.covers(net) {
            let offset = net.first() - pool.first();
            return Some(before + (u64::from(offset) >> (32 - size)));
        }
        before += pool.subnets(size);
    }
    None
}
