//! Clients that survive kills: they keep what they sent, and send again what was not acknowledged, in order.

use std::time::Duration;

use super::bench::{Bench, PATIENCE, send_frame};
use super::observed::Observed;
use super::reader::append_outcome;
use super::session::{Acks, RawSession};
use super::sight::text_of;
use crate::checker::Check;

/// What every kill must leave in order.
pub const DELIVERY: [Check; 7] = [
    Check::C1,
    Check::C2,
    Check::C3,
    Check::C4,
    Check::C5,
    Check::C8,
    Check::C14,
];

/// Waiting for all answers of a pipeline on a loaded machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);

/// Streams a sender opens to get its last acks. Refusals (too fast, out of order) are sent again on the next one.
const FINISHES_MAX: usize = 20;

/// Pause between those: a node finds its way back to a store that was away within seconds.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// One device that sends, with its outbox.
pub struct Sender {
    user: String,
    room: String,
    prefix: String,
    session: Option<RawSession>,
    /// Requests of the present stream, by message.
    asked: Vec<(u64, u64)>,
    sent: u64,
    acked: std::collections::BTreeSet<u64>,
}

impl Sender {
    /// A device of `user` that sends to `room`.
    #[must_use]
    pub fn new(user: &str, room: &str) -> Self {
        Self {
            user: user.to_owned(),
            room: room.to_owned(),
            prefix: format!("{user}-message"),
            session: None,
            asked: Vec::new(),
            sent: 0,
            acked: std::collections::BTreeSet::new(),
        }
    }

    /// With other texts and ids than another sender of the same user.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The text of its n-th message, which is its id as well.
    #[must_use]
    pub fn text(&self, number: u64) -> String {
        format!("{}-{number}", self.prefix)
    }

    /// Where it sends.
    #[must_use]
    pub fn room(&self) -> &str {
        &self.room
    }

