use skep_control::{Store, admission, list};
use skep_types::{ErrorKind, Node, NodeId, NodeRole, NodeSpec, Version};

use super::{Control, ControlError, NodeFilter, Result, reference};

impl Control {
    /// Nodes in the order of ids.
    pub async fn list_nodes(&self, filter: &NodeFilter) -> Result<Vec<Node>> {
        let store = self.read()?;
        let found = list::nodes(&store, filter);
        Ok(found.iter().map(|node| Node::clone(node)).collect())
    }

    pub async fn get_node(&self, reference: &str) -> Result<Node> {
        let store = self.read()?;
        Ok(Node::clone(reference::node(&store, reference)?))
    }

    /// # Errors
    /// Besides those of admission: promoting a worker is not possible yet.
    pub async fn update_node(
        &self,
        reference: &str,
        version: Version,
        spec: NodeSpec,
    ) -> Result<Node> {
        let reference = reference.to_owned();
        let updated = self.change(move |store, now, _| {
            let node = reference::node(store, &reference)?;
            if node.spec.role == NodeRole::Worker && spec.role == NodeRole::Manager {
                return Err(ControlError::new(
                    ErrorKind::NotImplemented,
                    "promoting a node to manager is not supported yet",
                ));
            }
            let id = node.id.clone();
            let actions = admission::update_node(store, &id, version, spec, now)?;
            Ok((id, actions))
        });
        let (store, id) = updated.await?;
        found(&store, &id)
    }

    pub async fn remove_node(&self, reference: &str, force: bool) -> Result<()> {
        let reference = reference.to_owned();
        let removed = self.change(move |store, now, _| {
            let node = reference::node(store, &reference)?;
            let id = node.id.clone();
            let expiry = crate::ca::last_expiry(store, node, now);
            let actions = admission::remove_node(store, &id, force, expiry, now)?;
            Ok((id, actions))
        });
        let (_, id) = removed.await?;
        let shared = self.shared()?;
        shared.sessions.end(&id);
        shared.logs.lost(&id);
        Ok(())
    }
}

fn found(store: &Store, id: &NodeId) -> Result<Node> {
    let node = store.node(id).ok_or_else(|| ControlError::not_found("node", id.as_str()))?;
    Ok(Node::clone(node))
}
