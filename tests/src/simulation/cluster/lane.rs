//! What one device sends to one conversation: pipelined, in order, again with the same ids until everything is settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use stonechat_server::conversation::AppendRequest;
use stonechat_server::domain::{
    Body, Change, ClientMsgId, Content, Member, MessageContent, Reason, Refusal, Role, Seq, UserId,
};
use tokio::time::Instant;

use super::attempt::{Landed, Try, attempt, double, due};
use super::people::Person;
use super::recorder::body_hash;
use super::setup::Again;
use super::world::{GUEST, World, id};
use crate::checker::{BodyHash, OpId, Seq as SeenSeq, User, What};

/// Longest pause before a lane tries again.
const BACK_OFF: Duration = Duration::from_millis(300);
/// Longest time without power.
const DARK: Duration = Duration::from_secs(5);

/// Where a letter is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    Flying,
    /// Acknowledged.
    Accepted,
    /// Refused for good.
    Dropped,
}

/// Something to send; it lies in the device's storage until it is settled.
struct Letter {
    id: ClientMsgId,
    change: Change,
    body: BodyHash,
    /// The highest seq the device had seen when it first tried.
    known_head: Seq,
    place: Place,
    /// Its newest try.
    op: Option<OpId>,
}

type Flight = BoxFuture<'static, (ClientMsgId, Landed)>;

/// One device in one conversation.
pub(super) struct Lane {
    world: Arc<World>,
    person: Arc<Person>,
    room: usize,
    /// What it will say, oldest first.
    script: VecDeque<Change>,
    outbox: VecDeque<Letter>,
    written: u64,
    /// The newest id of this device that the conversation accepted.
    newest: Option<ClientMsgId>,
    flying: FuturesUnordered<Flight>,
    write_at: Instant,
    /// Something went wrong: wait for all answers, then start again from the oldest letter.
    broken: bool,
    retry_at: Instant,
    last_due: Instant,
    gap: Duration,
    /// How often it started again from the oldest letter: each time is a lane of its own to the checker, which takes the
    /// first try that was not refused for the one that counted.
    round: u64,
}

impl Lane {
    pub(super) fn new(world: Arc<World>, person: Arc<Person>, room: usize, script: VecDeque<Change>) -> Self {
        let now = stonechat_host::monotonic();
        let each = world.setup.safety.as_millis() / (script.len().max(1) as u128);
        let gap = Duration::from_millis(u64::try_from(each * 2).unwrap_or(u64::MAX));
        Self {
            write_at: now + world.dice.millis(gap),
            world,
            person,
            room,
            script,
            outbox: VecDeque::new(),
            written: 0,
            newest: None,
            flying: FuturesUnordered::new(),
            broken: false,
            retry_at: now,
            last_due: now,
            gap,
            round: 0,
        }
    }

    /// Runs until everything is said and settled.
    pub(super) async fn run(mut self) {
        let mut cuts = self.person.cuts();
        let person = Arc::clone(&self.person);
        while !(self.script.is_empty() && self.outbox.is_empty() && self.flying.is_empty()) {
            self.write();
            self.launch();
            let may_write = !self.script.is_empty() && self.has_room();
            let may_retry = self.broken && self.flying.is_empty();
            tokio::select! {
                biased;
                () = person.cut_since(cuts) => cuts = self.lose_power().await,
                Some((id, landed)) = self.flying.next(), if !self.flying.is_empty() => self.landed(&id, landed),
                () = tokio::time::sleep_until(self.write_at), if may_write => {}
                () = tokio::time::sleep_until(self.retry_at), if may_retry => self.start_again(),
            }
        }
    }

    fn start_again(&mut self) {
        self.broken = false;
        self.round += 1;
    }

    fn has_room(&self) -> bool {
        self.outbox.len() < self.world.setup.pipeline
    }

    /// Puts what is due into the outbox.
    fn write(&mut self) {
        let now = stonechat_host::monotonic();
        while now >= self.write_at && self.has_room() {
            let Some(change) = self.script.pop_front() else { return };
            self.written += 1;
            self.outbox.push_back(Letter {
                id: id(&format!("r{}-{}", self.room, self.written)),
                body: body_of(&change),
                change,
                known_head: self.person.seen(self.room),
                place: Place::Waiting,
                op: None,
            });
            self.write_at += self.world.dice.millis(self.gap);
        }
    }

    fn launch(&mut self) {
        if self.broken {
            return;
        }
        let world = Arc::clone(&self.world);
        let Some(node) = world.node_for(self.room, self.round) else {
            return self.stop();
        };
        for index in 0..self.outbox.len() {
            if self.outbox[index].place != Place::Waiting {
                continue;
            }
            let request = self.request(index);
            self.outbox[index].place = Place::Flying;
            self.last_due = self.last_due.max(due(&world));
            let caller = self.person.caller();
            let op = self.invoked(index, "stream");
            self.outbox[index].op = Some(op);
            if !self.is_guest()
                && world
                    .weather
                    .strikes(world.weather.faults().net_doubled, "requests doubled")
            {
                let copy = self.invoked(index, "copies");
                world.record(What::SendUnknown { op: copy });
                double(&world, caller.clone(), request.clone());
            }
            let leaving = Try {
                node: Arc::clone(&node),
                caller,
                op,
                due: self.last_due,
                request,
            };
            let id = self.outbox[index].id.clone();
            let flight = attempt(Arc::clone(&world), leaving);
            self.flying.push(Box::pin(async move { (id, flight.await) }));
        }
    }

