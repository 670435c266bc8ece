use std::collections::{BTreeMap, BTreeSet};

use skep_types::{Network, NetworkAttachment, NetworkId, Node, NodeId, Task};

use super::{AllocError, Allocator};
use crate::Draft;
use crate::admission::is_predefined;

/// Whether a node's networks have addresses left for a task, while tasks are being placed.
///
/// A task gets its addresses together with its node, because what it needs depends on the node: the
/// first task of a network on a node needs a second address, for the node's load balancer, without
/// which no name and no virtual address works there. A network too small for all its tasks so runs
/// as many as fit with their load balancers, and a task that cannot be placed keeps no address from
/// others. Nothing is kept back for nodes that have no task: tasks go first where the network is.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    allocator: &'a mut Allocator,
    free: BTreeMap<NetworkId, u64>,
    /// Load balancers that get their addresses behind the scheduler's pass, already counted.
    promised: BTreeSet<(NodeId, NetworkId)>,
}

impl<'a> Room<'a> {
    /// Counts what is free on the networks of all tasks that wait for a node.
    pub fn new(allocator: &'a mut Allocator, draft: &Draft) -> Self {
        let mut free = BTreeMap::new();
        for attachment in draft.pending_tasks().flat_map(|task| &task.networks_attachments) {
            let network = &attachment.network;
            if !is_predefined(network) && !free.contains_key(&network.id) {
                free.insert(network.id.clone(), super::addresses::free(draft, network));
            }
        }
        Self { allocator, free, promised: BTreeSet::new() }
    }

    /// The first network that has too few addresses for the task on this node.
    pub fn lacking<'t>(&self, node: &Node, task: &'t Task) -> Option<&'t Network> {
        let overlays = task.networks_attachments.iter().filter(|a| !is_predefined(&a.network));
        overlays.map(|attachment| (attachment, self.needs(node, task, attachment))).find_map(
            |(attachment, needs)| {
                let free = self.free.get(&attachment.network.id).copied().unwrap_or(0);
                (needs > free).then_some(&attachment.network)
            },
        )
    }

    /// The task's attachments with addresses on that node.
    ///
    /// # Errors
    /// The first network that cannot give one, or not the one asked for; nothing is taken then.
    pub fn take(
        &mut self,
        draft: &Draft,
        node: &Node,
        task: &Task,
    ) -> Result<Vec<NetworkAttachment>, AllocError> {
        let mut list = task.networks_attachments.clone();
        for attachment in list.iter_mut().filter(|a| !is_predefined(&a.network)) {
            if attachment.addresses.is_empty() {
                let address = match wish(task, &attachment.network) {
                    Some(wish) => Allocator::this_address(draft, &attachment.network, wish)?,
                    None => self.allocator.next_address(draft, &attachment.network)?,
                };
                attachment.addresses.push(address);
            }
        }
        for attachment in task.networks_attachments.iter().filter(|a| !is_predefined(&a.network)) {
            let needs = self.needs(node, task, attachment);
            if let Some(free) = self.free.get_mut(&attachment.network.id) {
                *free = free.saturating_sub(needs);
            }
            self.promised.insert((node.id.clone(), attachment.network.id.clone()));
        }
        Ok(list)
    }

    fn needs(&self, node: &Node, task: &Task, attachment: &NetworkAttachment) -> u64 {
        let network = &attachment.network;
        // An address asked for by hand may be outside the range that others are taken from.
        let own = attachment.addresses.is_empty()
            && wish(task, network).is_none_or(|wish| super::addresses::in_range(network, wish));
        let balanced = node.attachments.iter().any(|a| a.network.id == network.id)
            || self.promised.contains(&(node.id.clone(), network.id.clone()));
        u64::from(own) + u64::from(!balanced)
    }
}

/// The address a user asks for.
fn wish<'t>(task: &'t Task, network: &Network) -> Option<&'t str> {
    let config = task.spec.networks.iter().find(|config| config.target == network.id.as_str())?;
    config.addresses.first().map(String::as_str).filter(|address| !address.is_empty())
}
