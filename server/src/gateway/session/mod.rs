//! One device stream: a task that answers frames, delivers what the log holds, and ends with a reason.
//!
//! `hello` opens it, `actor` is its loop. What comes in goes to `requests` (client frames), `events` (the bus) or back to
//! the part that started a job; what goes out is planned by `plan` and queued in `outgoing`. No part waits: whatever
//! takes time is a job that the loop awaits beside everything else.

mod ack;
mod actor;
mod catch_up;
mod close;
mod deliver;
mod events;
mod hello;
mod input;
mod jobs;
mod notices;
mod outgoing;
mod pace;
mod plan;
mod requests;
mod timers;
mod watch;
mod window;

pub(super) use hello::{reauthenticate, submit_topic};
pub(super) use outgoing::OutgoingStream;
pub(super) use requests::pong;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Reply;
use tokio::sync::watch as channel;
use tonic::Streaming;
use tracing::Instrument;

use self::ack::Acks;
use self::close::Close;
use self::hello::Refused;
use self::input::Input;
use self::jobs::Done;
use self::notices::Notices;
use self::outgoing::{Outgoing, outgoing};
use self::pace::Pace;
use self::plan::Plan;
use self::timers::Timers;
use self::watch::Watch;
use super::edge::Line;
use super::lanes::{Lanes, Place};
use super::resume::StreamKey;
use super::sessions::{Seat, Word};
use super::{Gateway, frames};
use crate::api::CallContext;
use crate::auth::Principal;
use crate::bus::Subscription;
use crate::conversation::Caller;
use crate::domain::authorization::Actor;
use crate::domain::{CorrelationId, DeviceId, Refusal, SessionId, StreamName, UserId};
use crate::presence::Ending;
use crate::telemetry::meters::meters;
use crate::wire;

/// Whose stream it is.
#[derive(Debug, Clone)]
struct Who {
    user: UserId,
    device: DeviceId,
    stream: StreamName,
    id: SessionId,
}

impl Who {
    fn key(&self) -> StreamKey {
        (self.user.clone(), self.device.clone(), self.stream.clone())
    }

    fn caller(&self, correlation: CorrelationId) -> Caller {
        Caller {
            actor: Actor::User(self.user.clone()),
            device: Some(self.device.clone()),
            correlation,
        }
    }
}

/// An operation's answer, and what it had taken while it was under way.
struct Answered {
    reply: Option<u64>,
    body: Reply,
    place: Option<Place>,
    bytes: usize,
    large: bool,
}

/// What requests under way take.
#[derive(Debug, Default)]
struct InFlight {
    /// Their ids; typing without one is counted by `nameless`.
    ids: BTreeSet<u64>,
    nameless: usize,
    bytes: usize,
    large: usize,
}

/// A stream after its hello.
struct Session {
    gateway: Arc<Gateway>,
    /// Counts it among its user's.
    _seat: Seat,
    who: Arc<Who>,
    principal: Principal,
    resume: Bytes,
    out: Outgoing,
    input: Input,
    events: Subscription,
    word: channel::Receiver<Word>,
    plan: Plan,
    /// Where the list is after the rows of welcome.
    cursor: Bytes,
    requests: FuturesUnordered<BoxFuture<'static, Answered>>,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    in_flight: InFlight,
    lanes: Lanes,
    serial: u64,
    acks: Acks,
    notices: Notices,
    watch: Watch,
    timers: Timers,
    pace: Pace,
    /// A look-up of inbox rows or positions is under way.
    looking: bool,
    background: bool,
    /// Our own "replaced" came back over the bus: the next one is of a newer stream.
    own_echo: bool,
    /// An answer to a send stands for the message's delivery.
    answers_are_deliveries: bool,
    /// Whether the client or the bus goes first in the next round.
    bus_first: bool,
    closing: Option<Close>,
}

/// Starts the session of a bidirectional stream, in the stream's task.
pub(super) fn exchange(
    gateway: &Arc<Gateway>,
    context: Option<CallContext>,
    line: Line,
    frames: Streaming<v1::ExchangeRequest>,
) -> OutgoingStream {
    start(gateway, context, line, Input::stream(frames), None)
}

