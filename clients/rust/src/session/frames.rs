//! Frames in and out of the session's core.

use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body;
use stonechat_proto::v1::{
    CaughtUp, ClientFrame, ConversationHead, GetHistoryResponse, ListConversationsResponse, Pong, Refusal,
    RefusalReason, ServerFrame, StreamClosed, get_history_response, list_conversations_response,
};
use tokio::time::Instant;

use super::core::Core;
use super::requests::{Purpose, reply};
use crate::answer::Answer as _;
use crate::error::RequestError;
use crate::event::Event;
use crate::inbox::Gap;
use crate::outbox::{Answer, Settled};

impl Core {
    /// Whether there is a frame to send.
    pub(super) fn has_frame(&self, now: Instant) -> bool {
        self.heartbeat.is_some()
            && (self.requests.has_unsent() || !self.typing.is_empty() || self.has_ack() || self.outbox.can_send(now))
    }

    /// Acknowledged is only what this device remembers to have.
    fn has_ack(&self) -> bool {
        self.records.is_empty() && self.inbox.has_ack()
    }

    /// The next frame to send: what keeps the stream alive and moving goes first.
    pub(super) fn next_frame(&mut self, now: Instant) -> Option<ClientFrame> {
        if let Some((request_id, body)) = self.requests.next() {
            return Some(frame(request_id, body));
        }
        if self.has_ack()
            && let Some(ack) = self.inbox.next_ack()
        {
            return Some(frame(0, Ask::Ack(ack)));
        }
        if let Some(typing) = self.typing.pop_front() {
            return Some(frame(0, Ask::Typing(typing)));
        }
        let request_id = self.next_id();
        let body = self.outbox.next(now, request_id)?;
        Some(frame(request_id, body))
    }

