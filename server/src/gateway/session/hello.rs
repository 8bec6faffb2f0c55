//! From the first frame to the welcome: who it is, what they have, and what they go on with.

use std::sync::Arc;

use bytes::Bytes;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::catch_up::{News, news, set_positions, skip_backlog, synced};
use super::close::{Close, Failure, failed, store_failed};
use super::input::{Incoming, Input};
use super::jobs::Done;
use super::outgoing::Outgoing;
use super::pace::Pace;
use super::plan::Plan;
use super::timers::Timers;
use super::watch::Watch;
use super::{Session, Who};
use crate::api::access::user_of;
use crate::api::{CallContext, UserRates};
use crate::auth::Principal;
use crate::bus::{Event, Status, Topic};
use crate::domain::limits::{FRAME_BYTES_MAX, TEXT_BYTES_MAX, WATCHED_USERS_MAX};
use crate::domain::{ConversationId, DeviceId, Reason, Refusal, Seq, SessionId, UserId};
use crate::gateway::Gateway;
use crate::gateway::edge::{self, refused};
use crate::gateway::limits::{
    HEARTBEAT, HELLO_WITHIN, OPEN_WITHIN, REQUESTS_IN_FLIGHT_MAX, SESSIONS_PER_USER_MAX, SILENCE,
};
use crate::gateway::resume::Carried;
use crate::gateway::sessions::Seat;
use crate::storage::{ChangeStamp, DirectoryError};
use crate::telemetry::meters::{AuthFailure, meters};
use crate::wire;
use crate::wire::session::{AppState, Hello, PROTOCOL, Token};

/// Why there is no session.
pub(super) struct Refused {
    pub(super) out: Outgoing,
    /// The answer to the hello, when there was one.
    pub(super) refusal: Option<(u64, Refusal)>,
    pub(super) close: Close,
}

/// Reads the hello, unless it came with the rpc, and opens the session.
pub(super) async fn open(
    gateway: &Arc<Gateway>,
    context: Option<CallContext>,
    mut input: Input,
    hello: Option<v1::Hello>,
    out: Outgoing,
) -> Result<Box<Session>, Box<Refused>> {
    let first = match hello {
        Some(hello) => Ok((0, hello)),
        None => receive(&mut input).await,
    };
    let (request_id, hello) = match first {
        Ok(first) => first,
        Err((request_id, (refusal, close))) => {
            let refusal = refusal.map(|refusal| (request_id, refusal));
            return Err(Box::new(Refused { out, refusal, close }));
        }
    };
    let asked = stonechat_host::monotonic();
    let opening = tokio::time::timeout(OPEN_WITHIN, Box::pin(admitted(gateway, context, hello, input)));
    let opened = opening.await.unwrap_or_else(|_| {
        let message = "the session could not be opened in time";
        let reason = Reason::Unavailable { retry_after_ms: 0 };
        Err(failed(Refusal::not_done(reason, message)))
    });
    match opened {
        Ok(prepared) => {
            let session = Box::new(prepared.start(gateway, request_id, out));
            meters().hello_seconds.since(asked);
            Ok(session)
        }
        Err((refusal, close)) => {
            let refusal = refusal.map(|refusal| (request_id, refusal));
            Err(Box::new(Refused { out, refusal, close }))
        }
    }
}

/// The first frame, which must be a hello.
async fn receive(input: &mut Input) -> Result<(u64, v1::Hello), (u64, Failure)> {
    let Ok(incoming) = tokio::time::timeout(HELLO_WITHIN, input.next()).await else {
        refused(edge::Reason::NoHello);
        return Err((0, (None, Close::Idle("no hello within 5 s"))));
    };
    match incoming {
        Incoming::Frame(v1::ClientFrame {
            request_id,
            body: Some(Ask::Hello(hello)),
        }) => Ok((request_id, hello)),
        Incoming::Frame(frame) => {
            let message = "the first frame must be a hello; not done";
            let refusal = Refusal::not_done(Reason::Protocol, message);
            Err((frame.request_id, (Some(refusal), Close::Protocol(message.into()))))
        }
        Incoming::Malformed(why) => Err((0, (None, Close::Protocol(why.into())))),
        Incoming::Submitted(_) | Incoming::End | Incoming::Gone => Err((0, (None, Close::Gone))),
    }
}

fn unauthenticated(message: &str) -> Refusal {
    Refusal::not_done(Reason::Unauthenticated, message)
}

/// Everything a session starts with.
struct Prepared {
    seat: Seat,
    who: Arc<Who>,
    principal: Principal,
    hello: Hello,
    input: Input,
    events: crate::bus::Subscription,
    synced: ChangeStamp,
    /// Conversations whose position the client gave: head and position.
    given: Vec<(ConversationId, Seq, Seq)>,
    news: News,
    carried: Option<Carried>,
}

