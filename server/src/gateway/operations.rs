//! Client frames that ask for an operation, the same on a stream and in a Submit.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

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
