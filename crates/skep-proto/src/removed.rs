//! The one refusal that makes a node give up its tasks.

use skep_types::NodeId;

/// What a manager answers to a node that was removed from its swarm.
pub fn removed_from_swarm(node: &NodeId) -> String {
    format!("node {node} was removed from the swarm")
}

/// Whether a refusal says that this node was removed from the swarm, and not that a certificate, a role, a
/// swarm or another node is wrong: those may be somebody's mistake, which passes.
pub fn says_removed(refusal: &str, node: &NodeId) -> bool {
    !node.as_str().is_empty() && refusal == removed_from_swarm(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_refusal_is_meant() {
        let node = NodeId::from("abc");
        assert!(says_removed(&removed_from_swarm(&node), &node));
        for other in [
            String::new(),
            "the certificate is of another swarm: abc".to_owned(),
            "this call needs a node certificate".to_owned(),
            removed_from_swarm(&NodeId::from("abcd")),
        ] {
            assert!(!says_removed(&other, &node), "{other}");
        }
        assert!(!says_removed(&removed_from_swarm(&NodeId::default()), &NodeId::default()));
    }
}
