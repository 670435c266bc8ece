use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use skep_types::{Cidr, IpamConfig, Network};

use super::{AllocError, Allocator};
use crate::{Draft, Store};

impl Allocator {
    /// The next free address of a network, with prefix length.
    pub(super) fn next_address(
        &mut self,
        draft: &Draft,
        network: &Network,
    ) -> Result<String, AllocError> {
        let name = &network.spec.annotations.name;
        if self.exhausted.contains(&network.id) {
            return Err(no_address(network));
        }
        let configs = network.ipam.as_ref().map_or(&[][..], |ipam| &ipam.configs);
        if configs.is_empty() {
            return Err(AllocError::NetworkNotAllocated(name.clone()));
        }
        for (index, config) in configs.iter().enumerate() {
            let Some(pool) = Pool::new(config) else { continue };
            let key = (network.id.clone(), index);
            let last = self
                .last_address
                .get(&key)
                .copied()
                .or_else(|| highest_in_use(draft, network, &pool.subnet));
            if let Some(address) =
                pool.next(last, |a| draft.address_owner(&network.id, a).is_none())
            {
                self.last_address.insert(key, address);
                return Ok(pool.text(address));
            }
        }
        self.exhausted.insert(network.id.clone());
        Err(no_address(network))
    }

    /// One particular address, if it is free. A prefix length given with it does not count.
    pub(super) fn this_address(
        draft: &Draft,
        network: &Network,
        wanted: &str,
    ) -> Result<String, AllocError> {
        let unavailable = || {
            AllocError::AddressUnavailable(wanted.to_owned(), network.spec.annotations.name.clone())
        };
        let address = crate::store::index::host_part(wanted).ok_or_else(unavailable)?;
        let configs = network.ipam.as_ref().map_or(&[][..], |ipam| &ipam.configs);
        configs
            .iter()
            .filter_map(Pool::new)
            .find(|pool| pool.may_give(address))
            .filter(|_| draft.address_owner(&network.id, address).is_none())
            .map(|pool| pool.text(address))
            .ok_or_else(unavailable)
    }
}

/// How many addresses a network can still give without being asked for particular ones.
pub(super) fn free(store: &Store, network: &Network) -> u64 {
    let pools: Vec<Pool> = pools(network).collect();
    let used = store.addresses(&network.id).map(|(address, _)| address);
    let used = used.filter(|address| pools.iter().any(|pool| pool.gives(*address))).count();
    let size: u64 = pools.iter().map(Pool::size).sum();
    size.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX))
}

/// Whether the address is one of those that are given without being asked for.
pub(super) fn in_range(network: &Network, address: &str) -> bool {
    let address = crate::store::index::host_part(address);
    address.is_some_and(|address| pools(network).any(|pool| pool.gives(address)))
}

/// What a task or service says that gets no address of the network.
pub(crate) fn no_address(network: &Network) -> AllocError {
    let subnets: Vec<String> = pools(network).map(|pool| pool.subnet.to_string()).collect();
    AllocError::NoAddress {
        network: network.spec.annotations.name.clone(),
        id: network.id.clone(),
        subnets: subnets.join(" and "),
        size: pools(network).map(|pool| pool.size()).sum(),
    }
}

fn pools(network: &Network) -> impl Iterator<Item = Pool> + '_ {
    network.ipam.iter().flat_map(|ipam| &ipam.configs).filter_map(Pool::new)
}

fn highest_in_use(store: &Store, network: &Network, subnet: &Cidr) -> Option<Ipv4Addr> {
    store.addresses(&network.id).map(|(address, _)| address).filter(|a| subnet.contains(*a)).max()
}

/// The addresses one subnet can give.
struct Pool {
    subnet: Cidr,
    /// Inclusive; without network and broadcast address.
    first: u32,
    last: u32,
    /// Gateway and other reserved addresses.
    taken: BTreeSet<Ipv4Addr>,
}

impl Pool {
    fn new(config: &IpamConfig) -> Option<Self> {
        let subnet: Cidr = config.subnet.parse().ok()?;
        let range: Cidr =
            if config.range.is_empty() { subnet } else { config.range.parse().ok()? };
        let taken = config.reserved.values().chain([&config.gateway]);
        Some(Self {
            subnet,
            first: range.first().max(subnet.first() + 1),
            last: range.last().min(subnet.last().checked_sub(1)?),
            taken: taken.filter_map(|address| address.parse().ok()).collect(),
        })
    }

    /// How many addresses may be given by [`Pool::next`].
    fn size(&self) -> u64 {
        let range = self.first..=self.last;
        let all = u64::from(self.last.saturating_sub(self.first)) + u64::from(!range.is_empty());
        let taken = self.taken.iter().filter(|address| range.contains(&u32::from(**address)));
        all.saturating_sub(u64::try_from(taken.count()).unwrap_or(u64::MAX))
    }

    /// Whether the address is one that [`Pool::next`] may give.
    fn gives(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&u32::from(address)) && !self.taken.contains(&address)
    }

    /// The first free address behind `last`, around the end if need be.
    fn next(&self, last: Option<Ipv4Addr>, free: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let start = last
            .map(u32::from)
            .filter(|last| (self.first..self.last).contains(last))
            .map_or(self.first, |last| last + 1);
        (start..=self.last)
            .chain(self.first..start)
            .map(Ipv4Addr::from)
            .find(|address| !self.taken.contains(address) && free(*address))
    }

    /// Whether the address is one that may be given on request; the range only bounds free choice.
    fn may_give(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(address)
            && u32::from(address) != self.subnet.first()
            && address != self.subnet.broadcast()
            && !self.taken.contains(&address)
    }

    fn text(&self, address: Ipv4Addr) -> String {
        self.subnet.with_addr(address).to_string()
    }
}