/// Opens the session once it is its turn.
async fn admitted(
    gateway: &Arc<Gateway>,
    context: Option<CallContext>,
    hello: v1::Hello,
    input: Input,
) -> Result<Prepared, Failure> {
    let deadline = stonechat_host::monotonic() + OPEN_WITHIN;
    let _seat = gateway.on.edge.admit(deadline).await.map_err(failed)?;
    prepare(gateway, context, hello, input).await
}

async fn prepare(
    gateway: &Arc<Gateway>,
    context: Option<CallContext>,
    hello: v1::Hello,
    mut input: Input,
) -> Result<Prepared, Failure> {
    let hello = wire::session::hello(hello).map_err(failed)?;
    if gateway.sessions.is_draining() {
        return Err((None, Close::Draining));
    }
    let principal = principal(gateway, context, &hello).await.map_err(failed)?;
    let who = Arc::new(who(gateway, &principal, &hello).map_err(failed)?);
    let counts = counts(gateway, &principal, &who.device).await;
    counts.map_err(failed)?;
    let Some(seat) = gateway.sessions.seat(&who.user) else {
        let message = format!("a user has at most {SESSIONS_PER_USER_MAX} streams on a node; not done");
        return Err(failed(Refusal::not_done(Reason::LimitReached, message)));
    };
    register(gateway, &who).await?;
    // Subscribed first, read second: what is appended in between comes by both ways, and one copy is dropped.
    let events = gateway.on.bus.subscribe(Topic::User(who.user.clone())).await;
    if let Input::Submitted(control) = &mut input {
        let topic = Topic::Session(submit_topic(&who.id, &who.user));
        *control = Some(gateway.on.bus.subscribe(topic).await);
    }
    take_over(gateway, &who).await;
    let given = set_positions(gateway, &who, &hello).await?;
    let synced = synced(gateway, &who).await?;
    // A device that had everything up to some moment is none that comes for the first time: what came since is its own.
    if !hello.whole_backlog && synced == ChangeStamp::default() {
        skip_backlog(gateway, &who).await?;
    }
    let news = news(gateway, &who, &hello.cursor, synced).await?;
    let carried = gateway.resumes.take(&who.key(), &hello.resume_token);
    Ok(Prepared {
        seat,
        who,
        principal,
        hello,
        input,
        events,
        synced,
        given,
        news,
        carried,
    })
}

/// Whether the hello is within its user's rate, and only then whether its token was revoked: a user above the rate costs no
/// store anything. A token that was withdrawn does not use up the rate of whose it was.
async fn counts(gateway: &Gateway, principal: &Principal, device: &DeviceId) -> Result<(), Refusal> {
    let (edge, user) = (&gateway.on.edge, &principal.user);
    edge.hello(user)?;
    let counts = gateway.on.authenticator.check_again(principal, Some(device)).await;
    counts.inspect_err(|refusal| {
        if refusal.reason == Reason::Unauthenticated {
            edge.give_back(user);
        }
    })
}

/// Whom the token of the hello proves, or the one of the metadata; whether it was revoked is still to be asked.
async fn principal(gateway: &Gateway, context: Option<CallContext>, hello: &Hello) -> Result<Principal, Refusal> {
    match (&hello.token, context) {
        (Some(token), _) => gateway.on.authenticator.prove(&token.0).await,
        (None, Some(context)) => Ok(context.principal),
        (None, None) => {
            meters().auth_failures.inc(AuthFailure::NoToken);
            Err(unauthenticated("neither hello nor metadata carry a token; not done"))
        }
    }
}

fn who(gateway: &Gateway, principal: &Principal, hello: &Hello) -> Result<Who, Refusal> {
    let user = user_of(principal)?.clone();
    if principal.device.as_ref().is_some_and(|bound| *bound != hello.device) {
        return Err(unauthenticated("the token is bound to another device; not done"));
    }
    Ok(Who {
        user,
        device: hello.device.clone(),
        stream: hello.stream.clone(),
        id: SessionId::of_device(gateway.on.host.random.bytes16(), &hello.device),
    })
}

/// Checks a new token of an open session.
///
/// # Errors
/// It is not good, of another user, bound to another device, or the device was removed.
pub(in crate::gateway) async fn reauthenticate(
    gateway: &Gateway,
    user: &UserId,
    device: &DeviceId,
    token: &Token,
) -> Result<Principal, Refusal> {
    let principal = gateway.on.authenticator.verify(&token.0).await?;
    if principal.user != *user {
        return Err(unauthenticated("the token is of another user; not done"));
    }
    if principal.device.as_ref().is_some_and(|bound| bound != device) {
        return Err(unauthenticated("the token is bound to another device; not done"));
    }
    user_of(&principal)?;
    gateway.on.authenticator.check_device(&principal, device).await?;
    Ok(principal)
}