    /// How many messages it has sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of them were acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.len() as u64
    }

    /// Its stream.
    ///
    /// # Panics
    /// It never connected.
    pub fn session(&mut self) -> &mut RawSession {
        self.session.as_mut().expect("a connected sender")
    }

    /// Opens a stream and sends again, in order, what has no ack yet. Waits for nothing: the server may die meanwhile.
    pub async fn connect(&mut self, bench: &Bench) {
        self.harvest();
        let hello = bench.hello(&self.user, "phone");
        let session = bench.open_with(&self.user, hello, Acks::Each).await;
        self.asked.clear();
        self.session = Some(session);
        self.again().await;
    }

    /// Sends again on the present stream, in order, what has no ack yet.
    pub async fn again(&mut self) {
        self.harvest();
        self.asked.clear();
        let open: Vec<u64> = (0..self.sent).filter(|number| !self.acked.contains(number)).collect();
        for number in open {
            self.ask(number).await;
        }
    }

    /// Sends so many new messages without waiting.
    pub async fn send(&mut self, count: u64) {
        for _ in 0..count {
            self.sent += 1;
            self.ask(self.sent - 1).await;
        }
    }

    /// Has so many more on the way: first, in order, those that were refused, then new ones. What is on the way already is
    /// left alone. A client that does not back off.
    pub async fn press(&mut self, count: usize) {
        self.harvest();
        let answers = self.session().observed().answers;
        self.asked.retain(|(request, _)| !answers.contains_key(request));
        let open = (0..self.sent).filter(|number| !self.acked.contains(number));
        let refused: Vec<u64> = open
            .filter(|number| !self.asked.iter().any(|(_, asked)| asked == number))
            .take(count)
            .collect();
        let fresh = (count - refused.len()) as u64;
        for number in refused {
            self.ask(number).await;
        }
        self.send(fresh).await;
    }

    async fn ask(&mut self, number: u64) {
        let text = self.text(number);
        let frame = send_frame(&self.room, &text, &text);
        let request = self.session().ask(frame).await;
        self.asked.push((request, number));
    }

    /// Waits until everything that was asked on this stream has an answer, or the stream is over.
    pub async fn answers(&mut self) {
        let last: Vec<u64> = self.asked.iter().map(|(request, _)| *request).collect();
        let all = |seen: &Observed| {
            let answered = last.iter().all(|request| seen.answers.contains_key(request));
            answered || seen.ended.is_some()
        };
        self.session().until("all answers", ANSWERS_WITHIN, all).await;
        self.harvest();
    }

    /// Notes what was acknowledged on the present stream.
    pub fn harvest(&mut self) {
        let Some(session) = &self.session else { return };
        let seen = session.observed();
        for (request, number) in &self.asked {
            let answer = seen.answers.get(request).and_then(append_outcome);
            if matches!(answer, Some(Ok(_))) {
                self.acked.insert(*number);
            }
        }
    }

    /// How the present stream ended, what was refused on it first, and the last answer.
    pub(super) fn last_words(&self) -> String {
        let seen = self.session.as_ref().map(RawSession::observed).unwrap_or_default();
        let refused = |answer: &&_| matches!(append_outcome(answer), Some(Err(_)));
        let (first, last) = (seen.answers.values().find(refused), seen.answers.values().next_back());
        format!("{:?} {:?} {first:?} {last:?}", seen.closed, seen.ended)
    }

    /// Whether the present stream was taken: a server that cannot yet read its store refuses it.
    async fn is_welcome(&mut self) -> bool {
        let known = |seen: &Observed| seen.welcome.is_some() || seen.ended.is_some();
        let session = self.session();
        session.sees(PATIENCE, known).await && session.observed().ended.is_none()
    }

    /// After the last kill: connects, and sends again until all is acknowledged and the stream stays.
    ///
    /// # Panics
    /// It never is.
    pub async fn finish(&mut self, bench: &Bench) {
        self.connect(bench).await;
        for _ in 0..FINISHES_MAX {
            self.answers().await;
            if self.acked() == self.sent && self.is_welcome().await {
                return;
            }
            // As clients do: what refused it may need a moment to find its way back.
            tokio::time::sleep(TRY_AGAIN_AFTER).await;
            self.connect(bench).await;
        }
        let left: Vec<u64> = (0..self.sent).filter(|number| !self.acked.contains(number)).collect();
        panic!(
            "{} has no ack of {left:?} after {FINISHES_MAX} tries: {:?}",
            self.user,
            self.last_words()
        );
    }
}

/// Every text that was sent lies in the log exactly once. Returns how many there are.
///
/// # Panics
/// One does not, or twice.
pub async fn each_once(bench: &Bench, room: &str, senders: &[&Sender]) -> u64 {
    let mut found = std::collections::BTreeMap::new();
    for entry in bench.entries(room).await {
        let text = text_of(&entry).to_owned();
        *found.entry(text).or_insert(0_u64) += 1;
    }
    let mut total = 0;
    for sender in senders.iter().filter(|sender| sender.room == room) {
        for number in 0..sender.sent() {
            assert_eq!(
                found.get(&sender.text(number)),
                Some(&1),
                "{} lies there once",
                sender.text(number)
            );
            total += 1;
        }
    }
    total
}

/// Waits until a stream has the head.
///
/// # Panics
/// It does not get there.
pub async fn reaches_head(bench: &Bench, session: &mut RawSession, room: &str) -> u64 {
    let head = bench.entries(room).await.last().map_or(0, |entry| entry.seq);
    let what = format!("the head {head} of {room}");
    // What was acknowledged on an earlier stream need not come, but does when those acks died with the server: then up to the head.
    let before = session.acked(room);
    let has_it = |seen: &Observed| seen.reached(room) >= head || (seen.caught_up && before >= head);
    session.until(&what, ANSWERS_WITHIN.max(PATIENCE), has_it).await;
    head
}
