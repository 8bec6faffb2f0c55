//! The reading half of a raw session: takes frames, acknowledges if it shall, writes the history.

use std::sync::Arc;

use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_proto::v1::session_service_client::SessionServiceClient;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::session::{Acks, Pending, Shared, ack};
use super::sight::{own, public, sighting};
use crate::checker::{MarkerValues, Moment, OpId, Register, Seq, Start, What};

/// Reads the stream until it ends.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) outgoing: mpsc::Sender<v1::ExchangeRequest>,
    pub(super) start: Start,
    pub(super) invoked: Moment,
    pub(super) acks: Acks,
    pub(super) pause: watch::Receiver<bool>,
    pub(super) news: watch::Sender<u64>,
}

impl Reader {
    pub(super) async fn run(mut self, channel: Channel, requests: ReceiverStream<v1::ExchangeRequest>) {
        let how = match SessionServiceClient::new(channel).exchange(requests).await {
            Ok(answer) => self.read(answer.into_inner()).await,
            Err(status) => format!("{status:?}"),
        };
        self.shared.ended(&how);
        self.news.send_modify(|news| *news += 1);
    }

    async fn read(&mut self, mut frames: tonic::Streaming<v1::ExchangeResponse>) -> String {
        loop {
            if self.pause.wait_for(|reading| *reading).await.is_err() {
                return "dropped".to_owned();
            }
            match frames.message().await {
                Ok(Some(answer)) => self.take(answer.frame.unwrap_or_default()).await,
                Ok(None) => return "ok".to_owned(),
                Err(status) => return format!("{status:?}"),
            }
        }
    }

    async fn take(&mut self, frame: v1::ServerFrame) {
        let pending = self.shared.state().pending.remove(&frame.request_id);
        match (&frame.body, pending) {
            (Some(body), Some(pending)) => self.note_answer(body, &pending),
            (Some(body), None) => self.note_event(body),
            (None, _) => {}
        }
        let delivered = match &frame.body {
            Some(Seen::Delivery(delivery)) => delivery.entry.clone(),
            _ => None,
        };
        self.shared.state().observed.take(frame);
        if let Some(entry) = delivered.filter(|_| self.acks == Acks::Each) {
            self.shared.say_acked(&entry.conversation_id, entry.seq);
            let body = Some(ack(&entry.conversation_id, entry.seq));
            let frame = Some(v1::ClientFrame { request_id: 0, body });
            let _ = self.outgoing.send(v1::ExchangeRequest { frame }).await;
        }
        self.news.send_modify(|news| *news += 1);
    }

    fn note_answer(&self, body: &Seen, pending: &Pending) {
        let recorder = &self.shared.recorder;
        if let Some(op) = pending.op {
            recorder.say(outcome(op, body));
            if is_held(body) {
                recorder.say(What::SendHeld { op });
            }
        }
        if let Some(markers) = markers_of(body) {
            recorder.say(What::MarkersRead {
                subject: self.shared.user.clone(),
                conversation: markers.conversation_id.as_str().into(),
                register: Register::Own,
                invoked: pending.invoked,
                values: own(markers),
            });
        }
        if let Seen::History(v1::GetHistoryResponse {
            outcome: Some(v1::get_history_response::Outcome::Page(page)),
        }) = body
        {
            let entries = page.entries.iter().map(sighting).collect();
            let user = self.shared.user.clone();
            recorder.say(What::PageRead { user, entries });
            self.note_head(&page.conversation_id, page.head_seq, pending.invoked, false);
        }
        if let Seen::Sync(v1::ListConversationsResponse {
            outcome: Some(v1::list_conversations_response::Outcome::List(list)),
        }) = body
        {
            list.conversations
                .iter()
                .for_each(|row| self.note_row(row, pending.invoked));
        }
    }

    fn note_row(&self, row: &v1::ConversationSummary, invoked: Moment) {
        self.note_head(&row.conversation_id, row.head_seq, invoked, true);
        self.note_conversation(&row.conversation_id);
    }

    fn note_head(&self, conversation: &str, head: u64, invoked: Moment, listed: bool) {
        self.shared.recorder.say(What::HeadRead {
            user: self.shared.user.clone(),
            conversation: conversation.into(),
            invoked,
            head: Seq(head),
            listed,
        });
    }

    fn note_conversation(&self, conversation: &str) {
        self.shared.recorder.say(What::Noticed {
            session: self.shared.session,
            conversation: conversation.into(),
        });
    }

