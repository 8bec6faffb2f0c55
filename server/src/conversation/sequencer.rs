//! The sequencer: decides, in order, what each request becomes: an entry with a seq, an earlier entry, or a refusal.
//!
//! Planning writes nothing. A batch is a guess about the head; the log's compare-and-set makes it true or throws it
//! away, and then everything is planned again, the duplicate check included (D13).

use std::collections::BTreeMap;

use stonechat_host::rule_holds;
use tokio::sync::oneshot;

use super::change::Target;
use super::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, LOOKS_AT_ONCE};
use super::looks::{Looked, look, read_one};
use super::membership::check_joining;
use super::state::State;
use super::{AppendRequest, Appended, Backends, Caller, Limits};
use crate::domain::payload::canonical_bytes;
use crate::domain::{
    Body, Change, ClientMsgId, Effect, Entry, Member, Reason, Refusal, Sender, Seq, UnixMillis, UserId,
};
use crate::room::Share;
use crate::storage::{AppendBatch, Directory, Head, MessageLog, PayloadHash, PendingAppend};

/// A request that waits for its place.
pub(super) struct Append {
    pub(super) caller: Caller,
    pub(super) request: AppendRequest,
    pub(super) payload: PayloadHash,
    /// How many bytes that is the hash of.
    pub(super) bytes: usize,
    /// An earlier try of it may have been stored: no refusal is certain any more (C9).
    pub(super) unsure: bool,
    pub(super) reply: oneshot::Sender<Result<Appended, Refusal>>,
    /// Its bytes of what may wait for this conversation, and at this node; given back once it is answered.
    pub(super) room: Option<(Share, Share)>,
}

/// Hash that tells a retry from another payload under the same id, and how many bytes that is of.
pub(super) fn payload_of(request: &AppendRequest) -> (PayloadHash, usize) {
    let payload = canonical_bytes(&request.change);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &payload);
    let mut hash = PayloadHash::default();
    hash.copy_from_slice(digest.as_ref());
    (hash, payload.len())
}

/// What became of one request.
pub(super) enum Verdict {
    /// It is the n-th entry of the batch, or repeats the request that is.
    Planned { index: usize, duplicate: bool },
    /// It needs no entry.
    Settled(Result<Appended, Refusal>),
}

/// A batch to try, and what each planned request gets if it succeeds.
pub(super) struct Plan {
    /// One per planned request, in order; there may be fewer than requests when the batch is full.
    pub(super) verdicts: Vec<Verdict>,
    /// The conversation after the batch.
    pub(super) after: State,
    entries: Vec<PendingAppend>,
    before: Head,
}

impl Plan {
    /// Whether a request was found in the log above `head`: then there are entries that this node has not taken in.
    pub(super) fn is_behind(&self, head: Seq) -> bool {
        let above = |verdict: &Verdict| matches!(verdict, Verdict::Settled(Ok(found)) if found.seq > head);
        self.verdicts.iter().any(above) && rule_holds("acknowledged_by_whoever_took_it_in")
    }

    /// The batch; `None` when nothing is to be appended.
    pub(super) fn batch(&self) -> Option<AppendBatch> {
        (!self.entries.is_empty()).then(|| AppendBatch {
            conversation: self.after.id,
            expected: self.before,
            entries: self.entries.clone(),
            head: self.after.head,
        })
    }
}

/// Plans as many of `waiting` as fit one batch, in order.
pub(super) async fn plan<'a>(
    backends: &Backends,
    state: &State,
    limits: &Limits,
    now: UnixMillis,
    waiting: impl Iterator<Item = &'a Append>,
) -> Plan {
    let mut planner = Planner {
        log: &*backends.log,
        directory: &*backends.directory,
        plan: Plan {
            verdicts: Vec::new(),
            after: state.clone(),
            entries: Vec::new(),
            before: state.head,
        },
        ids: BTreeMap::new(),
        newest: BTreeMap::new(),
        bytes: 0,
        now,
    };
    let waiting: Vec<&Append> = waiting.collect();
    let mut rest = &waiting[..];
    while !rest.is_empty() && !planner.is_full(limits) {
        let (wave, later) = rest.split_at(planner.wave(rest));
        rest = later;
        let looked = look(planner.log, wave).await;
        for (append, looked) in wave.iter().zip(looked) {
            if planner.is_full(limits) {
                break;
            }
            let verdict = planner.place(append, looked).await;
            let halts = limits.halts && matches!(&verdict, Err(refusal) if refusal.is_fault());
            let verdict = verdict.unwrap_or_else(|refusal| Verdict::Settled(Err(refusal)));
            planner.plan.verdicts.push(verdict);
            if halts {
                return planner.plan;
            }
        }
    }
    planner.plan
}

