//! Client frames: operations are started in the order they came, session frames change the session.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::close::Close;
use super::deliver::text;
use super::input::Incoming;
use super::jobs::Done;
use super::{Answered, Session, hello};
use crate::api::CallContext;
use crate::auth::Principal;
use crate::domain::{Reason, Refusal};
use crate::gateway::limits::{
    LARGE_REQUESTS_IN_FLIGHT_MAX, PONG_HEADS_MAX, REQUEST_BYTES_IN_FLIGHT_MAX, REQUESTS_IN_FLIGHT_MAX,
};
use crate::gateway::operations::{is_large, operation, typing_refusal};
use crate::storage::InboxRow;
use crate::telemetry::traces::{Stage, within};
use crate::wire;
use crate::wire::session::AppState;

impl Session {
    /// Whether the next client frame is read: what it asks for, and the answer, must fit.
    pub(super) fn may_read(&self) -> bool {
        let flying = &self.in_flight;
        let now = stonechat_host::monotonic();
        flying.ids.len() + flying.nameless < REQUESTS_IN_FLIGHT_MAX
            && flying.bytes < REQUEST_BYTES_IN_FLIGHT_MAX
            && flying.large < LARGE_REQUESTS_IN_FLIGHT_MAX
            && self.out.has_room()
            && self.pace.next(now).is_none()
    }

