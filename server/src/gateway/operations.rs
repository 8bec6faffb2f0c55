//! Client frames that ask for an operation, the same on a stream and in a Submit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;
use stonechat_proto::v1::{self, AppendHeader};

use super::Gateway;
use crate::api::CallContext;
use crate::wire::Answer;

/// The future of an operation's answer. It reaches the conversation's queue when it is first polled.
pub(super) type Operation = BoxFuture<'static, Reply>;

/// The operation a frame asks for, or the frame when it is one of the session.
pub(super) fn operation(gateway: &Arc<Gateway>, context: CallContext, ask: Ask) -> Result<Operation, Box<Ask>> {
    let operations = gateway.on.operations.clone();
    macro_rules! run {
        ($operation:ident, $reply:ident, $request:expr) => {{
            let request = $request;
            Box::pin(async move { Reply::$reply(operations.$operation(&context, request).await) })
        }};
    }
    Ok(match ask {
        Ask::Send(request) => run!(send, Send, request),
        Ask::Edit(request) => run!(edit, Edit, request),
        Ask::Redact(request) => run!(redact, Redact, request),
        Ask::React(request) => run!(react, React, request),
        Ask::Pin(request) => run!(pin, Pin, request),
        Ask::MarkDelivered(request) => run!(mark_delivered, MarkDelivered, request),
        Ask::MarkRead(request) => run!(mark_read, MarkRead, request),
        Ask::MarkUnread(request) => run!(mark_unread, MarkUnread, request),
        Ask::Typing(request) => run!(set_typing, Typing, request),
        Ask::SetStatus(request) => run!(set_status, SetStatus, request),
        Ask::Sync(request) => run!(list_conversations, Sync, request),
        Ask::History(request) => run!(get_history, History, request),
        other => return Err(Box::new(other)),
    })
}

/// Whether the answer may be large.
pub(super) fn is_large(ask: &Ask) -> bool {
    matches!(ask, Ask::Sync(_) | Ask::History(_))
}

/// The refusal in an answer to typing: the only operation that may be asked without a request id.
pub(super) fn typing_refusal(reply: &Reply) -> Option<&v1::Refusal> {
    match reply {
        Reply::Typing(typing) => typing.refusal(),
        _ => None,
    }
}

fn header(ask: &mut Ask) -> Option<&mut AppendHeader> {
    match ask {
        Ask::Send(request) => request.header.as_mut(),
        Ask::Edit(request) => request.header.as_mut(),
        Ask::Redact(request) => request.header.as_mut(),
        Ask::React(request) => request.header.as_mut(),
        Ask::Pin(request) => request.header.as_mut(),
        _ => None,
    }
}

/// The unanswered appends of one stream, by conversation, in the order they came (I4): an append that names no
/// predecessor gets the newest unanswered one before it, so that none overtakes another, also when one fails. Bounded by
/// the requests in flight.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_conversation: BTreeMap<String, VecDeque<(u64, String)>>,
}

/// Where an unanswered append stands.
#[derive(Debug)]
pub(super) struct Place {
    conversation: String,
    serial: u64,
}

impl Lanes {
    /// Puts an append in line; `serial` is unique on the stream. `None` for frames that append nothing.
    pub(super) fn enter(&mut self, serial: u64, ask: &mut Ask) -> Option<Place> {
        let header = header(ask)?;
        let lane = self.by_conversation.entry(header.conversation_id.clone()).or_default();
        if header.previous_client_msg_id.is_empty() {
            // A retry that overtakes its own first try must not wait for itself.
            let before = lane.iter().rev().find(|(_, id)| *id != header.client_msg_id);
            header.previous_client_msg_id = before.map(|(_, id)| id.clone()).unwrap_or_default();
        }
        lane.push_back((serial, header.client_msg_id.clone()));
        Some(Place {
            conversation: header.conversation_id.clone(),
            serial,
        })
    }

    /// The append there was answered.
    pub(super) fn leave(&mut self, place: &Place) {
        if let Some(lane) = self.by_conversation.get_mut(&place.conversation) {
            lane.retain(|(serial, _)| *serial != place.serial);
            if lane.is_empty() {
                self.by_conversation.remove(&place.conversation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(conversation: &str, id: &str, previous: &str) -> Ask {
        Ask::Send(v1::SendRequest {
            header: Some(AppendHeader {
                conversation_id: conversation.to_owned(),
                client_msg_id: id.to_owned(),
                previous_client_msg_id: previous.to_owned(),
                known_head: 0,
            }),
            content: None,
        })
    }

    fn enter(lanes: &mut Lanes, serial: u64, mut ask: Ask) -> (Place, String) {
        let place = lanes.enter(serial, &mut ask).expect("an append");
        let previous = header(&mut ask).expect("a header").previous_client_msg_id.clone();
        (place, previous)
    }

    /// I4: the implied predecessor is the newest unanswered append of the same stream and conversation.
    #[test]
    fn i4_pipelined_appends_name_their_predecessor() {
        let mut lanes = Lanes::default();
        let (first, previous) = enter(&mut lanes, 1, send("a", "m1", ""));
        assert_eq!(previous, "");
        let (second, previous) = enter(&mut lanes, 2, send("a", "m2", ""));
        assert_eq!(previous, "m1");
        assert_eq!(enter(&mut lanes, 3, send("b", "m3", "")).1, "");
        lanes.leave(&second);
        let (third, previous) = enter(&mut lanes, 4, send("a", "m4", ""));
        assert_eq!(previous, "m1", "m2 is answered, m1 is not");
        lanes.leave(&first);
        lanes.leave(&third);
        assert_eq!(enter(&mut lanes, 5, send("a", "m5", "")).1, "");
    }

    #[test]
    fn i4_what_the_client_named_stays_and_nothing_waits_for_itself() {
        let mut lanes = Lanes::default();
        enter(&mut lanes, 1, send("a", "m1", ""));
        assert_eq!(enter(&mut lanes, 2, send("a", "m2", "m0")).1, "m0");
        assert_eq!(enter(&mut lanes, 3, send("a", "m2", "")).1, "m1");
    }

    #[test]
    fn i9_answered_appends_leave_nothing_behind() {
        let mut lanes = Lanes::default();
        for serial in 0..100 {
            let (place, _) = enter(&mut lanes, serial, send(&format!("c{serial}"), "m", ""));
            lanes.leave(&place);
        }
        assert!(lanes.by_conversation.is_empty());
    }
}
