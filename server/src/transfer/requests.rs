//! From a line to the request it stands for, through the same checks as every request of a client.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use stonechat_proto::v1;

use super::record::{MemberRecord, Record, RecordType, Reference};
use crate::conversation::{AppendRequest, CreateRequest};
use crate::domain::{ClientMsgId, ConversationId, DeviceId, Kind, Refusal, Sender, Seq, UnixMillis, UserId};
use crate::wire;

type Result<T> = std::result::Result<T, Refusal>;

/// In front of the `client_msg_id` of an imported conversation, so that an export finds the line's own id again.
pub(super) const CONVERSATION_PREFIX: &str = "import:";
/// Stands in for content that is gone, until the redaction that follows.
const REDACTED_TEXT: &str = "\u{fffd}";

pub(super) fn missing(field: &'static str) -> Refusal {
    Refusal::invalid(field, format!("{field} is missing"))
}

/// When it was written; 0 is not said.
fn time(record: &Record) -> Result<Option<UnixMillis>> {
    wire::optional_time("time", record.time.unwrap_or_default())
}

/// Who did it.
pub(super) fn sender(user: Option<&str>, device: Option<&str>) -> Result<Sender> {
    Ok(Sender {
        user: user.map(UserId::parse).transpose()?,
        device: device.map(DeviceId::parse).transpose()?,
    })
}

/// The creation a conversation line stands for.
pub(super) fn creation(record: &Record) -> Result<CreateRequest> {
    let owner = record.user.as_deref().ok_or_else(|| missing("user"))?;
    let owner = UserId::parse(owner)?;
    let kind = match record.kind.as_deref() {
        Some("direct") => v1::ConversationKind::Direct,
        Some("group") => v1::ConversationKind::Group,
        _ => return Err(Refusal::invalid("kind", "kind must be \"direct\" or \"group\"")),
    };
    let others: Vec<MemberRecord> = record
        .members
        .iter()
        .filter(|member| member.user != owner.as_str())
        .cloned()
        .collect();
    let request = v1::CreateConversationRequest {
        client_msg_id: format!("{CONVERSATION_PREFIX}{}", record.id),
        kind: kind.into(),
        name: record.name.clone().unwrap_or_default(),
        members: members(&others)?,
    };
    let mut request = wire::conversation::create(&owner, request)?;
    request.created = time(record)?;
    if request.kind == Kind::Direct {
        request.name.clear();
    }
    Ok(request)
}

/// The append that any other line of a conversation stands for; `reply` and `target` are resolved already.
pub(super) fn append(
    record: &Record,
    conversation: ConversationId,
    reply: Option<Seq>,
    target: Option<Seq>,
) -> Result<AppendRequest> {
    let header = Some(v1::AppendHeader {
        conversation_id: conversation.to_string(),
        client_msg_id: record.id.clone(),
        ..v1::AppendHeader::default()
    });
    let target_seq = || target.map(|seq| seq.0).ok_or_else(|| missing("target"));
    let mut request = match record.record {
        RecordType::Message => wire::message::send(v1::SendRequest {
            header,
            content: Some(content(record, reply)?),
        }),
        RecordType::Edit => wire::message::edit(v1::EditRequest {
            header,
            target_seq: target_seq()?,
            content: Some(content(record, reply)?),
        }),
        RecordType::Reaction => wire::message::react(v1::ReactRequest {
            header,
            target_seq: target_seq()?,
            reaction: record.reaction.clone().ok_or_else(|| missing("reaction"))?,
            remove: record.removed,
        }),
        RecordType::Redaction => wire::message::redact(v1::RedactRequest {
            header,
            target_seq: target_seq()?,
            reason: record.reason.clone().unwrap_or_default(),
        }),
        RecordType::Pin => wire::message::pin(v1::PinRequest {
            header,
            target_seq: target_seq()?,
            unpin: record.removed,
        }),
        RecordType::Members => wire::conversation::set_members(header, &members(&record.members)?),
        RecordType::Left => {
            let member = record.member.as_deref().ok_or_else(|| missing("member"))?;
            wire::conversation::remove_member(header, member)
        }
        RecordType::Renamed => {
            let name = record.name.clone().ok_or_else(|| missing("name"))?;
            wire::conversation::rename(header, name)
        }
        RecordType::User | RecordType::Conversation | RecordType::Block => {
            Err(Refusal::invalid("type", "not a line of a conversation"))
        }
    }?;
    request.origin_time = time(record)?;
    Ok(request)
}

fn content(record: &Record, reply: Option<Seq>) -> Result<v1::MessageContent> {
    use v1::message_content::Content;
    let content = match (&record.text, &record.ciphertext) {
        (Some(text), None) => Content::Text(text.clone()),
        (None, Some(sealed)) => Content::Ciphertext(v1::Ciphertext {
            scheme: sealed.scheme.clone(),
            data: STANDARD
                .decode(&sealed.data)
                .map_err(|_| Refusal::invalid("ciphertext.data", "data is not base64"))?
                .into(),
        }),
        (None, None) if record.redacted => Content::Text(REDACTED_TEXT.to_owned()),
        _ => {
            return Err(Refusal::invalid(
                "text",
                "exactly one of text and ciphertext must be there",
            ));
        }
    };
    let media = record.media.iter().map(|media| v1::MediaReference {
        uri: media.uri.clone(),
        content_type: media.content_type.clone(),
        size_bytes: media.size_bytes,
    });
    Ok(v1::MessageContent {
        content: Some(content),
        reply_to_seq: reply.map_or(0, |seq| seq.0),
        media: media.collect(),
    })
}

fn members(records: &[MemberRecord]) -> Result<Vec<v1::Member>> {
    let member = |record: &MemberRecord| {
        let role = match record.role.as_str() {
            "member" => v1::MemberRole::Member,
            "admin" => v1::MemberRole::Admin,
            "owner" => v1::MemberRole::Owner,
            _ => {
                return Err(Refusal::invalid(
                    "members",
                    "role must be \"member\", \"admin\" or \"owner\"",
                ));
            }
        };
        Ok(v1::Member {
            user_id: record.user.clone(),
            role: role.into(),
        })
    };
    records.iter().map(member).collect()
}

/// Who blocks, and whom.
pub(super) fn block(record: &Record) -> Result<(UserId, UserId)> {
    let user = record.user.as_deref().ok_or_else(|| missing("user"))?;
    Ok((UserId::parse(user)?, UserId::parse(&record.id)?))
}

/// Sender and id that a reference names.
pub(super) fn referenced(reference: &Reference) -> Result<(Sender, ClientMsgId)> {
    let sender = sender(reference.user.as_deref(), reference.device.as_deref())?;
    Ok((sender, ClientMsgId::parse(&reference.id)?))
}
