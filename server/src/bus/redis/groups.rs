//! Large groups: one publish that every gateway hears, instead of one for each member.
//!
//! Nothing is set up for it, so each event is decided for itself and nobody has to agree: the event names its audience, each
//! gateway hands it to the sessions of those users that it has, and who hears what is the publisher's word alone, as it is for
//! the topics of users (I7).

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::topics::lock;
use crate::bus::{Event, NodeRecord, Topic};
use crate::domain::ConversationId;

/// Channels that every gateway hears. Conversations are spread over them, and they over a cluster of Redis; each gateway
/// subscribes all of them, and looks for what its sessions missed when one breaks.
pub(super) const CHANNELS: u8 = 16;
/// Fewer users are told each by their own topic: that costs little, and tells who has no subscriber.
pub(super) const USERS_MIN: usize = 64;
/// So many users to each other gateway make it the cheaper way: a copy of the event with the names of all of them costs a
/// gateway about what eight copies without names do.
pub(super) const USERS_PER_GATEWAY: usize = 8;
/// What nodes said is good for so long: nodes look at each other every second, and one that says nothing for as long is gone.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// What is known of the other gateways.
#[derive(Debug, Default)]
pub(super) struct Gateways(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Nodes of this process: one, and a few in tests.
    own: BTreeSet<String>,
    said: Option<Said>,
    /// The other nodes that said something at last, and how often there was one among them that was not before.
    others: BTreeSet<String>,
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
struct Said {
    at: Instant,
    others: usize,
    all_hear: bool,
    all_hear_promoted: bool,
}

/// The other gateways, all of which hear of promoted conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    pub(super) others: usize,
    /// Another one once a gateway came that was not there before.
    pub(super) epoch: u64,
}

/// One publish for many users.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AtOnce {
    pub(super) channel: Topic,
    /// Gateways elsewhere that must hear it, or users are told each by their own topic as well.
    pub(super) others: usize,
}

impl Gateways {
    /// A node of this process.
    pub(super) fn own(&self, name: &str) {
        lock(&self.0).own.insert(name.to_owned());
    }

    /// A node of this process is no more.
    pub(super) fn gone(&self, name: &str) {
        lock(&self.0).own.remove(name);
    }

    /// The nodes that say that they live.
    pub(super) fn said(&self, nodes: &[NodeRecord]) {
        let mut known = lock(&self.0);
        let others: Vec<&NodeRecord> = nodes.iter().filter(|node| !known.own.contains(&node.name)).collect();
        let said = Said {
            at: stonechat_host::monotonic(),
            others: others.len(),
            all_hear: others.iter().all(|node| node.hears_groups),
            all_hear_promoted: others.iter().all(|node| node.hears_promoted),
        };
        let names: BTreeSet<String> = others.iter().map(|node| node.name.clone()).collect();
        known.epoch += u64::from(!names.is_subset(&known.others));
        known.others = names;
        known.said = Some(said);
    }

    /// The other gateways, where all of them are known and hear of promoted conversations.
    pub(super) fn view(&self) -> Option<View> {
        let known = lock(&self.0);
        let said = known.said?;
        let fresh = stonechat_host::monotonic() < said.at + KNOWN_FOR;
        (fresh && said.all_hear_promoted).then_some(View {
            others: said.others,
            epoch: known.epoch,
        })
    }

    /// Whether an event for so many users goes once to all gateways, and how. Not while a node of an older version is there,
    /// which would hear nothing, nor when the nodes are not known.
    pub(super) fn at_once(&self, users: usize, event: &Event) -> Option<AtOnce> {
        let conversation = conversation_of(event)?;
        let said = lock(&self.0).said?;
        let fresh = stonechat_host::monotonic() < said.at + KNOWN_FOR;
        let worth = users >= USERS_MIN.max(USERS_PER_GATEWAY * said.others);
        (fresh && said.all_hear && worth).then(|| AtOnce {
            channel: channel_of(conversation),
            others: said.others,
        })
    }
}

