//! Parsers on their own: frames, fields, cursors, the journal.

use prost::Message;
use stonechat_host::Host;
use stonechat_proto::{admin, v1};
use stonechat_server::conversation::{Conversations, Limits};
use stonechat_server::domain::{DeviceId, Refusal, UserId};
use stonechat_server::gateway::fuzz;
use stonechat_server::storage::embedded::batches_in;
use stonechat_server::wire::{conversation, entry, message, people, presence, receipt, session};

use super::bed::backends;

/// What decodes is the same after another round; the server decodes what the generated code does.
pub fn frames(data: &[u8]) {
    assert_eq!(fuzz::exchange(data), same_again::<v1::ExchangeRequest>(data));
    assert_eq!(fuzz::listen(data), same_again::<v1::ListenRequest>(data));
    // A Submit may also have too many frames.
    assert!(!fuzz::submit(data) || same_again::<v1::SubmitRequest>(data));
    same_again::<v1::ClientFrame>(data);
}

fn same_again<T: Message + Default + PartialEq + std::fmt::Debug>(data: &[u8]) -> bool {
    let Ok(decoded) = T::decode(data) else { return false };
    let again = T::decode(decoded.encode_to_vec().as_slice()).expect("what was encoded");
    assert_eq!(again, decoded);
    true
}

/// A refusal of a field names it, and says that nothing was done.
fn typed<T>(result: Result<T, Refusal>) {
    if let Err(refusal) = result {
        assert_eq!(refusal.effect, stonechat_server::domain::Effect::NotDone, "{refusal:?}");
        assert!(!refusal.message.is_empty(), "{refusal:?}");
    }
}

macro_rules! checked {
    ($data:expr; $($request:ty => $check:expr;)*) => {
        $(if let Ok(request) = <$request>::decode($data) {
            let check: fn($request) = $check;
            check(request);
        })*
    };
}

fn user() -> UserId {
    UserId::parse("alice").expect("an id")
}

/// Every check of the wire's border, on whatever decodes.
pub fn validation(data: &[u8]) {
    checked! { data;
        v1::Hello => |request| typed(session::hello(request));
        v1::SetAppState => |request| typed(session::set_app_state(request));
        v1::Ack => |request| typed(session::ack(&request));
        v1::Reauthenticate => |request| typed(session::reauthenticate(request));
        v1::SubmitRequest => |request| typed(session::submit(request));
        v1::SendRequest => |request| typed(message::send(request));
        v1::EditRequest => |request| typed(message::edit(request));
        v1::RedactRequest => |request| typed(message::redact(request));
        v1::ReactRequest => |request| typed(message::react(request));
        v1::PinRequest => |request| typed(message::pin(request));
        v1::GetHistoryRequest => |request| typed(message::history(&request));
        v1::MarkDeliveredRequest => |request| typed(receipt::mark_delivered(&request));
        v1::MarkReadRequest => |request| typed(receipt::mark_read(&request));
        v1::MarkUnreadRequest => |request| typed(receipt::mark_unread(&request));
        v1::GetReceiptsRequest => |request| typed(receipt::get_receipts(&request));
        v1::CreateConversationRequest => |request| typed(conversation::create(&user(), request));
        v1::ListConversationsRequest => |request| typed(conversation::list(request));
        v1::UpdateConversationSettingsRequest => |request| typed(conversation::settings(&request));
        v1::SetMembersRequest => |request| typed(conversation::set_members(request.header, &request.members));
        v1::SetStatusRequest => |request| typed(presence::set_status(request));
        v1::GetPresenceRequest => |request| typed(presence::get_presence(&request));
        v1::WatchPresence => |request| typed(presence::watch(&request));
        v1::SetTypingRequest => |request| typed(presence::set_typing(&request));
        v1::GetUsersRequest => |request| typed(people::get_users(&request));
        v1::UpdateProfileRequest => |request| typed(people::update_profile(request));
        v1::RemoveDeviceRequest => |request| typed(people::remove_device(&request));
        admin::v1::CreateConversationRequest => |request| typed(conversation::admin_create(request));
        admin::v1::SendRequest => |request| typed(message::admin_send(request));
        admin::v1::GetHistoryRequest => |request| typed(message::admin_history(request));
        admin::v1::RevokeTokensRequest => |request| typed(people::revoke_tokens(&request));
        admin::v1::IssueTokenRequest => |request| typed(people::issue_token(&request));
    }
    let text = String::from_utf8_lossy(data);
    // An id that is accepted is written as it was read.
    assert!(UserId::parse(&text).is_ok_and(|id| id.as_str() == text) || UserId::parse(&text).is_err());
    assert!(DeviceId::parse(&text).is_ok_and(|id| id.as_str() == text) || DeviceId::parse(&text).is_err());
    if let Ok(stored) = entry::decode(data) {
        let again = entry::decode(&entry::encode(&stored)).expect("what was encoded");
        assert_eq!(again, stored);
    }
}

/// A cursor is good only as this store writes it, and never of the future.
pub fn cursors(data: &[u8]) {
    let host = Host::system();
    let rules = Conversations::new(backends(&host), host, Limits::default());
    if let Some(stamp) = rules.read_cursor(data) {
        assert!(
            data.is_empty() || rules.write_cursor(stamp) == data,
            "{data:?} is {stamp:?}"
        );
    }
    let own = rules.write_cursor(rules.markers().newest_change());
    assert!(rules.read_cursor(&own).is_some());
    let mut changed = own.clone();
    for (byte, change) in changed.iter_mut().zip(data) {
        *byte ^= change;
    }
    assert!(changed == own || rules.read_cursor(&changed).is_none(), "{changed:?}");
}

/// The journal's reader takes any bytes, and finds among them no fewer batches than at their beginning.
pub fn journal(data: &[u8]) {
    let (whole, within) = batches_in(data);
    assert!(within >= whole, "{whole} at the beginning, {within} within");
}