    /// Guests give up what is refused, also when an earlier try may still come true: their letters promise no order.
    fn is_guest(&self) -> bool {
        self.person.name.0.starts_with(GUEST)
    }

    fn lane(&self, index: usize, what: &str) -> String {
        if self.is_guest() {
            return format!("letter {}", self.outbox[index].id);
        }
        format!("{what} of round {}", self.round)
    }

    fn invoked(&self, index: usize, what: &str) -> OpId {
        let letter = &self.outbox[index];
        let op = self.world.recorder.op();
        self.world.weather.count("tries");
        self.world.record(What::SendInvoked {
            op,
            key: self.person.key(&self.world.rooms[self.room], letter.id.as_str()),
            lane: self.lane(index, what),
            body: letter.body,
        });
        op
    }

    fn request(&self, index: usize) -> AppendRequest {
        let letter = &self.outbox[index];
        let before = self.outbox.iter().take(index).rev();
        let previous = before
            .filter(|letter| letter.place != Place::Dropped)
            .map(|letter| &letter.id)
            .next();
        AppendRequest {
            conversation: self.world.rooms[self.room].id,
            client_msg_id: letter.id.clone(),
            previous: previous.or(self.newest.as_ref()).cloned(),
            known_head: letter.known_head,
            change: letter.change.clone(),
            origin_time: None,
        }
    }

    fn landed(&mut self, id: &ClientMsgId, landed: Landed) {
        let index = self.outbox.iter().position(|letter| letter.id == *id);
        let Some(index) = index else { return };
        match landed {
            Landed::Acked(seq) => {
                self.outbox[index].place = Place::Accepted;
                self.person.saw(self.room, seq);
                self.member_changed(index, seq);
            }
            Landed::Refused(refusal) => self.refused(index, &refusal),
            Landed::Unknown => {
                self.outbox[index].place = Place::Waiting;
                self.stop();
                if self.world.setup.again == Again::AfterPowerCut {
                    self.person.cut_power();
                }
            }
        }
        self.forget_settled();
    }

    fn refused(&mut self, index: usize, refusal: &Refusal) {
        let letter = &mut self.outbox[index];
        letter.place = Place::Waiting;
        match &refusal.reason {
            Reason::Forbidden | Reason::NotFound | Reason::AlreadyExists => letter.place = Place::Dropped,
            // The oldest letter comes after whatever is the newest there: all before it are settled.
            Reason::OutOfOrder { last } if index == 0 => self.newest.clone_from(last),
            Reason::OutOfOrder { .. } | Reason::RateLimited { .. } | Reason::Unavailable { .. } => {}
            other => panic!("{} was refused: {other:?}: {refusal}", letter.id),
        }
        self.stop();
    }

    fn forget_settled(&mut self) {
        while let Some(first) = self.outbox.front() {
            match first.place {
                Place::Accepted => self.newest = Some(first.id.clone()),
                Place::Dropped => {}
                Place::Waiting | Place::Flying => return,
            }
            self.outbox.pop_front();
        }
    }

    fn stop(&mut self) {
        self.broken = true;
        self.retry_at = stonechat_host::monotonic() + Duration::from_millis(10) + self.world.dice.millis(BACK_OFF);
    }

    /// What was under way is forgotten; what lies in the outbox is sent again when the power is back.
    async fn lose_power(&mut self) -> u64 {
        self.flying.clear();
        for letter in &mut self.outbox {
            if letter.place == Place::Flying {
                letter.place = Place::Waiting;
                let unheard = letter.op.map(|op| What::SendUnknown { op });
                unheard.into_iter().for_each(|what| self.world.record(what));
            }
        }
        tokio::time::sleep(self.world.dice.millis(DARK)).await;
        self.stop();
        self.person.cuts()
    }

    fn member_changed(&self, index: usize, seq: Seq) {
        let (user, joined) = match &self.outbox[index].change {
            Change::SetMembers(members) => (members.first().map(|member| &member.user), true),
            Change::RemoveMember(user) => (Some(user), false),
            _ => return,
        };
        if let Some(user) = user {
            self.world.weather.count("changes of members");
            self.world.record(What::MembershipAcked {
                conversation: self.world.rooms[self.room].name.clone(),
                user: User(user.to_string()),
                joined,
                seq: SeenSeq(seq.0),
            });
        }
    }
}

/// Hash of the body that the change becomes.
fn body_of(change: &Change) -> BodyHash {
    let body = match change.clone() {
        Change::Message(content) => Body::Message(content),
        Change::SetMembers(members) => Body::Members(members),
        Change::RemoveMember(user) => Body::Left {
            user,
            removed: true,
            promoted: None,
        },
        other => panic!("nobody says {other:?} here"),
    };
    body_hash(&body).unwrap_or_default()
}

/// A message.
pub(super) fn say(text: String) -> Change {
    Change::Message(MessageContent {
        content: Content::Text(text),
        reply_to: None,
        media: Vec::new(),
    })
}

/// Adds or removes a guest.
pub(super) fn change_member(user: &UserId, join: bool) -> Change {
    if !join {
        return Change::RemoveMember(user.clone());
    }
    Change::SetMembers(vec![Member {
        user: user.clone(),
        role: Role::Member,
    }])
}
