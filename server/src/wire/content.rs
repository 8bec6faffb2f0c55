//! Message content, members, roles and kinds, both ways.

use stonechat_proto::v1;

use super::fields::{self, Within};
use super::text;
use crate::domain::limits::{
    CIPHERTEXT_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, MEDIA_MAX, MEDIA_URI_BYTES_MAX, SCHEME_CHARS_MAX, TEXT_BYTES_MAX,
};
use crate::domain::{Content, Kind, Media, Member, MessageContent, Refusal, Role};

type Result<T> = std::result::Result<T, Refusal>;

/// Checks content; what is accepted is kept byte for byte.
///
/// # Errors
/// Names the field, without the messages around it.
pub fn parse(content: Option<v1::MessageContent>) -> Result<MessageContent> {
    parse_content(fields::present("content", content)?)
}

fn parse_content(content: v1::MessageContent) -> Result<MessageContent> {
    fields::between("media", content.media.len(), 0, MEDIA_MAX).within("content")?;
    let media = content.media.into_iter().map(parse_media);
    Ok(MessageContent {
        content: parse_inner(content.content).within("content")?,
        reply_to: fields::optional_seq(content.reply_to_seq),
        media: media.collect::<Result<_>>().within("content.media")?,
    })
}

fn parse_inner(content: Option<v1::message_content::Content>) -> Result<Content> {
    match content {
        Some(v1::message_content::Content::Text(plain)) => {
            text::body("text", plain, 1, TEXT_BYTES_MAX).map(Content::Text)
        }
        Some(v1::message_content::Content::Ciphertext(sealed)) => parse_ciphertext(sealed).within("ciphertext"),
        None => Err(Refusal::invalid("text", "neither text nor ciphertext is set")),
    }
}

fn parse_ciphertext(sealed: v1::Ciphertext) -> Result<Content> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    text::sized("scheme", sealed.scheme.len(), 1, SCHEME_CHARS_MAX)?;
    if !sealed.scheme.bytes().all(allowed) {
        return Err(Refusal::invalid("scheme", "holds characters outside [a-z0-9._-]"));
    }
    text::sized("data", sealed.data.len(), 1, CIPHERTEXT_BYTES_MAX)?;
    Ok(Content::Ciphertext {
        scheme: sealed.scheme,
        data: sealed.data,
    })
}

fn parse_media(media: v1::MediaReference) -> Result<Media> {
    Ok(Media {
        uri: text::line("uri", media.uri, 1, MEDIA_URI_BYTES_MAX)?,
        content_type: text::line("content_type", media.content_type, 0, CONTENT_TYPE_BYTES_MAX)?,
        size_bytes: media.size_bytes,
    })
}

/// Content as the contract shows it.
#[must_use]
pub fn to_proto(content: &MessageContent) -> v1::MessageContent {
    v1::MessageContent {
        content: Some(inner_to_proto(&content.content)),
        reply_to_seq: content.reply_to.map_or(0, |seq| seq.0),
        media: content.media.iter().map(media_to_proto).collect(),
    }
}

fn inner_to_proto(content: &Content) -> v1::message_content::Content {
    match content {
        Content::Text(plain) => v1::message_content::Content::Text(plain.clone()),
        Content::Ciphertext { scheme, data } => v1::message_content::Content::Ciphertext(v1::Ciphertext {
            scheme: scheme.clone(),
            data: data.clone(),
        }),
    }
}

fn media_to_proto(media: &Media) -> v1::MediaReference {
    v1::MediaReference {
        uri: media.uri.clone(),
        content_type: media.content_type.clone(),
        size_bytes: media.size_bytes,
    }
}

/// Checks members; a user may be named once.
///
/// # Errors
/// Names the field, without the messages around it.
pub fn parse_members(members: &[v1::Member], min: usize, max: usize) -> Result<Vec<Member>> {
    fields::between("members", members.len(), min, max)?;
    let mut parsed = members
        .iter()
        .map(parse_member)
        .collect::<Result<Vec<_>>>()
        .within("members")?;
    parsed.sort_by(|one, other| one.user.cmp(&other.user));
    if parsed.windows(2).any(|pair| pair[0].user == pair[1].user) {
        return Err(Refusal::invalid("members", "a user is named twice"));
    }
    Ok(parsed)
}

fn parse_member(member: &v1::Member) -> Result<Member> {
    Ok(Member {
        user: fields::user("user_id", &member.user_id)?,
        role: match fields::known("role", member.role)? {
            v1::MemberRole::Unspecified | v1::MemberRole::Member => Role::Member,
            v1::MemberRole::Admin => Role::Admin,
            v1::MemberRole::Owner => Role::Owner,
        },
    })
}

/// A member as the contract shows them.
#[must_use]
pub fn member_to_proto(member: &Member) -> v1::Member {
    let role = match member.role {
        Role::Member => v1::MemberRole::Member,
        Role::Admin => v1::MemberRole::Admin,
        Role::Owner => v1::MemberRole::Owner,
    };
    v1::Member {
        user_id: member.user.to_string(),
        role: role.into(),
    }
}

/// Checks the kind, which must be said.
///
/// # Errors
/// Names the field, without the messages around it.
pub fn parse_kind(kind: i32) -> Result<Kind> {
    match fields::known("kind", kind)? {
        v1::ConversationKind::Direct => Ok(Kind::Direct),
        v1::ConversationKind::Group => Ok(Kind::Group),
        v1::ConversationKind::Unspecified => Err(Refusal::invalid("kind", "is not said")),
    }
}

/// A kind as the contract shows it.
#[must_use]
pub fn kind_to_proto(kind: Kind) -> v1::ConversationKind {
    match kind {
        Kind::Direct => v1::ConversationKind::Direct,
        Kind::Group => v1::ConversationKind::Group,
    }
}