struct Planner<'a> {
    log: &'a dyn MessageLog,
    directory: &'a dyn Directory,
    plan: Plan,
    /// Ids planned in this batch: a retry may stand in the queue right behind its first try.
    ids: BTreeMap<(Sender, ClientMsgId), usize>,
    newest: BTreeMap<Sender, ClientMsgId>,
    bytes: usize,
    now: UnixMillis,
}

impl Planner<'_> {
    /// A batch is full by count or bytes, or when the next seq would open another bucket of the log.
    fn is_full(&self, limits: &Limits) -> bool {
        let next = self.plan.after.head.seq.next();
        let at_edge = !self.plan.entries.is_empty() && next.0.is_multiple_of(limits.bucket_seqs);
        self.plan.entries.len() >= BATCH_ENTRIES_MAX || self.bytes >= BATCH_BYTES_MAX || at_edge
    }

    /// How many of the next requests are looked for together: as many as may fit, so that a look is not for nothing.
    fn wave(&self, rest: &[&Append]) -> usize {
        let mut bytes = self.bytes;
        let fit = rest.iter().take(LOOKS_AT_ONCE).take_while(|append| {
            let fits = bytes < BATCH_BYTES_MAX;
            bytes += append.bytes;
            fits
        });
        fit.count().max(1)
    }

    async fn place(&mut self, append: &Append, looked: Looked) -> Result<Verdict, Refusal> {
        let sender = append.caller.sender();
        if let Some(verdict) = self.duplicate(append, &sender, looked.earlier)? {
            return Ok(verdict);
        }
        self.plan.after.check_visible(&append.caller.actor)?;
        self.check_order(append, &sender, looked.newest)?;
        let target = self.target(append).await?;
        let body = self
            .plan
            .after
            .body_of(&append.caller.actor, &append.request.change, target.as_ref())?;
        if let Change::SetMembers(members) = &append.request.change {
            let joining = joining(&self.plan.after, members);
            check_joining(self.directory, append.caller.actor.user(), &joining).await?;
        }
        let index = self.push(append, sender, body);
        Ok(Verdict::Planned {
            index,
            duplicate: false,
        })
    }

    /// An earlier try with the same id, here in the batch or in the log (I2).
    fn duplicate(
        &self,
        append: &Append,
        sender: &Sender,
        earlier: Result<Option<Appended>, Refusal>,
    ) -> Result<Option<Verdict>, Refusal> {
        if !rule_holds("one_place_per_id") {
            return Ok(None);
        }
        let key = (sender.clone(), append.request.client_msg_id.clone());
        if let Some(&index) = self.ids.get(&key) {
            let planned = &self.plan.entries[index];
            check_same_payload(append, planned.payload, planned.entry.seq)?;
            return Ok(Some(Verdict::Planned { index, duplicate: true }));
        }
        Ok(earlier?.map(|earlier| Verdict::Settled(Ok(earlier))))
    }

    /// The named predecessor must be the sender's newest accepted entry (I4, D11).
    fn check_order(
        &self,
        append: &Append,
        sender: &Sender,
        stored: Result<Option<ClientMsgId>, Refusal>,
    ) -> Result<(), Refusal> {
        let Some(previous) = &append.request.previous else {
            return Ok(());
        };
        let newest = match self.newest.get(sender) {
            Some(newest) => Some(newest.clone()),
            None => stored?,
        };
        if newest.as_ref() == Some(previous) || !rule_holds("behind_its_predecessor") {
            return Ok(());
        }
        let message = format!("{previous} is not this device's newest entry here; not stored");
        Err(Refusal::not_done(Reason::OutOfOrder { last: newest }, message))
    }

    /// The message that the change speaks of, or the one it replies to.
    async fn target(&self, append: &Append) -> Result<Option<Target>, Refusal> {
        let Some(seq) = append.request.change.target() else {
            return Ok(None);
        };
        self.plan.after.check_readable(&append.caller.actor, seq)?;
        let planned = self.plan.entries.iter().find(|planned| planned.entry.seq == seq);
        let entry = match planned {
            Some(planned) => planned.entry.clone(),
            None => read_one(self.log, self.plan.after.id, seq).await?.entry.clone(),
        };
        let redacted_in_batch = self
            .plan
            .entries
            .iter()
            .any(|planned| matches!(planned.entry.body, Body::Redacted { target, .. } if target == seq));
        Ok(Some(Target {
            sender: entry.sender.user,
            is_message: matches!(entry.body, Body::Message(_)) && !redacted_in_batch,
        }))
    }

    fn push(&mut self, append: &Append, sender: Sender, body: Body) -> usize {
        let head = &mut self.plan.after.head;
        head.seq = head.seq.next();
        head.time = head.time.max(self.now);
        if body.counts_as_unread() {
            head.ordinal = head.ordinal.next();
        }
        if body.changes_membership() {
            head.epoch = head.epoch.next();
        }
        let entry = Entry {
            conversation: append.request.conversation,
            seq: head.seq,
            time: head.time,
            ordinal: head.ordinal,
            sender: sender.clone(),
            client_msg_id: append.request.client_msg_id.clone(),
            correlation: append.caller.correlation,
            origin_time: append.request.origin_time,
            body,
        };
        self.plan.after.apply(&entry);
        self.bytes += append.bytes;
        let index = self.plan.entries.len();
        self.ids.insert((sender.clone(), entry.client_msg_id.clone()), index);
        self.newest.insert(sender, entry.client_msg_id.clone());
        self.plan.entries.push(PendingAppend {
            entry,
            payload: append.payload,
        });
        index
    }
}