/// The channels.
pub(super) fn channels() -> impl Iterator<Item = Topic> {
    (0..CHANNELS).map(Topic::Gateways)
}

/// One conversation is on one channel, so that its events keep their order.
pub(super) fn channel_of(conversation: ConversationId) -> Topic {
    let [.., last] = conversation.0;
    Topic::Gateways(last % CHANNELS)
}

/// What goes to many users concerns one conversation. Others, above all those whose order among all publishers counts, go to
/// the topics of users.
pub(super) fn conversation_of(event: &Event) -> Option<ConversationId> {
    match event {
        Event::Entries(entries, _) => entries.first().map(|stored| stored.entry.conversation),
        Event::Receipts(moved) => Some(moved.conversation),
        Event::OwnRow(conversation) | Event::Typing { conversation, .. } => Some(*conversation),
        Event::Presence(_) | Event::Replaced { .. } | Event::Revoked { .. } | Event::Control(_) | Event::Lost => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, hears: bool) -> NodeRecord {
        NodeRecord {
            name: name.to_owned(),
            address: String::new(),
            core: true,
            hears_groups: hears,
            hears_promoted: hears,
            clock: None,
        }
    }

    fn others(gateways: &Gateways, users: usize) -> Option<usize> {
        let event = Event::OwnRow(ConversationId([17; 16]));
        let at_once = gateways.at_once(users, &event)?;
        assert_eq!(at_once.channel, Topic::Gateways(1));
        Some(at_once.others)
    }

    #[tokio::test(start_paused = true)]
    async fn only_large_groups_go_at_once_and_only_while_all_nodes_are_known_to_hear() {
        let gateways = Gateways::default();
        assert_eq!(others(&gateways, 500), None, "nobody said anything");
        gateways.own("me");
        gateways.said(&[node("me", true), node("one", true), node("two", true)]);
        assert_eq!(others(&gateways, USERS_MIN), Some(2));
        assert_eq!(others(&gateways, USERS_MIN - 1), None);
        let many: Vec<_> = (0..40).map(|number| node(&number.to_string(), true)).collect();
        gateways.said(&many);
        assert_eq!(others(&gateways, 320), Some(40));
        assert_eq!(
            others(&gateways, 319),
            None,
            "so many gateways cost more than the users"
        );
        gateways.said(&[node("me", true), node("of before", false)]);
        assert_eq!(others(&gateways, 500), None, "it would hear nothing");
        gateways.said(&[node("me", true)]);
        assert_eq!(others(&gateways, 500), Some(0));
        tokio::time::advance(KNOWN_FOR).await;
        assert_eq!(others(&gateways, 500), None, "what was said is old");
    }

    /// A gateway that comes, also one that was gone for a while, knows nothing of what was said before.
    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_comes_makes_another_epoch_and_one_that_goes_does_not() {
        let gateways = Gateways::default();
        assert_eq!(gateways.view(), None, "nobody said anything");
        gateways.own("me");
        let epoch = |nodes: &[NodeRecord]| {
            gateways.said(nodes);
            gateways.view().map(|view| (view.others, view.epoch))
        };
        let (me, one, two) = (node("me", true), node("one", true), node("two", true));
        assert_eq!(epoch(&[me.clone(), one.clone(), two.clone()]), Some((2, 1)));
        assert_eq!(epoch(&[me.clone(), one.clone()]), Some((1, 1)));
        assert_eq!(epoch(&[me.clone(), one.clone(), two]), Some((2, 2)));
        let before = NodeRecord {
            hears_promoted: false,
            ..one.clone()
        };
        assert_eq!(epoch(&[me.clone(), before]), None, "it would hear nothing");
        assert_eq!(epoch(&[me, one]), Some((1, 2)));
        tokio::time::advance(KNOWN_FOR).await;
        assert_eq!(gateways.view(), None, "what was said is old");
    }
}