    /// Takes a frame; returns how the stream ended when it was the last one.
    pub(super) fn on_frame(&mut self, now: Instant, frame: ServerFrame) -> Option<StreamClosed> {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.heard(now);
        }
        let body = frame.body?;
        if let Body::Closed(closed) = body {
            return Some(closed);
        }
        if frame.request_id == 0 {
            self.on_event(now, body);
        } else if self.outbox.owns(frame.request_id) {
            self.on_operation(now, frame.request_id, body);
        } else if let Some(purpose) = self.requests.take(frame.request_id) {
            self.on_answer(now, purpose, body);
        }
        None
    }

    fn on_event(&mut self, now: Instant, body: Body) {
        match body {
            Body::Delivery(delivery) => {
                let released = self.inbox.deliver(delivery);
                self.release(now, released);
            }
            Body::CaughtUp(caught_up) => self.on_caught_up(&caught_up),
            Body::Receipts(receipts) => self.events.push(Event::Receipts(receipts)),
            Body::Markers(markers) => self.events.push(Event::Markers(markers)),
            Body::TypingEvent(typing) => self.events.push(Event::Typing(typing)),
            Body::Presence(presence) => self.events.push(Event::Presence(presence)),
            Body::Conversation(row) => self.events.push(Event::Conversation(Box::new(row))),
            Body::Refusal(refusal) => {
                tracing::warn!(
                    reason = refusal.reason().as_str_name(),
                    "a frame without an id was refused"
                );
            }
            // Entries and rows come by themselves, receipts do not.
            Body::Resync(_) => self.events.push(Event::ReceiptsMissed),
            // What a newer server adds is not for this client.
            _ => {}
        }
    }

    /// The cursor counts only once every row has come.
    fn on_caught_up(&mut self, caught_up: &CaughtUp) {
        let cursor = (!self.syncing && !caught_up.cursor.is_empty()).then(|| caught_up.cursor.to_vec());
        self.events.push_with(Event::CaughtUp, cursor);
    }

    fn on_operation(&mut self, now: Instant, request_id: u64, body: Body) {
        let answer = answer_of(body);
        let Some((settled, finished)) = self.outbox.answer(now, request_id, answer) else {
            return;
        };
        self.records.push(finished);
        self.events.push(match settled {
            Settled::Accepted(appended) => Event::SendAccepted(appended),
            Settled::Failed {
                conversation_id,
                client_msg_id,
                refusal,
            } => Event::SendFailed {
                conversation_id,
                client_msg_id,
                refusal: Box::new(refusal),
            },
        });
    }

    fn on_answer(&mut self, now: Instant, purpose: Purpose, body: Body) {
        match (purpose, body) {
            (Purpose::Repair(gap), Body::History(response)) => self.on_page(now, gap, response),
            (Purpose::Repair(gap), Body::Refusal(refusal)) => self.on_repair_refused(now, gap, &refusal),
            (Purpose::Sync, Body::Sync(response)) => self.on_list(now, response),
            (Purpose::Session, Body::Pong(pong)) => self.on_pong(now, &pong),
            (Purpose::Session, Body::Refusal(refusal)) => {
                tracing::warn!(
                    reason = refusal.reason().as_str_name(),
                    "a request of the session was refused"
                );
            }
            (purpose @ Purpose::App(_), Body::Refusal(refusal)) => reply(purpose, Err(RequestError::from(refusal))),
            (purpose, body) => reply(purpose, Ok(body)),
        }
    }

    fn on_page(&mut self, now: Instant, gap: Gap, response: GetHistoryResponse) {
        match response.outcome {
            Some(get_history_response::Outcome::Page(page)) => {
                let released = self.inbox.repair(&gap, page);
                self.release(now, released);
            }
            Some(get_history_response::Outcome::Refusal(refusal)) => self.on_repair_refused(now, gap, &refusal),
            None => {}
        }
    }

    fn on_repair_refused(&mut self, now: Instant, gap: Gap, refusal: &Refusal) {
        match refusal.reason() {
            RefusalReason::NotFound | RefusalReason::Forbidden | RefusalReason::CursorExpired => {
                tracing::warn!(conversation = gap.conversation_id, "a gap cannot be read any more");
                let released = self.inbox.give_up(&gap);
                self.release(now, released);
            }
            _ => {
                let id = self.next_id();
                self.requests.repair_later(now, id, gap);
            }
        }
    }

    fn on_list(&mut self, now: Instant, response: ListConversationsResponse) {
        match response.outcome {
            Some(list_conversations_response::Outcome::List(list)) => {
                for row in &list.conversations {
                    if let Some(gap) = self.inbox.note_row(row) {
                        self.fetch(now, gap);
                    }
                }
                self.syncing = list.has_more;
                let cursor = list.next_cursor.to_vec();
                if list.has_more {
                    self.sync(now, &cursor);
                }
                self.events.push_with(Event::Conversations(list), Some(cursor));
            }
            // The rest of the rows comes with the next session: the cursor stays where it is.
            Some(list_conversations_response::Outcome::Refusal(refusal)) => {
                tracing::warn!(
                    reason = refusal.reason().as_str_name(),
                    "the conversation list was refused"
                );
            }
            None => {}
        }
    }

    fn on_pong(&mut self, now: Instant, pong: &Pong) {
        // An app that is busy with a full window is behind for a reason.
        let mut behind: Vec<ConversationHead> = Vec::new();
        if self.inbox.is_idle() {
            let heads = pong.heads.iter();
            behind.extend(
                heads
                    .filter(|head| self.inbox.is_behind(&head.conversation_id, head.head_seq))
                    .cloned(),
            );
        }
        let Some(heartbeat) = &mut self.heartbeat else {
            return;
        };
        for head in heartbeat.lost_heads(behind) {
            if let Some(gap) = self.inbox.note_head(&head.conversation_id, head.head_seq) {
                self.fetch(now, gap);
            }
        }
    }
}

fn frame(request_id: u64, body: Ask) -> ClientFrame {
    ClientFrame {
        request_id,
        body: Some(body),
    }
}

fn answer_of(body: Body) -> Answer {
    let result = match body {
        Body::Refusal(refusal) => Err(refusal.into()),
        Body::Send(response) => response.into_result(),
        Body::Edit(response) => response.into_result(),
        Body::Redact(response) => response.into_result(),
        Body::React(response) => response.into_result(),
        Body::Pin(response) => response.into_result(),
        _ => return Answer::Unreadable,
    };
    match result {
        Ok(appended) => Answer::Appended(appended),
        Err(RequestError::Refused(refusal)) => Answer::Refused(*refusal),
        Err(_) => Answer::Unreadable,
    }
}
