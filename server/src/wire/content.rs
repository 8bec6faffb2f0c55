//! Checks of message content, members, roles and kinds; their other direction is `entry`'s.

use stonechat_proto::v1;

use super::entry::{kind_from_proto, role_from_proto};
use super::fields::{self, Within};
use super::text;
use crate::domain::limits::{
    CIPHERTEXT_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, MEDIA_MAX, MEDIA_URI_BYTES_MAX, SCHEME_CHARS_MAX, TEXT_BYTES_MAX,
};
use crate::domain::{Content, Kind, Media, Member, MessageContent, Refusal};

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
        role: role_from_proto(member.role).ok_or_else(|| Refusal::invalid("role", "is no known role"))?,
    })
}

/// Checks the kind, which must be said.
///
/// # Errors
/// Names the field, without the messages around it.
pub fn parse_kind(kind: i32) -> Result<Kind> {
    kind_from_proto(kind).ok_or_else(|| Refusal::invalid("kind", "is neither a 1:1 nor a group"))
}
