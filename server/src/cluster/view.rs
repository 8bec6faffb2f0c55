//! The nodes that one node knows, and who of them owns a conversation: rendezvous hashing, so that a node that comes or goes
//! moves its own share alone (Thaler and Ravishankar, 1998).

use std::collections::BTreeMap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::bus::NodeRecord;
use crate::domain::ConversationId;

/// A node is forgotten when it was missed at so many looks in a row: one empty answer of a bus that was just restarted moves
/// nothing.
const MISSED_MAX: u8 = 2;

/// Nodes by name, and at how many looks in a row each was missed.
#[derive(Debug, Clone)]
pub(super) struct View {
    nodes: BTreeMap<String, (NodeRecord, u8)>,
    fingerprint: u64,
}

impl View {
    pub(super) fn new(nodes: Vec<NodeRecord>) -> Self {
        Self::of(nodes.into_iter().map(|node| (node.name.clone(), (node, 0))).collect())
    }

    fn of(nodes: BTreeMap<String, (NodeRecord, u8)>) -> Self {
        let cores = nodes.values().filter(|(node, _)| node.core);
        let names: Vec<&str> = cores.map(|(node, _)| node.name.as_str()).collect();
        let fingerprint = xxh3_64(names.join("\n").as_bytes());
        Self { nodes, fingerprint }
    }

    /// The view after a look at which these nodes said that they live. This node itself always does.
    pub(super) fn followed_by(&self, said: Vec<NodeRecord>, me: &NodeRecord) -> Self {
        let mut next: BTreeMap<_, _> = said.into_iter().map(|node| (node.name.clone(), (node, 0))).collect();
        next.insert(me.name.clone(), (me.clone(), 0));
        for (name, (node, missed)) in &self.nodes {
            if missed + 1 < MISSED_MAX {
                next.entry(name.clone()).or_insert_with(|| (node.clone(), missed + 1));
            }
        }
        Self::of(next)
    }

    /// Tells views apart whose owners may differ.
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// Nodes that own conversations.
    pub(super) fn cores(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values().map(|(node, _)| node).filter(|node| node.core)
    }

    /// Who owns a conversation, of the nodes that can be reached.
    pub(super) fn owner(
        &self,
        conversation: ConversationId,
        is_there: impl Fn(&NodeRecord) -> bool,
    ) -> Option<&NodeRecord> {
        let weight = |node: &&NodeRecord| xxh3_64_with_seed(&conversation.0, xxh3_64(node.name.as_bytes()));
        self.cores().filter(|node| is_there(node)).max_by_key(weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8, core: bool) -> NodeRecord {
        NodeRecord {
            name: format!("n{number}"),
            address: format!("127.0.0.1:{number}"),
            core,
            hears_groups: true,
            hears_promoted: true,
            clock: None,
        }
    }

    fn owners(view: &View) -> Vec<String> {
        let conversations = (0..=255).map(|number| ConversationId([number; 16]));
        conversations
            .map(|id| {
                view.owner(id, |_| true)
                    .map_or_else(String::new, |node| node.name.clone())
            })
            .collect()
    }

    #[test]
    fn a_node_that_goes_moves_its_own_conversations_alone() {
        let three = View::new(vec![node(1, true), node(2, true), node(3, true), node(4, false)]);
        let two = View::new(vec![node(1, true), node(2, true)]);
        let (before, after) = (owners(&three), owners(&two));
        let of = |name: &str| before.iter().filter(|owner| *owner == name).count();
        for name in ["n1", "n2", "n3"] {
            assert!((50..=120).contains(&of(name)), "{name} owns {}", of(name));
        }
        assert_eq!(of("n4"), 0, "a gateway owns nothing");
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert_eq!(moved.count(), of("n3"));
    }

    #[test]
    fn one_look_at_which_everybody_is_missing_moves_nothing() {
        let (me, other) = (node(1, true), node(2, true));
        let both = View::new(vec![me.clone(), other]);
        let once = both.followed_by(Vec::new(), &me);
        assert_eq!(once.fingerprint(), both.fingerprint());
        let twice = once.followed_by(Vec::new(), &me);
        assert_ne!(twice.fingerprint(), both.fingerprint());
        assert!(!twice.knows("n2") && twice.knows("n1"));
    }

    #[test]
    fn who_cannot_be_reached_owns_nothing() {
        let view = View::new(vec![node(1, true), node(2, true)]);
        let id = ConversationId([7; 16]);
        let first = view.owner(id, |_| true).map(|node| node.name.clone());
        let second = view.owner(id, |node| Some(&node.name) != first.as_ref());
        assert!(second.is_some() && second.map(|node| &node.name) != first.as_ref());
        assert_eq!(view.owner(id, |_| false), None);
    }
}