async fn register(gateway: &Gateway, who: &Who) -> Result<(), Failure> {
    let now = crate::domain::UnixMillis(gateway.on.host.clock.unix_ms());
    let directory = &gateway.on.directory;
    if gateway.on.create_users {
        directory.ensure_user(&who.user, now).await.map_err(store_failed)?;
    }
    let touched = directory.touch_device(&who.user, &who.device, now).await;
    touched.map_err(|error| match error {
        DirectoryError::TooManyDevices(_) => failed(Refusal::too_many_devices()),
        error => store_failed(error),
    })
}

/// Ends older streams of the same device and name, wherever they are.
async fn take_over(gateway: &Gateway, who: &Who) {
    let event = Event::Replaced {
        device: who.device.clone(),
        stream: who.stream.clone(),
        by: who.id.clone(),
    };
    gateway.on.bus.publish(&Topic::User(who.user.clone()), event).await;
}

/// Where a session listens for the frames of Submits: only who knows the session's id and is its user finds it.
pub(in crate::gateway) fn submit_topic(id: &SessionId, user: &UserId) -> SessionId {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(id.as_str().as_bytes());
    context.update(b"/");
    context.update(user.as_str().as_bytes());
    let digest = context.finish();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    id.device()
        .map_or_else(|| id.clone(), |device| SessionId::of_device(bytes, &device))
}

impl Prepared {
    /// Welcomes the client; from here on the stream has a session.
    fn start(self, gateway: &Arc<Gateway>, request_id: u64, out: Outgoing) -> Session {
        let resume = gateway.resumes.issue(&self.who.key(), &*gateway.on.host.random);
        let mut plan = Plan::new(self.hello.window as usize, self.synced);
        for (conversation, head, position) in &self.given {
            plan.row(*conversation, *head, *position);
        }
        let welcome = self.welcome(gateway, resume.clone());
        let mut session = Session {
            gateway: Arc::clone(gateway),
            _seat: self.seat,
            timers: Timers::new(&self.principal, gateway.on.host.clock.unix_ms()),
            pace: Pace::new(gateway.on.frames_per_second),
            who: self.who,
            principal: self.principal,
            resume,
            out,
            input: self.input,
            events: self.events,
            word: gateway.sessions.word(),
            plan,
            cursor: Bytes::from(self.news.list.next_cursor),
            requests: Default::default(),
            jobs: Default::default(),
            in_flight: Default::default(),
            lanes: Default::default(),
            serial: 0,
            acks: Default::default(),
            notices: Default::default(),
            watch: Watch::default(),
            looking: false,
            background: self.hello.app_state == AppState::Background,
            own_echo: false,
            answers_are_deliveries: self.hello.answers_are_deliveries,
            bus_first: false,
            closing: None,
        };
        session.page(Ok(self.news.backlog));
        session.push(request_id, Reply::Welcome(welcome));
        session.tell_alive();
        if let Some(carried) = self.carried {
            session.resume(&carried);
        }
        session
    }

    fn welcome(&self, gateway: &Gateway, resume_token: Bytes) -> v1::Welcome {
        v1::Welcome {
            session_id: self.who.id.to_string(),
            user_id: self.who.user.to_string(),
            protocol: PROTOCOL,
            server_time_ms: gateway.on.host.clock.unix_ms(),
            limits: Some(limits(self.hello.window)),
            resume_token,
            resumed: self.carried.is_some(),
            continuous: self.news.continuous,
            conversations: self.news.list.rows.iter().map(wire::summary::summary).collect(),
            has_more: self.news.list.has_more,
            cursor: self.news.list.next_cursor.clone().into(),
            token_expires_ms: self.principal.expires.0,
            durability: wire::session::durability(gateway.on.conversations.durability()).into(),
        }
    }
}

fn limits(window: u32) -> v1::Limits {
    let millis = |duration: std::time::Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::Limits {
        window,
        max_frame_bytes: count(FRAME_BYTES_MAX),
        max_text_bytes: count(TEXT_BYTES_MAX),
        heartbeat_ms: millis(HEARTBEAT),
        silence_ms: millis(SILENCE),
        max_requests_in_flight: count(REQUESTS_IN_FLIGHT_MAX),
        max_watched_users: count(WATCHED_USERS_MAX),
    }
}

impl Session {
    /// Goes on with what the stream before had.
    fn resume(&mut self, carried: &Carried) {
        self.resume_watching(&carried.watched);
        if let Some(status) = carried.status {
            self.choose_again(status);
        }
    }

    /// What the user chose holds on, unless they chose something else since.
    fn choose_again(&mut self, status: Status) {
        let (gateway, who) = (Arc::clone(&self.gateway), Arc::clone(&self.who));
        self.job(async move {
            let presence = &gateway.on.presence;
            if presence.chosen(&who.user).await.is_none() {
                presence.set_status(&who.user, status).await;
            }
            Done::Nothing
        });
    }
}
