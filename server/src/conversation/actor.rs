//! The soft owner of one conversation: one task that keeps it in memory, lets one compare-and-set fly at a time and
//! commits together what queued meanwhile.
//!
//! What is true if the process dies:
//! - before the log's append returned: nothing, or (outcome unknown to everybody) the whole batch; a retry finds out;
//! - after it returned, before the acks: all of the batch is stored, nobody knows; retries are answered as duplicates,
//!   and fan-out is pending in the log, so the next start delivers it;
//! - after the acks: as before, and the senders know.

use std::collections::VecDeque;
use std::sync::Arc;

use stonechat_host::{crash_point, monotonic, rule_holds};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::debug;

use super::core::Core;
use super::fanout::{Fanout, FanoutBatch};
use super::limits::{
    BATCH_ENTRIES_MAX, BLOCK_LOOK_EVERY, CONFLICT_TRIES_MAX, IDLE, IDLE_CROWDED, LOADED_MAX, QUEUE_BYTES_MAX,
    QUEUE_MAX, REPLAY_PAGE, UNKNOWN_TRIES_MAX,
};
use super::moved::Moved;
use super::rate::RateLimit;
use super::sequencer::{Append, Plan, Verdict, appended, doubted, plan, unasked};
use super::state::{State, append_refusal, followed, is_blocked, load, read_refusal, unavailable};
use super::{fanout, receipts};
use crate::domain::authorization::Actor as Who;
use crate::domain::{ConversationId, Effect, Kind, Reason, Refusal, Seq};
use crate::room::Room;
use crate::storage::{AppendBatch, AppendError, StoredEntry};
use crate::telemetry::meters::{Outcome, Shed, meters};

/// What an actor can be asked.
pub(super) enum Command {
    /// Give a request its place.
    Append(Box<Append>),
    /// Read the log and the directory again: somebody else appended, or a block changed. Answered with whether it could.
    Reload(oneshot::Sender<Result<(), Refusal>>),
    /// Fan out again from this seq on: whoever should have may be dead.
    Redrive(Seq),
    /// Answer when everything before is done.
    Flush(oneshot::Sender<()>),
}

/// What readers see of an actor: nothing yet, the conversation, or why it cannot be loaded.
pub(super) type Published = Option<Result<Arc<State>, Refusal>>;

/// The outside of an actor.
#[derive(Clone)]
pub(super) struct ActorHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) published: watch::Receiver<Published>,
    /// Members of whose receipts the others are to be told.
    pub(super) moved: Arc<Moved>,
    /// For appends that wait.
    pub(super) room: Arc<Room>,
    /// Held while waiting for the load: waiters go on in the order in which they came, so that a simulation repeats (a
    /// watch wakes them in an order of its own).
    pub(super) turn: Arc<Mutex<()>>,
    /// Tells two actors of one conversation apart.
    pub(super) generation: u64,
}

/// Starts the actor of a conversation. It loads first; commands queue meanwhile. It ends when idle or when the
/// conversation does not exist.
pub(super) fn spawn(core: Arc<Core>, id: ConversationId, generation: u64) -> ActorHandle {
    let (commands, inbox) = mpsc::channel(QUEUE_MAX);
    let (publish, published) = watch::channel(None);
    let moved = Arc::<Moved>::default();
    tokio::spawn(start(core, id, generation, inbox, publish, Arc::clone(&moved)));
    ActorHandle {
        commands,
        published,
        moved,
        room: Room::new(QUEUE_BYTES_MAX),
        turn: Arc::default(),
        generation,
    }
}

async fn start(
    core: Arc<Core>,
    id: ConversationId,
    generation: u64,
    mut inbox: mpsc::Receiver<Command>,
    publish: watch::Sender<Published>,
    moved: Arc<Moved>,
) {
    let block_looked = monotonic();
    match take_over(&core, id).await {
        Ok((state, fanout)) => {
            let _loaded = meters().conversations_loaded.hold();
            publish.send_replace(Some(Ok(Arc::clone(&state))));
            let rate = RateLimit::new(core.limits.appends_per_second, monotonic());
            let mut actor = Actor {
                core,
                state,
                inbox,
                publish,
                fanout,
                rate,
                waiting: VecDeque::new(),
                moved,
                block_looked,
                halted: None,
                generation,
            };
            actor.run().await;
        }
        Err(refusal) => {
            publish.send_replace(Some(Err(refusal.clone())));
            core.registry.remove(id, generation);
            inbox.close();
            // Nobody looked whether these are retries of what is stored; where there is no conversation nothing is.
            let is_certain = refusal.reason == Reason::NotFound;
            let refusal = if is_certain { refusal } else { unasked(refusal) };
            while let Some(command) = inbox.recv().await {
                if let Command::Append(append) = command {
                    let _gone = append.reply.send(Err(refusal.clone()));
                }
            }
        }
    }
}

