//! Every field that a refusal names is a field of the contract.

use std::collections::BTreeMap;

use prost_types::{DescriptorProto, FileDescriptorSet};

use super::*;

/// Messages by full name, with a leading dot as type names have it.
fn messages() -> BTreeMap<String, DescriptorProto> {
    let set = FileDescriptorSet::decode(stonechat_proto::FILE_DESCRIPTOR_SET).unwrap();
    let named = set.file.into_iter().flat_map(|file| {
        let package = file.package().to_owned();
        let named = file.message_type.into_iter();
        named.map(move |message| (format!(".{package}.{}", message.name()), message))
    });
    named.collect()
}

/// The messages an operation's name can stand for: a frame's body, or the request of an rpc.
fn roots(messages: &BTreeMap<String, DescriptorProto>, operation: &str) -> Vec<String> {
    let frame = &messages[".stonechat.v1.ClientFrame"].field;
    let mut roots: Vec<String> = frame
        .iter()
        .filter(|field| field.name() == operation)
        .map(|field| field.type_name().to_owned())
        .collect();
    let camel: String = operation
        .split('_')
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect();
    roots.push(format!(".stonechat.v1.{camel}Request"));
    roots.push(format!(".stonechat.admin.v1.{camel}Request"));
    roots
}

fn leads_on(messages: &BTreeMap<String, DescriptorProto>, root: &str, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return true;
    };
    let fields = messages.get(root).map_or(&[][..], |message| &message.field);
    fields
        .iter()
        .any(|field| field.name() == *first && (rest.is_empty() || leads_on(messages, field.type_name(), rest)))
}

/// Panics when a refusal names a field that the contract does not have.
pub(super) fn assert_named(refusal: &Refusal) {
    let Reason::Invalid { field } = &refusal.reason else {
        return;
    };
    let messages = messages();
    let path: Vec<&str> = field.split('.').collect();
    let known = roots(&messages, path[0])
        .iter()
        .any(|root| leads_on(&messages, root, &path[1..]));
    assert!(known && path.len() > 1, "no field {field:?} in the contract");
}

#[test]
fn the_check_finds_a_wrong_name() {
    assert_named(&Refusal::invalid("send.content.ciphertext.scheme", ""));
    for wrong in ["send", "send.text", "sent.content", "send.content.text.x"] {
        let found = std::panic::catch_unwind(|| assert_named(&Refusal::invalid(wrong, "")));
        assert!(found.is_err(), "{wrong} was taken for a field");
    }
}

#[test]
fn broken_appends_of_integrators_name_their_fields() {
    use admin::v1::{EditRequest, ReactRequest, RedactRequest, SendRequest};
    let sent = |on_behalf_of: &str, origin_time_ms| {
        message::admin_send(SendRequest {
            header: header(),
            on_behalf_of: on_behalf_of.to_owned(),
            content: None,
            origin_time_ms,
        })
    };
    let edited = message::admin_edit(EditRequest {
        header: header(),
        ..Default::default()
    });
    let redacted = message::admin_redact(RedactRequest {
        header: header(),
        ..Default::default()
    });
    let reacted = message::admin_react(ReactRequest::default());
    let headless = message::admin_send(SendRequest::default());
    for refused in [
        sent("", 0),
        sent("a b", 0),
        sent("", -1),
        edited,
        redacted,
        reacted,
        headless,
    ] {
        assert_named(&refused.unwrap_err());
    }
}

#[test]
fn broken_reads_and_marks_of_integrators_name_their_fields() {
    use admin::v1::{GetHistoryRequest, MarkReadRequest};
    let broken = [
        message::admin_history(GetHistoryRequest::default()).err(),
        message::admin_history(GetHistoryRequest {
            query: Some(Default::default()),
        })
        .err(),
        receipt::admin_mark_read(&MarkReadRequest::default()).err(),
        receipt::admin_mark_read(&MarkReadRequest {
            user_id: "a".to_owned(),
            mark: Some(Default::default()),
        })
        .err(),
    ];
    for refused in broken {
        assert_named(&refused.unwrap());
    }
}

#[test]
fn broken_requests_about_people_name_their_fields() {
    use admin::v1::{
        GetUserRequest, IssueTokenRequest, ListUsersRequest, RevokeTokensRequest, SetUserDeactivatedRequest,
        UpsertUserRequest,
    };
    let issue = IssueTokenRequest {
        ttl_seconds: 2_592_001,
        ..Default::default()
    };
    let broken = [
        people::upsert_user(UpsertUserRequest::default()).err(),
        people::get_user(&GetUserRequest::default()).err(),
        people::list_users(&ListUsersRequest {
            limit: 501,
            ..Default::default()
        })
        .err(),
        people::set_deactivated(&SetUserDeactivatedRequest::default()).err(),
        people::revoke_tokens(&RevokeTokensRequest::default()).err(),
        people::issue_token(&issue).err(),
        people::get_users(&v1::GetUsersRequest::default()).err(),
        people::set_block(&v1::SetBlockRequest::default()).err(),
        people::remove_device(&v1::RemoveDeviceRequest::default()).err(),
        presence::get_presence(&v1::GetPresenceRequest::default()).err(),
    ];
    for refused in broken {
        assert_named(&refused.unwrap());
    }
}

#[test]
fn broken_requests_about_conversations_name_their_fields() {
    let receipts = v1::GetReceiptsRequest {
        conversation_id: CONVERSATION.to_owned(),
        ..Default::default()
    };
    let settings = v1::UpdateConversationSettingsRequest {
        muted_until_ms: Some(-1),
        ..Default::default()
    };
    let listed = admin::v1::ListConversationsRequest {
        limit: 501,
        ..Default::default()
    };
    let broken = [
        receipt::get_receipts(&receipts).err(),
        conversation::admin_create(admin::v1::CreateConversationRequest::default()).err(),
        conversation::get("").err(),
        conversation::admin_list(&listed).err(),
        conversation::set_members(header(), &[]).err(),
        conversation::remove_member(header(), "").err(),
        conversation::settings(&settings).err(),
        session::submit(v1::SubmitRequest::default()).err(),
    ];
    for refused in broken {
        assert_named(&refused.unwrap());
    }
}
