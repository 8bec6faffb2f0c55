//! Appending messages and reading the log.

use stonechat_proto::{admin, v1};

use super::entry::entry_to_proto;
use super::fields::{self, Header, Within};
use super::{content, text};
use crate::conversation::{AppendRequest, Appended, HistoryAnchor, HistoryPage, HistoryQuery};
use crate::domain::limits::{HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, REACTION_BYTES_MAX, REASON_BYTES_MAX};
use crate::domain::{Change, Refusal, UnixMillis, UserId};

type Result<T> = std::result::Result<T, Refusal>;

/// An append in somebody's name; `None` is the system.
pub type OnBehalf = (Option<UserId>, AppendRequest);

pub(super) fn append(header: Header, change: Change, origin_time: Option<UnixMillis>) -> AppendRequest {
    AppendRequest {
        conversation: header.conversation,
        client_msg_id: header.client_msg_id,
        previous: header.previous,
        known_head: header.known_head,
        change,
        origin_time,
    }
}

/// Checks a send.
///
/// # Errors
/// Names the field.
pub fn send(request: v1::SendRequest) -> Result<AppendRequest> {
    fields::operation("send", || {
        let header = fields::header(request.header)?;
        Ok(append(header, Change::Message(content::parse(request.content)?), None))
    })
}

/// Checks an edit.
///
/// # Errors
/// Names the field.
pub fn edit(request: v1::EditRequest) -> Result<AppendRequest> {
    fields::operation("edit", || {
        let header = fields::header(request.header)?;
        let change = edit_change(request.target_seq, request.content)?;
        Ok(append(header, change, None))
    })
}

fn edit_change(target: u64, new: Option<v1::MessageContent>) -> Result<Change> {
    Ok(Change::Edit {
        target: fields::entry_seq("target_seq", target)?,
        content: content::parse(new)?,
    })
}

/// Checks a redaction.
///
/// # Errors
/// Names the field.
pub fn redact(request: v1::RedactRequest) -> Result<AppendRequest> {
    fields::operation("redact", || {
        let header = fields::header(request.header)?;
        let change = redact_change(request.target_seq, request.reason)?;
        Ok(append(header, change, None))
    })
}

fn redact_change(target: u64, reason: String) -> Result<Change> {
    Ok(Change::Redact {
        target: fields::entry_seq("target_seq", target)?,
        reason: text::body("reason", reason, 0, REASON_BYTES_MAX)?,
    })
}

/// Checks a reaction.
///
/// # Errors
/// Names the field.
pub fn react(request: v1::ReactRequest) -> Result<AppendRequest> {
    fields::operation("react", || {
        let header = fields::header(request.header)?;
        let change = react_change(request.target_seq, request.reaction, request.remove)?;
        Ok(append(header, change, None))
    })
}

fn react_change(target: u64, reaction: String, remove: bool) -> Result<Change> {
    Ok(Change::React {
        target: fields::entry_seq("target_seq", target)?,
        reaction: text::line("reaction", reaction, 1, REACTION_BYTES_MAX)?,
        remove,
    })
}

/// Checks a pin.
///
/// # Errors
/// Names the field.
pub fn pin(request: v1::PinRequest) -> Result<AppendRequest> {
    fields::operation("pin", || {
        let header = fields::header(request.header)?;
        let change = Change::Pin {
            target: fields::entry_seq("target_seq", request.target_seq)?,
            unpin: request.unpin,
        };
        Ok(append(header, change, None))
    })
}

/// Checks a query of history.
///
/// # Errors
/// Names the field.
pub fn history(request: &v1::GetHistoryRequest) -> Result<HistoryQuery> {
    parse_history(request).within("history")
}

