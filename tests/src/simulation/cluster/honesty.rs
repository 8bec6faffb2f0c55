//! Whether "certainly not done, now or later" was true (C9), told from what really lies in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stonechat_server::domain::{ClientMsgId, ConversationId, Effect, Refusal, Sender};

/// What a device sends under one id.
pub(super) type Id = (ConversationId, Sender, ClientMsgId);

#[derive(Default)]
struct Ledger {
    /// How often a request of it has arrived anywhere.
    arrivals: BTreeMap<Id, u64>,
    stored: BTreeSet<Id>,
    /// Refused as not done, and no other request of it ever arrived: nothing can store it any more.
    denied: BTreeSet<Id>,
    lies: Vec<String>,
}

/// Who has arrived where, what was stored, what was denied.
#[derive(Default)]
pub(super) struct Honesty(Mutex<Ledger>);

/// A request that has arrived.
pub(super) struct Asked {
    id: Id,
    was_stored: bool,
}

impl Honesty {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrived(&self, id: Id) -> Asked {
        let mut ledger = self.lock();
        *ledger.arrivals.entry(id.clone()).or_default() += 1;
        ledger.denied.remove(&id);
        let was_stored = ledger.stored.contains(&id);
        Asked { id, was_stored }
    }

    pub(super) fn stored(&self, id: Id) {
        let mut ledger = self.lock();
        if ledger.denied.remove(&id) {
            ledger
                .lies
                .push(format!("{id:?} was stored after it was refused as not done"));
        }
        ledger.stored.insert(id);
    }

    /// What lay in the log before a request arrived must not be denied; nor what only this request can have put there.
    pub(super) fn refused(&self, asked: Asked, refusal: &Refusal) {
        if refusal.effect != Effect::NotDone {
            return;
        }
        let mut ledger = self.lock();
        let is_only_one = ledger.arrivals.get(&asked.id).is_none_or(|arrivals| *arrivals == 1);
        if asked.was_stored || (is_only_one && ledger.stored.contains(&asked.id)) {
            let lie = format!("{:?} is stored and was refused as not done: {refusal}", asked.id);
            ledger.lies.push(lie);
        } else if is_only_one {
            ledger.denied.insert(asked.id);
        }
    }

    pub(super) fn take_lies(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().lies)
    }
}