/// Loads a conversation and fans out what nobody may have heard of. That begins before readers see it, so that a catch-up
/// waits for it.
async fn take_over(core: &Arc<Core>, id: ConversationId) -> Result<(Arc<State>, Fanout), Refusal> {
    let state = Arc::new(load(&core.backends, id, core.now()).await?);
    let pending = core.backends.log.fanout_own(id).await.map_err(read_refusal)?;
    // Another node that owns it fans it out; should that one be dead, it is taken over by and by. The first entry is appended
    // by whoever creates the conversation, and so is told at once.
    let is_ours = core.owns(id) || state.head.seq == Seq::ZERO.next();
    let pending = pending.filter(|_| rule_holds("pending_fanout_done_at_start") && is_ours);
    let fanout = fanout::spawn(core, &state, pending);
    Ok((state, fanout))
}

struct Actor {
    core: Arc<Core>,
    state: Arc<State>,
    inbox: mpsc::Receiver<Command>,
    publish: watch::Sender<Published>,
    fanout: Fanout,
    rate: RateLimit,
    /// Accepted into the batch to come; bounded by `BATCH_ENTRIES_MAX`.
    waiting: VecDeque<Append>,
    moved: Arc<Moved>,
    /// When it was last looked whether it is blocked.
    block_looked: Instant,
    /// The fault behind which nothing is taken any more; see [`Limits::halts`](super::Limits).
    halted: Option<Refusal>,
    generation: u64,
}

impl Actor {
    async fn run(&mut self) {
        while let Some(command) = self.next_command().await {
            self.handle(command).await;
            self.take_queued().await;
            while !self.waiting.is_empty() {
                self.commit().await;
                // Here too, or a conversation that is never out of work would never tell its receipts.
                self.tell_receipts().await;
                self.take_queued().await;
            }
        }
        self.send_receipts().await;
    }

    /// The next command; sends receipts that are due; `None` when idle long enough and nothing can come any more.
    async fn next_command(&mut self) -> Option<Command> {
        loop {
            self.tell_receipts().await;
            let (due, idle_at) = (self.receipts_due(), monotonic() + self.idle_limit());
            let wake = due.map_or(idle_at, |due| due.min(idle_at));
            tokio::select! {
                biased;
                () = self.moved.begun(), if due.is_none() => {}
                command = self.inbox.recv() => return command,
                () = tokio::time::sleep_until(wake) => {
                    // Its worker ends with it, so it stays while something is to be made up for.
                    if self.moved.since().is_none() && !self.fanout.owes() {
                        // Out of the registry first, then closed: a command that came in between is still handled.
                        self.core.registry.remove(self.state.id, self.generation);
                        self.inbox.close();
                    }
                }
            }
        }
    }

    fn idle_limit(&self) -> std::time::Duration {
        if self.core.registry.loaded() > LOADED_MAX / 2 {
            IDLE_CROWDED
        } else {
            IDLE
        }
    }