/// Those of the members to set who are none yet: whom a block keeps out. Who is there already may be given another role,
/// whoever blocks whom.
fn joining(state: &State, members: &[Member]) -> Vec<UserId> {
    let users = members.iter().map(|member| &member.user);
    users
        .filter(|user| state.roster.role(user).is_none())
        .cloned()
        .collect()
}

/// The refusal when nobody looked whether there was an earlier try, be it that the log cannot say or that there is no time
/// to ask it: this may be a retry of one that was stored (C9).
pub(super) fn unasked(refusal: Refusal) -> Refusal {
    if rule_holds("who_cannot_look_does_not_deny") {
        doubted(refusal)
    } else {
        refusal
    }
}

/// The refusal of a request of which an earlier try may have been stored, or may still be (C9): whatever a later try met,
/// a read that failed among it, "not done" would be a guess. Only an id that holds another payload is certain.
pub(super) fn doubted(refusal: Refusal) -> Refusal {
    if refusal.effect == Effect::Unknown || matches!(refusal.reason, Reason::ClientMsgIdReused { .. }) {
        return refusal;
    }
    let message = format!(
        "an earlier try may have been stored, retry with the same id; of this one: {}",
        refusal.message
    );
    Refusal::unknown(refusal.reason, message)
}

pub(super) fn check_same_payload(append: &Append, stored: PayloadHash, seq: Seq) -> Result<(), Refusal> {
    if stored == append.payload {
        return Ok(());
    }
    let message = format!(
        "{} was used at seq {seq} with another payload; not stored again",
        append.request.client_msg_id
    );
    Err(Refusal::not_done(Reason::ClientMsgIdReused { stored: seq }, message))
}

/// The answer for a stored entry.
pub(super) fn appended(entry: &Entry, duplicate: bool) -> Appended {
    Appended {
        conversation: entry.conversation,
        client_msg_id: entry.client_msg_id.clone(),
        seq: entry.seq,
        time: entry.time,
        duplicate,
        correlation: entry.correlation,
    }
}
