//! Checks of single fields.

use std::fmt::Display;

use stonechat_proto::v1;

use crate::domain::ids::IdError;
use crate::domain::limits::SEQ_MAX;
use crate::domain::{ClientMsgId, ConversationId, DeviceId, Refusal, Seq, SessionId, UnixMillis, UserId};

type Result<T> = std::result::Result<T, Refusal>;

/// Names the message around a refused field.
pub(super) trait Within {
    /// Puts `outer` before the field.
    fn within(self, outer: &str) -> Self;
}

impl<T> Within for Result<T> {
    fn within(self, outer: &str) -> Self {
        self.map_err(|refusal| refusal.within(outer))
    }
}

/// Parses the request of an operation, whose name then stands before each refused field.
pub(super) fn operation<T>(name: &str, parse: impl FnOnce() -> Result<T>) -> Result<T> {
    parse().within(name)
}

fn id<T>(field: &'static str, parsed: std::result::Result<T, IdError>) -> Result<T> {
    parsed.map_err(|error| Refusal::invalid(field, error.to_string()))
}

pub(super) fn conversation(field: &'static str, text: &str) -> Result<ConversationId> {
    id(field, text.parse())
}

pub(super) fn user(field: &'static str, text: &str) -> Result<UserId> {
    id(field, UserId::parse(text))
}

pub(super) fn device(field: &'static str, text: &str) -> Result<DeviceId> {
    id(field, DeviceId::parse(text))
}

pub(super) fn session(field: &'static str, text: &str) -> Result<SessionId> {
    id(field, SessionId::parse(text))
}

pub(super) fn client_msg_id(field: &'static str, text: &str) -> Result<ClientMsgId> {
    id(field, ClientMsgId::parse(text))
}

/// What an empty text leaves out.
pub(super) fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

/// Users of a list, with its limits.
pub(super) fn users(field: &'static str, texts: &[String], min: usize, max: usize) -> Result<Vec<UserId>> {
    between(field, texts.len(), min, max)?;
    texts.iter().map(|text| user(field, text)).collect()
}

/// A seq. Those no log can reach are all alike beyond the head.
pub(super) fn seq(seq: u64) -> Seq {
    Seq(seq.min(SEQ_MAX))
}

/// A seq where 0 stands for none.
pub(super) fn optional_seq(number: u64) -> Option<Seq> {
    (number > 0).then(|| seq(number))
}

/// A seq that must name an entry.
pub(super) fn entry_seq(field: &'static str, number: u64) -> Result<Seq> {
    optional_seq(number).ok_or_else(|| Refusal::invalid(field, "a seq is above 0"))
}

/// A time where 0 stands for none.
///
/// # Errors
/// Before 1970.
pub(crate) fn optional_time(field: &'static str, millis: i64) -> Result<Option<UnixMillis>> {
    if millis < 0 {
        return Err(Refusal::invalid(field, "a time lies after the Unix epoch"));
    }
    Ok((millis > 0).then_some(UnixMillis(millis)))
}

/// How many rows a page holds; 0 asks for the default.
pub(super) fn page(asked: u32, default: u32, max: u32) -> Result<usize> {
    let rows = if asked == 0 { default } else { asked };
    between("limit", rows as usize, 1, max as usize)?;
    Ok(rows as usize)
}

/// Checks a count.
pub(super) fn between(field: &'static str, count: usize, min: usize, max: usize) -> Result<()> {
    if count < min || count > max {
        return Err(Refusal::invalid(field, format!("must be {min} to {max}, not {count}")));
    }
    Ok(())
}

/// A message that must be there.
pub(super) fn present<T>(field: &'static str, message: Option<T>) -> Result<T> {
    message.ok_or_else(|| Refusal::invalid(field, "is missing"))
}

/// A known value of an enum.
pub(super) fn known<T: TryFrom<i32>>(field: &'static str, value: i32) -> Result<T> {
    T::try_from(value).map_err(|_| Refusal::invalid(field, format!("{value} has no meaning here")))
}

/// Text of an optional id, empty for none.
pub(super) fn text<T: Display>(id: Option<&T>) -> String {
    id.map_or_else(String::new, T::to_string)
}

/// A time, 0 for none.
pub(super) fn millis(time: Option<UnixMillis>) -> i64 {
    time.map_or(0, |time| time.0)
}

/// The parts of an appending request that all have in common.
pub(super) fn header(header: Option<v1::AppendHeader>) -> Result<Header> {
    let header = present("header", header)?;
    parse_header(&header).within("header")
}

/// See `stonechat.v1.AppendHeader`.
pub(super) struct Header {
    pub(super) conversation: ConversationId,
    pub(super) client_msg_id: ClientMsgId,
    pub(super) previous: Option<ClientMsgId>,
    pub(super) known_head: Seq,
}

fn parse_header(header: &v1::AppendHeader) -> Result<Header> {
    Ok(Header {
        conversation: conversation("conversation_id", &header.conversation_id)?,
        client_msg_id: client_msg_id("client_msg_id", &header.client_msg_id)?,
        previous: optional(&header.previous_client_msg_id, |text| {
            client_msg_id("previous_client_msg_id", text)
        })?,
        known_head: seq(header.known_head),
    })
}
