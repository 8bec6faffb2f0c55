//! Submit: client frames of a browser's session, on whatever node they arrive.
//!
//! Requests are answered right here. Session frames go to the node of the session over the bus; their answers say that
//! they were taken, and what they do shows on Listen.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::Gateway;
use super::lanes::Lanes;
use super::limits::{LARGE_REQUESTS_IN_FLIGHT_MAX, PONG_HEADS_MAX};
use super::operations::{Operation, is_large, operation, typing_refusal};
use super::session::{pong, reauthenticate, submit_topic};
use crate::api::CallContext;
use crate::api::access::user_of;
use crate::bus::{Event, SessionControl, Topic};
use crate::domain::{DeviceId, Reason, Refusal, SessionId, UserId};
use crate::wire;

/// What a Submit is done with.
struct Submission {
    gateway: Arc<Gateway>,
    context: CallContext,
    user: UserId,
    device: DeviceId,
}

/// Handles the frames of a Submit in order.
///
/// # Errors
/// The request as a whole is malformed, or its caller may not make it; nothing was done.
pub(super) async fn submit(
    gateway: &Arc<Gateway>,
    context: Option<CallContext>,
    request: v1::SubmitRequest,
) -> Result<v1::SubmitResponse, Refusal> {
    let context = context.ok_or_else(|| Refusal::not_done(Reason::Unauthenticated, "no token; not done"))?;
    let user = user_of(&context.principal)?.clone();
    let (session, frames) = wire::session::submit(request)?;
    let (context, device) = for_session(context, &session)?;
    let authenticator = &gateway.on.authenticator;
    authenticator.check_device(&context.principal, &device).await?;
    check_ids(&frames)?;
    let submission = Submission {
        gateway: Arc::clone(gateway),
        context,
        user,
        device,
    };
    Ok(submission.handle(&session, frames).await)
}

/// The session's id names the device; a token that is bound to another one may not use it.
fn for_session(context: CallContext, session: &SessionId) -> Result<(CallContext, DeviceId), Refusal> {
    let bound = context.device.clone();
    let named = session
        .device()
        .filter(|named| bound.is_none_or(|bound| bound == *named));
    let device = named.ok_or_else(|| {
        let message = "is not a session of this caller's device; not done";
        Refusal::invalid("submit.session_id", message)
    })?;
    let context = CallContext {
        device: Some(device.clone()),
        ..context
    };
    Ok((context, device))
}

fn check_ids(frames: &[v1::ClientFrame]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    let ids = frames.iter().map(|frame| frame.request_id);
    if ids.filter(|id| *id != 0).all(|id| seen.insert(id)) {
        return Ok(());
    }
    Err(Refusal::invalid(
        "submit.frames.request_id",
        "is used twice; nothing was done",
    ))
}

/// What a frame asks for, once it was checked.
enum Begun {
    Operation(Operation),
    Session(Box<Ask>),
}

impl Submission {
    async fn handle(self, session: &SessionId, frames: Vec<v1::ClientFrame>) -> v1::SubmitResponse {
        let ids: Vec<u64> = frames.iter().map(|frame| frame.request_id).collect();
        let mut replies: Vec<Option<Reply>> = vec![None; ids.len()];
        let (mut lanes, mut large) = (Lanes::default(), 0);
        let (mut running, mut forwarded) = (FuturesUnordered::new(), Vec::new());
        for (index, frame) in frames.into_iter().enumerate() {
            let copy = Bytes::from(frame.encode_to_vec());
            match self.begin(index, frame, &mut lanes, &mut large) {
                // All are polled for the first time in the order of the frames, so they queue in that order (I4).
                Ok(Begun::Operation(operation)) => running.push(async move { (index, operation.await) }),
                Ok(Begun::Session(ask)) => match self.session_frame(*ask).await {
                    Ok(reply) => {
                        forwarded.push(copy);
                        replies[index] = Some(reply);
                    }
                    Err(refusal) => replies[index] = Some(refused(&refusal)),
                },
                Err(refusal) => replies[index] = Some(refused(&refusal)),
            }
        }
        // A slow request must not keep the session waiting for an ack, or for the sign that its client lives.
        let answers = async {
            while let Some((index, reply)) = running.next().await {
                replies[index] = Some(reply);
            }
        };
        let ((), session_gone) = tokio::join!(answers, self.forward(session, forwarded));
        response(&ids, replies, session_gone)
    }