/// Starts the session of a stream whose client frames come by Submit, in the stream's task.
pub(super) fn listen(
    gateway: &Arc<Gateway>,
    context: Option<CallContext>,
    line: Line,
    hello: v1::Hello,
) -> OutgoingStream {
    start(gateway, context, line, Input::submitted(), Some(hello))
}

fn start(
    gateway: &Arc<Gateway>,
    context: Option<CallContext>,
    line: Line,
    input: Input,
    hello: Option<v1::Hello>,
) -> OutgoingStream {
    let own_task = line.stream.clone();
    let (out, stream) = outgoing(own_task.clone());
    let gateway = Arc::clone(gateway);
    let task = async move {
        let _open = gateway.sessions.open();
        run(gateway, context, line, input, hello, out).await;
    };
    let span = tracing::info_span!("session", id = tracing::field::Empty);
    own_task.run_beside(task.instrument(span));
    stream
}

/// The whole life of a stream.
async fn run(
    gateway: Arc<Gateway>,
    context: Option<CallContext>,
    line: Line,
    input: Input,
    hello: Option<v1::Hello>,
    out: Outgoing,
) {
    // Boxed, because hello and life take turns: what one needs must not be kept while the other runs.
    match Box::pin(hello::open(&gateway, context, input, hello, out)).await {
        Ok(mut session) => {
            session.timers.moves(line.ends);
            line.prove();
            drop(line);
            tracing::Span::current().record("id", session.who.id.as_str());
            tracing::debug!(user = %session.who.user, "session open");
            Box::pin(session.run()).await;
        }
        Err(refused) => refuse_hello(&gateway, *refused).await,
    }
}

/// Answers a hello that is not accepted, and ends the stream.
async fn refuse_hello(gateway: &Gateway, refused: Refused) {
    meters().hellos_refused.inc(refused.close.label());
    tracing::info!(reason = ?refused.close, "hello refused");
    if let Some((request_id, refusal)) = refused.refusal {
        let body = Reply::Refusal(wire::refusal::to_proto(&refusal));
        refused.out.push(frames::encode(request_id, body));
    }
    close::finish(&refused.out, &refused.close, &*gateway.on.host.random).await;
}

/// Tells presence, and whoever resumes, that the session ended: on every way out, a panic among them.
struct Presence {
    gateway: Arc<Gateway>,
    who: Arc<Who>,
    resume: Bytes,
    ending: Ending,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let (gateway, who, ending) = (Arc::clone(&self.gateway), Arc::clone(&self.who), self.ending);
        let resume = self.resume.clone();
        let tell = async move {
            let chosen = gateway.on.presence.chosen(&who.user).await;
            let key = who.key();
            gateway.resumes.carry(&key, &resume, |carried| carried.status = chosen);
            gateway.resumes.ended(&key, &resume, ending != Ending::Bye);
            gateway.on.presence.session_ended(&who.user, &who.id, ending).await;
        };
        // Without a runtime the process is going down, and everybody it knew with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tell);
        }
    }
}

impl Session {
    fn push(&self, request_id: u64, body: Reply) {
        self.out.push(frames::encode(request_id, body));
    }

    /// Answers a request that has an id; others are only told when they were refused.
    fn reply(&self, reply: Option<u64>, body: Reply) {
        if let Some(request_id) = reply {
            self.push(request_id, body);
        } else if let Reply::Refusal(_) = body {
            self.push(0, body);
        }
    }

    fn refuse(&self, reply: Option<u64>, refusal: &Refusal) {
        self.reply(reply, Reply::Refusal(wire::refusal::to_proto(refusal)));
    }

    /// The stream is to end; the first reason counts.
    fn close(&mut self, close: Close) {
        self.closing.get_or_insert(close);
    }

    fn correlation(&self) -> CorrelationId {
        CorrelationId(self.gateway.on.host.random.bytes16())
    }

    /// Starts something that takes time; the loop gets what comes of it.
    fn job(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.jobs.push(Box::pin(job));
    }
}
