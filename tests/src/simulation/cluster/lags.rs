//! How late the newest entries reached everybody (T11, F5).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checker::{Conversation, History, Moment, OpId, Seq, SessionRef, User, What};

/// One lag for each conversation and each user whose device got its newest acknowledged entry, shortest first.
pub(super) fn of_tails(history: &History) -> Vec<Duration> {
    let tails = tails(history);
    let mut owners: BTreeMap<SessionRef, &User> = BTreeMap::new();
    let mut first: BTreeMap<(&Conversation, &User), Moment> = BTreeMap::new();
    for event in &history.events {
        match &event.what {
            What::SessionOpened { session, user, .. } => drop(owners.insert(*session, user)),
            What::Delivered { session, entry } => {
                let conversation = &entry.key.conversation;
                let is_tail = tails.get(conversation).is_some_and(|(seq, _)| *seq == entry.seq);
                if let (true, Some(user)) = (is_tail, owners.get(session)) {
                    first.entry((conversation, user)).or_insert(event.at);
                }
            }
            _ => {}
        }
    }
    let lag = |((conversation, _), at): (&(&Conversation, &User), &Moment)| {
        let acked = tails.get(*conversation).map_or(Moment(0), |(_, acked)| *acked);
        Duration::from_micros(at.0.saturating_sub(acked.0))
    };
    let mut lags: Vec<Duration> = first.iter().map(lag).collect();
    lags.sort_unstable();
    lags
}

/// The newest acknowledged entry of each conversation, and when its first ack came.
fn tails(history: &History) -> BTreeMap<&Conversation, (Seq, Moment)> {
    let mut ops: BTreeMap<OpId, &Conversation> = BTreeMap::new();
    let mut tails: BTreeMap<&Conversation, (Seq, Moment)> = BTreeMap::new();
    for event in &history.events {
        match &event.what {
            What::SendInvoked { op, key, .. } => drop(ops.insert(*op, &key.conversation)),
            What::SendAcked { op, seq } => {
                let Some(conversation) = ops.get(op) else { continue };
                let tail = tails.entry(conversation).or_insert((*seq, event.at));
                if *seq > tail.0 {
                    *tail = (*seq, event.at);
                }
            }
            _ => {}
        }
    }
    tails
}