    fn begin(
        &self,
        index: usize,
        frame: v1::ClientFrame,
        lanes: &mut Lanes,
        large: &mut usize,
    ) -> Result<Begun, Refusal> {
        let mut ask = check(frame)?;
        if is_large(&ask) {
            *large += 1;
        }
        // All answers go back in one message: it must stay below what clients decode.
        if is_large(&ask) && *large > LARGE_REQUESTS_IN_FLIGHT_MAX {
            let reason = Reason::RateLimited { retry_after_ms: 0 };
            let message = "too many pages are asked for in one Submit; not done, ask again in another";
            return Err(Refusal::not_done(reason, message));
        }
        lanes.enter(index as u64, &mut ask);
        match operation(&self.gateway, self.context_of(index), ask) {
            Ok(operation) => Ok(Begun::Operation(operation)),
            Err(ask) => Ok(Begun::Session(ask)),
        }
    }

    fn context_of(&self, index: usize) -> CallContext {
        let mut context = self.context.clone();
        if index > 0 {
            context.correlation = crate::domain::CorrelationId(self.gateway.on.host.random.bytes16());
        }
        context
    }

    /// The answer of a session frame, as far as it can be known here.
    async fn session_frame(&self, ask: Ask) -> Result<Reply, Refusal> {
        let done = Reply::Done(v1::Done {});
        match ask {
            Ask::Ack(ack) => wire::session::ack(&ack).map(|_| done),
            Ask::UnwatchPresence(unwatch) => wire::presence::unwatch(&unwatch).map(|_| done),
            Ask::SetAppState(state) => wire::session::set_app_state(state).map(|_| done),
            Ask::Bye(_) => Ok(done),
            Ask::WatchPresence(watch) => {
                let (users, _) = wire::presence::watch(&watch)?;
                let seen = self.gateway.on.presence.visible(&self.user, &users).await?;
                Ok(Reply::Watching(wire::presence::presences(&seen)))
            }
            Ask::Reauthenticate(token) => {
                let token = wire::session::reauthenticate(token)?;
                reauthenticate(&self.gateway, &self.user, &self.device, &token).await?;
                Ok(done)
            }
            Ask::Ping(_) => {
                let markers = self.gateway.on.conversations.markers();
                // Without the store the pong has no heads; it is still an answer.
                let rows = markers
                    .inbox_newest(&self.user, PONG_HEADS_MAX)
                    .await
                    .unwrap_or_default();
                Ok(Reply::Pong(pong(self.gateway.on.host.clock.unix_ms(), &rows)))
            }
            _ => Err(Refusal::not_done(Reason::Protocol, "a hello comes by Listen; not done")),
        }
    }

    /// Hands session frames to the session; without any it still hears that the client lives. A session of another user
    /// is not found, as if it did not exist.
    async fn forward(&self, session: &SessionId, frames: Vec<Bytes>) -> Option<Refusal> {
        let topic = Topic::Session(submit_topic(session, &self.user));
        let event = Event::Control(SessionControl { frames });
        let reached = self.gateway.on.bus.publish(&topic, event).await;
        (reached == 0).then(|| Refusal::not_done(Reason::NotFound, "the session is gone; open a new one with Listen"))
    }
}

fn check(frame: v1::ClientFrame) -> Result<Ask, Refusal> {
    let may_be_nameless = matches!(frame.body, Some(Ask::Ack(_) | Ask::Typing(_) | Ask::Bye(_)));
    if frame.request_id == 0 && !may_be_nameless {
        return Err(Refusal::invalid(
            "request_id",
            "must be above 0 for this frame; not done",
        ));
    }
    frame
        .body
        .ok_or_else(|| Refusal::invalid("body", "the frame has no body, or one that this server does not know"))
}

fn refused(refusal: &Refusal) -> Reply {
    Reply::Refusal(wire::refusal::to_proto(refusal))
}

/// Answers in the order of the frames: one for each that has a request id, and one for each refused one that has none.
fn response(ids: &[u64], replies: Vec<Option<Reply>>, session_gone: Option<Refusal>) -> v1::SubmitResponse {
    let answers = ids.iter().zip(replies).filter_map(|(id, reply)| {
        let reply = reply?;
        let refusal = typing_refusal(&reply).cloned().map(Reply::Refusal);
        match (*id, refusal) {
            (0, Some(refusal)) => Some((0, refusal)),
            (0, None) => matches!(reply, Reply::Refusal(_)).then_some((0, reply)),
            (id, _) => Some((id, reply)),
        }
    });
    v1::SubmitResponse {
        frames: answers
            .map(|(request_id, body)| v1::ServerFrame {
                request_id,
                body: Some(body),
            })
            .collect(),
        session_gone: session_gone.as_ref().map(wire::refusal::to_proto),
    }
}
