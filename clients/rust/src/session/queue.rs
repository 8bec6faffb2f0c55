//! Events that the app has not taken yet.

use std::collections::VecDeque;

use super::Envelope;
use crate::event::Event;

/// From here on nothing more is read from the server: two full windows of deliveries, a page of history, and as much
/// again of everything else.
const HELD_MAX: usize = 1_536;
/// From here on typing and presence are dropped: a full window of deliveries and as much again.
const SHED_FROM: usize = 512;
/// How far back a newer event looks for one that it makes worthless.
const LOOK_BACK: usize = 64;

#[derive(Default)]
pub(super) struct EventQueue(VecDeque<Envelope>);

impl EventQueue {
    pub(super) fn push(&mut self, event: Event) {
        self.push_with(event, None);
    }

    pub(super) fn push_with(&mut self, event: Event, cursor: Option<Vec<u8>>) {
        if event.may_be_shed() && self.0.len() >= SHED_FROM {
            return;
        }
        let from = self.0.len().saturating_sub(LOOK_BACK);
        let stale = self.0.range(from..).position(|held| held.event.superseded_by(&event));
        if let Some(at) = stale {
            self.0.remove(from + at);
        }
        self.0.push_back(Envelope { event, cursor });
    }

    pub(super) fn pop(&mut self) -> Option<Envelope> {
        self.0.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= HELD_MAX
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
