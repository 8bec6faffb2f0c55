//! A raw device stream: every frame under the test's control, everything written into the history.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::observed::Observed;
use super::reader::Reader;
use super::recorder::Recorder;
use super::sight::append_of;
use crate::checker::{Backlog, Device, MessageKey, Moment, OpId, Seq, SessionRef, Start, User, What};

/// Frames a test may write ahead of the socket.
const AHEAD_MAX: usize = 4_096;

/// What the client does with deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Each is acknowledged when it arrives.
    Each,
    /// None is, but by the test.
    Never,
}

/// A hello to send.
pub type Hello = v1::Hello;

/// How to open a stream.
pub struct Opening {
    /// The frame.
    pub hello: Hello,
    /// Whose it is, for the history.
    pub user: String,
    /// What to do with deliveries.
    pub acks: Acks,
}

/// A device stream.
pub struct RawSession {
    outgoing: mpsc::Sender<v1::ExchangeRequest>,
    reading: watch::Sender<bool>,
    changed: watch::Receiver<u64>,
    shared: Arc<Shared>,
    reader: tokio::task::JoinHandle<()>,
}

pub(super) struct Shared {
    pub(super) session: SessionRef,
    pub(super) user: User,
    pub(super) device: Device,
    lane: String,
    pub(super) recorder: Recorder,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) observed: Observed,
    pub(super) pending: BTreeMap<u64, Pending>,
    requests: u64,
    said_bye: bool,
}

pub(super) struct Pending {
    pub(super) op: Option<OpId>,
    pub(super) invoked: Moment,
}

impl RawSession {
    /// Opens the stream and sends hello; does not wait for the answer.
    ///
    /// # Panics
    /// The queue of a new stream is full, which cannot be.
    pub async fn open(channel: Channel, recorder: &Recorder, opening: Opening) -> Self {
        let (outgoing, queue) = mpsc::channel(AHEAD_MAX);
        let (reading, pause) = watch::channel(true);
        let (news, changed) = watch::channel(0);
        let shared = Arc::new(Shared::of(recorder, &opening));
        let reader = Reader {
            shared: Arc::clone(&shared),
            outgoing: outgoing.clone(),
            start: start(&opening.hello),
            invoked: recorder.now(),
            acks: opening.acks,
            pause,
            news,
        };
        let reader = tokio::spawn(reader.run(channel, ReceiverStream::new(queue)));
        let session = Self {
            outgoing,
            reading,
            changed,
            shared,
            reader,
        };
        session.write(1, Asked::Hello(opening.hello)).await;
        session
    }

    async fn write(&self, request_id: u64, body: Asked) {
        let frame = v1::ClientFrame {
            request_id,
            body: Some(body),
        };
        // A stream that is over takes nothing: what is pending then ends as unknown.
        let _ = self.outgoing.send(v1::ExchangeRequest { frame: Some(frame) }).await;
    }

    /// Sends a frame under the next request id, which it returns; the answer is not waited for.
    pub async fn ask(&self, body: Asked) -> u64 {
        let request_id = self.shared.begin(&body);
        self.write(request_id, body).await;
        request_id
    }

    /// Sends a frame that has no answer.
    pub async fn tell(&self, body: Asked) {
        self.shared.note_telling(&body);
        self.write(0, body).await;
    }

    /// Sends a frame exactly as given; nothing about it is written down.
    pub async fn raw(&self, frame: Option<v1::ClientFrame>) {
        let _ = self.outgoing.send(v1::ExchangeRequest { frame }).await;
    }

    /// Sends a frame and waits for its answer.
    ///
    /// # Panics
    /// No answer comes in time.
    pub async fn request(&mut self, body: Asked, patience: Duration) -> Seen {
        let request_id = self.ask(body).await;
        self.answer(request_id, patience).await
    }

    /// Waits for the answer to a request.
    ///
    /// # Panics
    /// It does not come in time.
    pub async fn answer(&mut self, request_id: u64, patience: Duration) -> Seen {
        let what = format!("an answer to request {request_id}");
        self.until(&what, patience, |seen| seen.answers.contains_key(&request_id))
            .await;
        // Not by `observed`, which copies everything that was ever seen.
        self.shared.state().observed.answers[&request_id].clone()
    }