    /// Takes what queued meanwhile, up to a batch.
    async fn take_queued(&mut self) {
        while self.waiting.len() < BATCH_ENTRIES_MAX {
            match self.inbox.try_recv() {
                Ok(command) => self.handle(command).await,
                Err(_) => return,
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Append(append) => self.admit(*append),
            Command::Reload(done) => {
                let _gone = done.send(self.reload(true).await);
            }
            Command::Redrive(from) => self.redrive(from).await,
            Command::Flush(done) => {
                while !self.waiting.is_empty() {
                    self.commit().await;
                }
                let _gone = done.send(());
            }
        }
    }

    /// Applies the conversation's rate; the system is not limited by it. Whether an earlier try was stored is not looked up
    /// for who is over it: that would cost what the rate saves.
    fn admit(&mut self, append: Append) {
        let limited = matches!(append.caller.actor, Who::User(_));
        match if limited { self.rate.take(monotonic()) } else { Ok(()) } {
            Ok(()) if !rule_holds("first_come_first_served") => self.waiting.push_front(append),
            Ok(()) => self.waiting.push_back(append),
            Err(wait) => {
                meters().shed.inc(Shed::ConversationRate);
                let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
                let reason = Reason::RateLimited { retry_after_ms };
                let refusal = Refusal::not_done(reason, "this conversation is at its rate limit");
                let _gone = append.reply.send(Err(unasked(refusal)));
            }
        }
    }

    /// A block may have been set through another node, which tells this one nothing: it counts here within seconds.
    async fn look_for_block(&mut self) {
        let is_due = self.block_looked + BLOCK_LOOK_EVERY <= monotonic();
        if self.core.peers.is_none() || self.state.kind == Kind::Group || !is_due {
            return;
        }
        self.block_looked = monotonic();
        if let Ok(blocked) = is_blocked(&self.core.backends, &self.state).await
            && blocked != self.state.blocked
        {
            self.publish_state(State {
                blocked,
                ..State::clone(&self.state)
            });
        }
    }

    /// Commits one batch of what waits. Ends with every request of the batch answered.
    async fn commit(&mut self) {
        let (mut conflicts, mut unknowns) = (0, 0);
        if let Some(refusal) = self.halted.clone() {
            let verdict = |_: &Append| Verdict::Settled(Err(unasked(refusal.clone())));
            return self.answer(self.waiting.iter().map(verdict).collect(), &[], None);
        }
        self.look_for_block().await;
        loop {
            let plan = self.plan().await;
            let tried = if plan.is_behind(self.state.head.seq) {
                Err(AppendError::Conflict)
            } else if let Some(batch) = plan.batch() {
                self.append(batch).await
            } else {
                return self.answer(plan.verdicts, &[], None);
            };
            let error = match tried {
                Ok(stored) => return self.stored(plan, stored),
                Err(error) => error,
            };
            match error {
                AppendError::Conflict if !rule_holds("a_lost_append_is_looked_into") => {
                    return self.answer(
                        plan.verdicts,
                        &[],
                        Some(&unavailable("others append faster; not stored")),
                    );
                }
                AppendError::Conflict => {
                    conflicts += 1;
                    meters().append_conflicts.inc();
                }
                AppendError::Unknown(_) => {
                    unknowns += 1;
                    meters().append_unknowns.inc();
                    let tried = self.waiting.iter_mut().take(plan.verdicts.len());
                    tried.for_each(|append| append.unsure = true);
                }
                AppendError::NotDone(_) | AppendError::Corrupt(_) => {
                    return self.answer(plan.verdicts, &[], Some(&append_refusal(&error)));
                }
            }
            let enough = conflicts > CONFLICT_TRIES_MAX || unknowns > UNKNOWN_TRIES_MAX;
            if self.reload(false).await.is_err() || enough {
                return self.answer(plan.verdicts, &[], Some(&append_refusal(&error)));
            }
        }
    }

    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        crash_point("append.planned");
        meters().append_batch_entries.size(batch.entries.len());
        let started = monotonic();
        let appended = self.core.backends.log.append(batch).await;
        meters().append_seconds.since(started);
        if appended.is_ok() {
            crash_point("append.stored");
        }
        appended
    }

    async fn plan(&self) -> Plan {
        let core = &self.core;
        plan(
            &core.backends,
            &self.state,
            &core.limits,
            core.now(),
            self.waiting.iter(),
        )
        .await
    }

    /// The batch is durable: readers see it, then the senders know, then it is fanned out.
    fn stored(&mut self, plan: Plan, stored: Vec<Arc<StoredEntry>>) {
        self.publish_state(plan.after);
        let ticket = self.core.barrier.ticket(self.state.id, &self.state.roster);
        self.answer(plan.verdicts, &stored, None);
        crash_point("append.acked");
        let roster = Arc::clone(&self.state.roster);
        let batch = FanoutBatch {
            entries: stored,
            roster,
            ticket,
        };
        self.fanout.send(batch);
    }

    fn publish_state(&mut self, state: State) {
        self.state = Arc::new(state);
        self.publish.send_replace(Some(Ok(Arc::clone(&self.state))));
    }

    /// Answers the planned requests and drops them from the queue; `refusal` is for those that needed the batch.
    fn answer(&mut self, verdicts: Vec<Verdict>, stored: &[Arc<StoredEntry>], refusal: Option<&Refusal>) {
        for verdict in verdicts {
            let Some(mut append) = self.waiting.pop_front() else {
                return;
            };
            let answer = match (verdict, refusal) {
                // An ack says that fan-out is under way: what this node has not taken in is not acknowledged by it.
                (Verdict::Settled(Ok(found)), Some(refusal)) if found.seq > self.state.head.seq => {
                    append.unsure = true;
                    Err(refusal.clone())
                }
                (Verdict::Settled(answer), _) => answer,
                (Verdict::Planned { .. }, Some(refusal)) => Err(refusal.clone()),
                (Verdict::Planned { index, duplicate }, None) => Ok(appended(&stored[index].entry, duplicate)),
            };
            let in_doubt = append.unsure && rule_holds("doubt_is_told");
            let answer = if in_doubt { answer.map_err(doubted) } else { answer };
            if self.core.limits.halts
                && let Err(refusal) = &answer
                && refusal.is_fault()
            {
                self.halted = Some(refusal.clone());
            }
            log_answer(&append, &answer);
            if answer.is_err() && !rule_holds("every_request_answered") {
                std::mem::forget(append.reply);
                continue;
            }
            meters().appends.inc(outcome(&answer));
            let _gone = append.reply.send(answer);
        }
    }

