//! Which nodes there are, as they say themselves.

use crate::domain::ClockOffset;

/// A node, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRecord {
    /// Its name: random at each start, so that a node that came back is another one.
    pub name: String,
    /// `host:port` of its listener for nodes.
    pub address: String,
    /// Whether it owns conversations.
    pub core: bool,
    /// Whether it hears what is published once for many users ([`super::Topic::Gateways`]); a node of before that does not.
    pub hears_groups: bool,
    /// Whether it hears of promoted conversations ([`super::Topic::Conversation`]); a node of before that does not.
    pub hears_promoted: bool,
    /// Its clock against the bus's, where it knows.
    pub clock: Option<ClockOffset>,
}