fn parse_history(request: &v1::GetHistoryRequest) -> Result<HistoryQuery> {
    use v1::get_history_request::Anchor;
    let anchor = match request.anchor {
        Some(Anchor::AfterSeq(seq)) => HistoryAnchor::After(fields::seq(seq)),
        Some(Anchor::BeforeSeq(seq)) => HistoryAnchor::Before(fields::optional_seq(seq)),
        Some(Anchor::AroundSeq(seq)) => HistoryAnchor::Around(fields::entry_seq("around_seq", seq)?),
        None => {
            return Err(Refusal::invalid(
                "after_seq",
                "none of after_seq, before_seq and around_seq is set",
            ));
        }
    };
    Ok(HistoryQuery {
        conversation: fields::conversation("conversation_id", &request.conversation_id)?,
        anchor,
        limit: fields::page(request.limit, HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX)?,
        until: fields::optional_seq(request.until_seq),
    })
}

/// Checks an integrator's send.
///
/// # Errors
/// Names the field.
pub fn admin_send(request: admin::v1::SendRequest) -> Result<OnBehalf> {
    fields::operation("send", || {
        let user = on_behalf_of(&request.on_behalf_of)?;
        let header = fields::header(request.header)?;
        let origin = origin_time(request.origin_time_ms)?;
        let change = Change::Message(content::parse(request.content)?);
        Ok((user, append(header, change, origin)))
    })
}

/// Checks an integrator's edit.
///
/// # Errors
/// Names the field.
pub fn admin_edit(request: admin::v1::EditRequest) -> Result<OnBehalf> {
    fields::operation("edit", || {
        let user = on_behalf_of(&request.on_behalf_of)?;
        let header = fields::header(request.header)?;
        let origin = origin_time(request.origin_time_ms)?;
        let change = edit_change(request.target_seq, request.content)?;
        Ok((user, append(header, change, origin)))
    })
}

/// Checks an integrator's redaction.
///
/// # Errors
/// Names the field.
pub fn admin_redact(request: admin::v1::RedactRequest) -> Result<OnBehalf> {
    fields::operation("redact", || {
        let user = on_behalf_of(&request.on_behalf_of)?;
        let header = fields::header(request.header)?;
        let change = redact_change(request.target_seq, request.reason)?;
        Ok((user, append(header, change, None)))
    })
}

/// Checks an integrator's reaction; the system has none.
///
/// # Errors
/// Names the field.
pub fn admin_react(request: admin::v1::ReactRequest) -> Result<OnBehalf> {
    fields::operation("react", || {
        let user = fields::user("on_behalf_of", &request.on_behalf_of)?;
        let header = fields::header(request.header)?;
        let origin = origin_time(request.origin_time_ms)?;
        let change = react_change(request.target_seq, request.reaction, request.remove)?;
        Ok((Some(user), append(header, change, origin)))
    })
}

/// Checks an integrator's query of history.
///
/// # Errors
/// Names the field.
pub fn admin_history(request: admin::v1::GetHistoryRequest) -> Result<HistoryQuery> {
    fields::present("query", request.query)
        .and_then(|query| parse_history(&query).within("query"))
        .within("get_history")
}

fn on_behalf_of(text: &str) -> Result<Option<UserId>> {
    fields::optional(text, |text| fields::user("on_behalf_of", text))
}

fn origin_time(millis: i64) -> Result<Option<UnixMillis>> {
    fields::optional_time("origin_time_ms", millis)
}

/// An accepted append.
#[must_use]
pub fn appended(appended: &Appended) -> v1::Appended {
    v1::Appended {
        conversation_id: appended.conversation.to_string(),
        client_msg_id: appended.client_msg_id.to_string(),
        seq: appended.seq.0,
        server_time_ms: appended.time.0,
        duplicate: appended.duplicate,
        correlation_id: appended.correlation.to_string(),
        is_delivery: false,
    }
}

/// A page of history.
#[must_use]
pub fn history_page(page: &HistoryPage) -> v1::HistoryPage {
    v1::HistoryPage {
        conversation_id: page.conversation.to_string(),
        entries: page
            .entries
            .iter()
            .map(|stored| entry_to_proto(&stored.entry))
            .collect(),
        first_available_seq: page.first_available.0,
        head_seq: page.head.0,
        has_more: page.has_more,
    }
}
