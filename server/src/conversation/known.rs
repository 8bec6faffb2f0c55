//! Markers of users that this node knows to be stored: their values, or lower ones, for other nodes may have raised them.
//!
//! Registers only rise (I6), so whether a marker moves can be told without reading it whenever it is known: at worst the
//! others are told once more of what they know. An ack is most of what a busy server writes.

use quick_cache::sync::Cache;

use crate::domain::{ConversationId, MarkerSet, UserId};

/// Users' markers in single conversations, about 150 bytes each: those of some ten thousand people who talk.
const KNOWN_MAX: usize = 65_536;

pub(super) struct KnownMarkers(Cache<(UserId, ConversationId), MarkerSet>);

impl Default for KnownMarkers {
    fn default() -> Self {
        Self(Cache::new(KNOWN_MAX))
    }
}

impl KnownMarkers {
    /// What is known of a user's markers in all of these, in the order asked; `None` when one must be read.
    pub(super) fn all(&self, user: &UserId, ids: &[ConversationId]) -> Option<Vec<MarkerSet>> {
        ids.iter().map(|id| self.0.get(&(user.clone(), *id))).collect()
    }

    /// These are stored.
    pub(super) fn stored(&self, user: &UserId, id: ConversationId, markers: MarkerSet) {
        let key = (user.clone(), id);
        let known = self.0.get(&key).unwrap_or_default();
        self.0.insert(key, known.merge(markers));
    }
}