    fn note_event(&self, body: &Seen) {
        let session = self.shared.session;
        match body {
            Seen::Welcome(welcome) => {
                self.shared.recorder.say(What::SessionOpened {
                    session,
                    user: self.shared.user.clone(),
                    device: self.shared.device.clone(),
                    start: self.start.clone(),
                });
                welcome
                    .conversations
                    .iter()
                    .for_each(|row| self.note_row(row, self.invoked));
            }
            Seen::Delivery(delivery) => {
                if let Some(entry) = &delivery.entry {
                    let entry = sighting(entry);
                    self.shared.recorder.say(What::Delivered { session, entry });
                }
            }
            Seen::Receipts(moved) => {
                for member in &moved.members {
                    self.note_push(
                        &member.user_id,
                        &moved.conversation_id,
                        Register::Public,
                        public(member),
                    );
                }
            }
            Seen::Markers(markers) => {
                self.note_push(
                    &self.shared.user.0,
                    &markers.conversation_id,
                    Register::Own,
                    own(markers),
                );
            }
            Seen::TypingEvent(typing) => self.note_conversation(&typing.conversation_id),
            Seen::Conversation(row) => self.note_conversation(&row.conversation_id),
            Seen::Presence(presence) => {
                self.shared.recorder.say(What::PresencePushed {
                    subject: presence.user_id.as_str().into(),
                    online: presence.status() != v1::Status::Offline,
                });
            }
            _ => {}
        }
    }

    fn note_push(&self, subject: &str, conversation: &str, register: Register, values: MarkerValues) {
        self.shared.recorder.say(What::MarkersPushed {
            session: self.shared.session,
            subject: subject.into(),
            conversation: conversation.into(),
            register,
            values,
        });
    }
}

fn markers_of(body: &Seen) -> Option<&v1::Markers> {
    use v1::{mark_delivered_response as delivered, mark_read_response as read, mark_unread_response as unread};
    match body {
        Seen::MarkDelivered(v1::MarkDeliveredResponse {
            outcome: Some(delivered::Outcome::Markers(markers)),
        })
        | Seen::MarkRead(v1::MarkReadResponse {
            outcome: Some(read::Outcome::Markers(markers)),
        })
        | Seen::MarkUnread(v1::MarkUnreadResponse {
            outcome: Some(unread::Outcome::Markers(markers)),
        }) => Some(markers),
        _ => None,
    }
}

/// What the answer to an append says about it.
fn outcome(op: OpId, body: &Seen) -> What {
    match append_outcome(body) {
        Some(Ok(appended)) => What::SendAcked {
            op,
            seq: Seq(appended.seq),
        },
        Some(Err(refusal)) if refusal.effect() == v1::Effect::NotDone => What::SendFailed { op },
        _ => What::SendUnknown { op },
    }
}

/// Whether the stream keeps the place of an append that was answered like this.
fn is_held(body: &Seen) -> bool {
    use v1::RefusalReason::{OutOfOrder, RateLimited, Unauthenticated, Unavailable};
    let Some(Err(refusal)) = append_outcome(body) else {
        return false;
    };
    let again = matches!(
        refusal.reason(),
        OutOfOrder | RateLimited | Unauthenticated | Unavailable
    );
    again || refusal.effect() != v1::Effect::NotDone
}

/// What was appended, or why not; `None` when the answer is of another kind.
#[must_use]
pub fn append_outcome(body: &Seen) -> Option<Result<&v1::Appended, &v1::Refusal>> {
    use v1::{edit_response, pin_response, react_response, redact_response, send_response};
    macro_rules! split {
        ($outcome:expr, $module:ident) => {
            match $outcome.as_ref()? {
                $module::Outcome::Appended(appended) => Some(Ok(appended)),
                $module::Outcome::Refusal(refusal) => Some(Err(refusal)),
            }
        };
    }
    match body {
        Seen::Send(answer) => split!(answer.outcome, send_response),
        Seen::Edit(answer) => split!(answer.outcome, edit_response),
        Seen::Redact(answer) => split!(answer.outcome, redact_response),
        Seen::React(answer) => split!(answer.outcome, react_response),
        Seen::Pin(answer) => split!(answer.outcome, pin_response),
        Seen::Refusal(refusal) => Some(Err(refusal)),
        _ => None,
    }
}
