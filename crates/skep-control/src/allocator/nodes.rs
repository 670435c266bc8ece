use std::collections::BTreeMap;

use skep_types::{Network, NetworkAttachment, NetworkId, NodeId};

use super::networks::needs_allocation;
use super::{AllocError, Allocator, Spare};
use crate::Draft;
use crate::admission::is_predefined;

impl Allocator {
    /// Gives a node one address on the ingress network and on each overlay network that its tasks are
    /// on. What can be given is given even if something else cannot.
    pub(super) fn allocate_attachments(
        &mut self,
        draft: &mut Draft,
        id: &NodeId,
        spare: Spare,
    ) -> Result<(), AllocError> {
        let Some(node) = draft.node(id).cloned() else { return Ok(()) };
        let mut wanted: BTreeMap<NetworkId, Network> = BTreeMap::new();
        for task in draft.tasks_of_node(id).filter(|task| !task.status.state.is_terminal()) {
            for attachment in &task.networks_attachments {
                if !is_predefined(&attachment.network)
                    && !wanted.contains_key(&attachment.network.id)
                {
                    wanted.insert(attachment.network.id.clone(), attachment.network.clone());
                }
            }
        }
        let mut problem = None;
        match draft.ingress_network() {
            Some(ingress) if needs_allocation(ingress) => {
                problem = Some(super::services::not_allocated(draft, ingress));
            }
            Some(ingress) => {
                wanted.insert(ingress.id.clone(), Network::clone(ingress));
            }
            None => {}
        }
        let mut attachments: Vec<NetworkAttachment> = (node.attachments.iter())
            .filter(|attachment| {
                wanted.remove(&attachment.network.id).is_some() || spare == Spare::Keep
            })
            .cloned()
            .collect();
        for network in wanted.into_values() {
            match self.next_address(draft, &network) {
                Ok(address) => attachments.push(NetworkAttachment {
                    network,
                    addresses: vec![address],
                    ..NetworkAttachment::default()
                }),
                Err(error) => problem = Some(error),
            }
        }
        if attachments != node.attachments {
            draft.node_mut(id, |node| node.attachments = attachments);
        }
        problem.map_or(Ok(()), Err)
    }
}