    /// Something came from the client.
    pub(super) fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Frame(frame) => {
                self.heard();
                self.frame(frame);
            }
            Incoming::Submitted(frames) => {
                self.heard();
                frames.into_iter().for_each(|frame| self.submitted(frame));
            }
            Incoming::Malformed(why) => self.close(Close::Protocol(why.into())),
            Incoming::End => self.close(Close::HalfClosed),
            Incoming::Gone => self.close(Close::Gone),
        }
    }

    fn heard(&mut self) {
        self.timers.heard();
        if self.timers.take_alive() {
            self.tell_alive();
        }
    }

    pub(super) fn tell_alive(&mut self) {
        let (gateway, who, background) = (Arc::clone(&self.gateway), Arc::clone(&self.who), self.background);
        self.job(async move {
            let presence = &gateway.on.presence;
            presence.session_alive(&who.user, &who.id, background).await;
            Done::Nothing
        });
    }

    fn frame(&mut self, frame: v1::ClientFrame) {
        let (id, bytes) = (frame.request_id, frame.encoded_len());
        let Some(ask) = frame.body else {
            let refusal = Refusal::invalid("body", "the frame has no body, or one that this server does not know");
            return self.refuse(Some(id), &refusal);
        };
        let may_be_nameless = matches!(ask, Ask::Hello(_) | Ask::Ack(_) | Ask::Typing(_) | Ask::Bye(_));
        if id == 0 && !may_be_nameless {
            let refusal = Refusal::invalid("request_id", "must be above 0 for this frame; not done");
            return self.refuse(None, &refusal);
        }
        if id != 0 && !self.in_flight.ids.insert(id) {
            let message = format!("request_id {id} is that of an unanswered request; not done");
            return self.refuse(None, &Refusal::not_done(Reason::Protocol, message));
        }
        if !matches!(ask, Ask::Ack(_)) {
            self.pace.take(stonechat_host::monotonic());
        }
        self.ask((id != 0).then_some(id), ask, bytes);
    }

    /// A session frame of a Submit: answered already, so it is handled without an id.
    fn submitted(&mut self, frame: Bytes) {
        let decoded = v1::ClientFrame::decode(frame).ok();
        if let Some(ask) = decoded.and_then(|frame| frame.body) {
            self.ask(None, ask, 0);
        }
    }

    fn ask(&mut self, reply: Option<u64>, mut ask: Ask, bytes: usize) {
        let (serial, large) = (self.serial, is_large(&ask));
        self.serial += 1;
        let place = self.lanes.enter(serial, &mut ask);
        let correlation = self.correlation();
        let context = CallContext {
            principal: self.principal.clone(),
            device: Some(self.who.device.clone()),
            correlation,
        };
        match operation(&self.gateway, context, ask) {
            Ok(operation) => {
                self.in_flight.nameless += usize::from(reply.is_none());
                self.in_flight.bytes += bytes;
                self.in_flight.large += usize::from(large);
                self.requests.push(Box::pin(async move {
                    Answered {
                        reply,
                        body: within(Stage::Request, correlation, operation).await,
                        place,
                        bytes,
                        large,
                    }
                }));
            }
            Err(ask) => self.session_frame(reply, *ask),
        }
    }

    fn session_frame(&mut self, reply: Option<u64>, ask: Ask) {
        match ask {
            Ask::Ack(ack) => self.ack(reply, &ack),
            Ask::WatchPresence(watch) => self.watch(reply, &watch),
            Ask::UnwatchPresence(unwatch) => self.unwatch(reply, &unwatch),
            Ask::SetAppState(state) => self.set_app_state(reply, state),
            Ask::Reauthenticate(token) => self.reauthenticate(reply, token),
            Ask::Ping(_) => self.ping(reply),
            Ask::Bye(_) => {
                self.reply_done(reply);
                self.close(Close::Bye);
            }
            _ => {
                let message = "only the first frame may be a hello";
                self.refuse_request(reply, &Refusal::not_done(Reason::Protocol, message));
                self.close(Close::Protocol(message.into()));
            }
        }
    }

    /// The request of this id is answered; `None` for one that had none.
    pub(super) fn answered(&mut self, reply: Option<u64>) {
        match reply {
            Some(id) => {
                self.in_flight.ids.remove(&id);
            }
            None => self.in_flight.nameless = self.in_flight.nameless.saturating_sub(1),
        }
    }

    /// Answers a request that had entered by a refusal.
    pub(super) fn refuse_request(&mut self, reply: Option<u64>, refusal: &Refusal) {
        if reply.is_some() {
            self.answered(reply);
        }
        self.refuse(reply, refusal);
    }

    /// An operation is answered.
    pub(super) fn operation_done(&mut self, mut answered: Answered) {
        self.answered(answered.reply);
        self.in_flight.bytes -= answered.bytes;
        self.in_flight.large -= usize::from(answered.large);
        if let Some(place) = &answered.place {
            self.lanes.leave(place, &mut answered.body);
        }
        match (answered.reply, typing_refusal(&answered.body)) {
            (Some(id), _) => {
                if self.answers_are_deliveries {
                    self.deliver_by_answer(&mut answered.body);
                }
                self.push(id, answered.body);
            }
            (None, Some(refusal)) => self.push(0, Reply::Refusal(refusal.clone())),
            (None, None) => {}
        }
    }

    fn set_app_state(&mut self, reply: Option<u64>, frame: v1::SetAppState) {
        match wire::session::set_app_state(frame) {
            Ok(state) => {
                self.background = state == AppState::Background;
                self.tell_alive();
                self.reply_done(reply);
            }
            Err(refusal) => self.refuse_request(reply, &refusal),
        }
    }

    fn ping(&mut self, reply: Option<u64>) {
        let (gateway, who) = (Arc::clone(&self.gateway), Arc::clone(&self.who));
        self.in_flight.nameless += usize::from(reply.is_none());
        self.job(async move {
            let newest = gateway
                .on
                .conversations
                .markers()
                .inbox_newest(&who.user, PONG_HEADS_MAX);
            Done::Newest(reply, newest.await.map_err(text))
        });
    }

    /// Answers a ping with the heads, and compares them with what was sent (I5). Without the store there are no heads.
    pub(super) fn pong(&mut self, reply: Option<u64>, rows: Result<Vec<InboxRow>, String>) {
        self.answered(reply);
        let rows = rows.unwrap_or_else(|error| {
            self.store_failed(&error);
            Vec::new()
        });
        for row in &rows {
            self.plan.hint(row.conversation, row.head.seq);
        }
        let pong = pong(self.gateway.on.host.clock.unix_ms(), &rows);
        self.reply(reply, Reply::Pong(pong));
    }

    fn reauthenticate(&mut self, reply: Option<u64>, frame: v1::Reauthenticate) {
        let token = match wire::session::reauthenticate(frame) {
            Ok(token) => token,
            Err(refusal) => return self.refuse_request(reply, &refusal),
        };
        self.in_flight.nameless += usize::from(reply.is_none());
        let (gateway, who) = (Arc::clone(&self.gateway), Arc::clone(&self.who));
        self.job(async move {
            let principal = hello::reauthenticate(&gateway, &who.user, &who.device, &token).await;
            Done::Reauthenticated(reply, principal)
        });
    }

    /// A refused token leaves the stream as it was, until the old one expires.
    pub(super) fn reauthenticated(&mut self, reply: Option<u64>, principal: Result<Principal, Refusal>) {
        self.answered(reply);
        match principal {
            Ok(principal) => {
                self.timers.renew(&principal, self.gateway.on.host.clock.unix_ms());
                self.principal = principal;
                self.reply(reply, Reply::Done(v1::Done {}));
            }
            Err(refusal) => self.refuse(reply, &refusal),
        }
    }
}

/// The answer to a ping.
pub(in crate::gateway) fn pong(unix_ms: i64, rows: &[InboxRow]) -> v1::Pong {
    let head = |row: &InboxRow| v1::ConversationHead {
        conversation_id: row.conversation.to_string(),
        head_seq: row.head.seq.0,
    };
    v1::Pong {
        server_time_ms: unix_ms,
        heads: rows.iter().map(head).collect(),
    }
}