    /// Up to where the device acknowledged a conversation, on this or an earlier stream, whose acks may have come to the
    /// server while this one opened: then they are not delivered here.
    #[must_use]
    pub fn acked(&self, conversation: &str) -> u64 {
        let shared = &self.shared;
        shared.recorder.acked(&shared.user, &shared.device, conversation).0
    }

    /// Acknowledges deliveries of a conversation up to a seq.
    pub async fn ack(&self, conversation: &str, seq: u64) {
        self.shared.say_acked(conversation, seq);
        self.write(0, ack(conversation, seq)).await;
    }

    /// The same, and waits for the answer: the position is stored then.
    ///
    /// # Panics
    /// It does not come in time.
    pub async fn ack_stored(&mut self, conversation: &str, seq: u64, patience: Duration) {
        self.shared.say_acked(conversation, seq);
        let answer = self.request(ack(conversation, seq), patience).await;
        assert!(matches!(answer, Seen::Done(_)), "{answer:?}");
    }

    /// Shows a sign of life and waits for the answer.
    ///
    /// # Panics
    /// It does not come in time.
    pub async fn ping(&mut self, patience: Duration) {
        self.request(Asked::Ping(v1::Ping {}), patience).await;
    }

    /// Waits until what was seen satisfies a condition.
    ///
    /// # Panics
    /// It does not in time.
    pub async fn until(&mut self, what: &str, patience: Duration, holds: impl Fn(&Observed) -> bool) {
        if !self.sees(patience, holds).await {
            let seen = self.observed();
            panic!(
                "{} on {} did not see {what} within {patience:?}: {seen:#?}",
                self.shared.user, self.shared.device
            );
        }
    }

    /// Waits until what was seen satisfies a condition; false when it does not in time.
    pub async fn sees(&mut self, patience: Duration, holds: impl Fn(&Observed) -> bool) -> bool {
        let shared = Arc::clone(&self.shared);
        let satisfied = self.changed.wait_for(|_| holds(&shared.state().observed));
        let in_time = matches!(tokio::time::timeout(patience, satisfied).await, Ok(Ok(_)));
        in_time || holds(&self.shared.state().observed)
    }

    /// Waits for welcome.
    ///
    /// # Panics
    /// It does not come in time.
    pub async fn welcome(&mut self, patience: Duration) -> v1::Welcome {
        self.until("welcome", patience, |seen| seen.welcome.is_some()).await;
        self.observed().welcome.expect("just seen")
    }

    /// Waits for the end of the stream and its reason; `None` when it ended without one.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn end(&mut self, patience: Duration) -> Option<v1::CloseReason> {
        self.until("the end", patience, |seen| seen.ended.is_some()).await;
        self.observed().closed.map(|closed| closed.reason())
    }

    /// Stops reading the stream, so that the server's output backs up.
    pub fn pause(&self) {
        let session = self.shared.session;
        self.shared.recorder.say(What::ReaderPaused { session });
        let _ = self.reading.send(false);
    }

    /// Says in the history that the test leaves deliveries unacknowledged on purpose, so none may come any more.
    pub fn stalls(&self) {
        let session = self.shared.session;
        self.shared.recorder.say(What::ReaderPaused { session });
    }

    /// Reads on.
    pub fn go_on(&self) {
        let session = self.shared.session;
        let _ = self.reading.send(true);
        self.shared.recorder.say(What::ReaderResumed { session });
    }

    /// Everything seen so far.
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.shared.state().observed.clone()
    }

    /// Says bye and waits for the end.
    ///
    /// # Panics
    /// The stream goes on.
    pub async fn bye(&mut self, patience: Duration) {
        self.shared.state().said_bye = true;
        self.write(0, Asked::Bye(v1::Bye {})).await;
        self.end(patience).await;
    }

    /// Drops the connection without a word.
    pub fn cut(&self) {
        self.reader.abort();
        self.shared.ended("cut by the client");
    }
}