    /// Brings the conversation up to the log's head, and fans out what came in between: whoever appended it may be dead,
    /// and receivers drop what they have. `anew`: what the directory alone knows, too.
    async fn reload(&mut self, anew: bool) -> Result<(), Refusal> {
        let known = self.state.head.seq;
        let mut state = match load(&self.core.backends, self.state.id, self.core.now()).await {
            Ok(state) => state,
            Err(refusal) if !anew => followed(&self.core.backends, &self.state).await?.ok_or(refusal)?,
            Err(refusal) => return Err(refusal),
        };
        if !rule_holds("members_are_read_again") {
            state.roster = Arc::clone(&self.state.roster);
        }
        let missed = fanout::read_range(&self.core.backends, state.id, known.next(), state.head.seq).await?;
        self.publish_state(state);
        // Whoever owns it has told everybody, or is dead and will be succeeded.
        if !missed.is_empty() && self.core.owns(self.state.id) {
            self.fan_out(missed);
        }
        Ok(())
    }

    /// Fans out what is in the log from a seq on, a page at a time; receivers drop what they have.
    async fn redrive(&mut self, from: Seq) {
        if self.fanout.owes() || self.reload(false).await.is_err() {
            return;
        }
        let (mut next, head) = (from, self.state.head.seq);
        while next <= head {
            let page_end = Seq(head.0.min(next.0 + REPLAY_PAGE as u64 - 1));
            match fanout::read_range(&self.core.backends, self.state.id, next, page_end).await {
                Ok(entries) if !entries.is_empty() => self.fan_out(entries),
                _ => return,
            }
            next = page_end.next();
        }
    }

    fn fan_out(&mut self, entries: Vec<Arc<StoredEntry>>) {
        let batch = FanoutBatch {
            entries,
            roster: Arc::clone(&self.state.roster),
            ticket: self.core.barrier.ticket(self.state.id, &self.state.roster),
        };
        self.fanout.send(batch);
    }

    fn receipts_due(&self) -> Option<Instant> {
        self.moved.since().map(|since| since + receipts::delay(&self.state))
    }

    async fn tell_receipts(&mut self) {
        if self.receipts_due().is_some_and(|due| due <= monotonic()) {
            self.send_receipts().await;
        }
    }

    async fn send_receipts(&mut self) {
        let moved = self.moved.take();
        if moved.users.is_empty() {
            return;
        }
        self.look_for_block().await;
        if self.state.blocked {
            return;
        }
        // Without it they are told when they next move.
        if let Some(state) = self.present(moved.up_to).await {
            receipts::send_moved(&self.core.backends, &state, &moved.users).await;
        }
    }

    /// The conversation as of the log's head, with its members: another node may have appended, and removed somebody who must
    /// not hear of what comes (I7). An owner asks only when something was marked that it does not know of, and so another node
    /// appended. `None` when it cannot be known now.
    async fn present(&mut self, marked: Seq) -> Option<Arc<State>> {
        if self.core.owns(self.state.id) && marked <= self.state.head.seq {
            return Some(Arc::clone(&self.state));
        }
        let head = self.core.backends.log.head(self.state.id).await.ok()??;
        if let Some(state) = self.state.at(head) {
            return Some(state);
        }
        self.reload(false).await.ok()?;
        self.state.at(head)
    }
}

/// How an answer is counted.
fn outcome(answer: &Result<super::Appended, Refusal>) -> Outcome {
    match answer {
        Ok(appended) if appended.duplicate => Outcome::Duplicate,
        Ok(_) => Outcome::Stored,
        Err(refusal) if refusal.effect == Effect::Unknown => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}

fn log_answer(append: &Append, answer: &Result<super::Appended, Refusal>) {
    let (correlation, conversation) = (append.caller.correlation, append.request.conversation);
    match answer {
        Ok(appended) => {
            debug!(%correlation, %conversation, seq = appended.seq.0, duplicate = appended.duplicate, "append answered")
        }
        Err(refusal) => debug!(%correlation, %conversation, reason = ?refusal.reason, "append refused"),
    }
}