impl Drop for RawSession {
    fn drop(&mut self) {
        self.cut();
    }
}

fn start(hello: &Hello) -> Start {
    let position = |position: &v1::ConversationPosition| (position.conversation_id.as_str().into(), Seq(position.seq));
    Start {
        backlog: match hello.initial_backlog() {
            v1::InitialBacklog::Nothing => Backlog::Nothing,
            _ => Backlog::Everything,
        },
        forget: hello.forget_device_positions,
        positions: hello.positions.iter().map(position).collect(),
    }
}

pub(super) fn ack(conversation: &str, seq: u64) -> Asked {
    Asked::Ack(v1::Ack {
        conversation_id: conversation.to_owned(),
        seq,
    })
}

impl Shared {
    fn of(recorder: &Recorder, opening: &Opening) -> Self {
        Self {
            session: recorder.next_session(),
            user: opening.user.as_str().into(),
            device: opening.hello.device_id.as_str().into(),
            lane: opening.hello.stream_name.clone(),
            recorder: recorder.clone(),
            state: Mutex::new(State {
                // Hello is the first request.
                requests: 1,
                ..State::default()
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that a request leaves, and gives it an id.
    fn begin(&self, body: &Asked) -> u64 {
        let op = append_of(body).map(|(header, hash)| {
            let op = self.recorder.next_op();
            let key = MessageKey {
                conversation: header.conversation_id.as_str().into(),
                user: self.user.clone(),
                device: self.device.clone(),
                id: header.client_msg_id.as_str().into(),
            };
            let lane = self.lane.clone();
            self.recorder.say(What::SendInvoked {
                op,
                key,
                lane,
                body: hash,
            });
            self.recorder.say(What::SendInLine {
                op,
                session: self.session,
                named: !header.previous_client_msg_id.is_empty(),
            });
            op
        });
        self.note_telling(body);
        let invoked = self.recorder.now();
        let mut state = self.state();
        state.requests += 1;
        let request_id = state.requests;
        match op {
            // Nobody will answer on a stream that is over.
            Some(op) if state.observed.ended.is_some() => drop(self.recorder.say(What::SendUnknown { op })),
            op => drop(state.pending.insert(request_id, Pending { op, invoked })),
        }
        request_id
    }

    fn note_telling(&self, body: &Asked) {
        let session = self.session;
        self.recorder.say(What::Heartbeat { session });
        let mark = |conversation: &str, seq| What::MarkInvoked {
            user: self.user.clone(),
            device: Some(self.device.clone()),
            conversation: conversation.into(),
            seq: Seq(seq),
        };
        match body {
            Asked::MarkDelivered(asked) => drop(self.recorder.say(mark(&asked.conversation_id, asked.seq))),
            Asked::MarkRead(asked) => drop(self.recorder.say(mark(&asked.conversation_id, asked.seq))),
            Asked::SetStatus(asked) => {
                let offline = asked.status() == v1::Status::Offline;
                let user = self.user.clone();
                self.recorder.say(What::LooksOffline { user, offline });
            }
            _ => {}
        }
    }

    pub(super) fn say_acked(&self, conversation: &str, seq: u64) {
        self.recorder
            .note_acked(&self.user, &self.device, conversation, Seq(seq));
        self.recorder.say(What::DeliveryAcked {
            session: self.session,
            conversation: conversation.into(),
            seq: Seq(seq),
        });
    }

    /// The stream is over: what was not answered has an unknown outcome.
    pub(super) fn ended(&self, how: &str) {
        let mut state = self.state();
        if state.observed.ended.is_some() {
            return;
        }
        state.observed.ended = Some(how.to_owned());
        for pending in std::mem::take(&mut state.pending).into_values() {
            if let Some(op) = pending.op {
                self.recorder.say(What::SendUnknown { op });
            }
        }
        if state.observed.welcome.is_some() {
            let (session, bye) = (self.session, state.said_bye);
            self.recorder.say(What::SessionClosed { session, bye });
        }
    }
}
