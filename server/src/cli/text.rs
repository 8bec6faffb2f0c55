//! What commands print for people.

use stonechat_client::DisconnectReason;
use stonechat_client::v1::{
    CloseReason, ConversationSummary, Entry, Member, MessageContent, Presence, entry, message_content,
};

use super::json;

/// Text of others, safe to print: a terminal obeys control characters, and bidi overrides show what is not there.
pub(super) fn safe(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\t' => character,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            _ if character.is_control() => '\u{fffd}',
            _ => character,
        })
        .collect()
}

/// Time of day, UTC: `14:02Z`.
pub(super) fn clock(unix_ms: i64) -> String {
    let minutes = unix_ms.div_euclid(60_000).rem_euclid(24 * 60);
    format!("{:02}:{:02}Z", minutes / 60, minutes % 60)
}

/// `#12 14:02Z bob: hello`.
pub(super) fn entry(entry: &Entry) -> String {
    let who = if entry.sender_user_id.is_empty() {
        "(system)"
    } else {
        &entry.sender_user_id
    };
    let what = body(entry.body.as_ref());
    let joint = if matches!(entry.body, Some(entry::Body::Message(_))) {
        ": "
    } else {
        " "
    };
    format!("#{} {} {who}{joint}{what}", entry.seq, clock(entry.server_time_ms))
}

fn body(body: Option<&entry::Body>) -> String {
    match body {
        Some(entry::Body::Message(message)) => content(message),
        Some(entry::Body::Edited(edited)) => {
            let new = edited.content.as_ref().map(content).unwrap_or_default();
            format!("edited #{}: {new}", edited.target_seq)
        }
        Some(entry::Body::Redacted(redacted)) if redacted.reason.is_empty() => {
            format!("removed #{}", redacted.target_seq)
        }
        Some(entry::Body::Redacted(redacted)) => {
            format!("removed #{} ({})", redacted.target_seq, safe(&redacted.reason))
        }
        Some(entry::Body::Reaction(change)) if change.removed => {
            format!("took {} back from #{}", safe(&change.reaction), change.target_seq)
        }
        Some(entry::Body::Reaction(change)) => format!("reacted {} to #{}", safe(&change.reaction), change.target_seq),
        Some(entry::Body::Pin(pin)) if pin.pinned => format!("pinned #{}", pin.target_seq),
        Some(entry::Body::Pin(pin)) => format!("unpinned #{}", pin.target_seq),
        Some(entry::Body::Created(created)) => {
            format!(
                "created the conversation {}with {}",
                quoted(&created.name),
                members(&created.members)
            )
        }
        Some(entry::Body::Members(changed)) => format!("set members: {}", members(&changed.members)),
        Some(entry::Body::Left(left)) if left.removed => format!("removed {}", left.user_id),
        Some(entry::Body::Left(_)) => "left".to_owned(),
        Some(entry::Body::Renamed(renamed)) => format!("named it {}", quoted(&renamed.name).trim_end()),
        Some(entry::Body::Tombstone(tombstone)) => format!("(removed by #{})", tombstone.redacted_by_seq),
        None => "(from a newer server)".to_owned(),
    }
}

fn quoted(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!("\"{}\" ", safe(name))
    }
}

fn content(content: &MessageContent) -> String {
    let mut text = match &content.content {
        Some(message_content::Content::Text(text)) => safe(text),
        Some(message_content::Content::Ciphertext(secret)) => {
            format!("(encrypted: {}, {} bytes)", safe(&secret.scheme), secret.data.len())
        }
        None => String::new(),
    };
    if content.reply_to_seq > 0 {
        text = format!("(to #{}) {text}", content.reply_to_seq);
    }
    for media in &content.media {
        text.push_str(&format!(" [{}]", safe(&media.uri)));
    }
    text
}

/// `alice (owner), bob`.
pub(super) fn members(members: &[Member]) -> String {
    let names = members.iter().map(|member| match json::role(member.role()) {
        "member" => member.user_id.clone(),
        role => format!("{} ({role})", member.user_id),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// One row of a conversation list.
pub(super) fn summary(row: &ConversationSummary) -> String {
    let title = if row.name.is_empty() {
        &row.peer_user_id
    } else {
        &row.name
    };
    let unread = row.markers.as_ref().map_or(0, |markers| markers.unread_count);
    let mut text = format!(
        "{}  {}  {} unread, head #{}",
        row.conversation_id,
        safe(title),
        unread,
        row.head_seq
    );
    for (note, holds) in [
        ("archived", row.archived),
        ("left", row.former_member),
        ("muted", row.muted_until_ms > 0),
    ] {
        if holds {
            text.push_str(", ");
            text.push_str(note);
        }
    }
    text
}

/// How somebody shows.
pub(super) fn presence(presence: &Presence) -> String {
    format!("* {} is {}", presence.user_id, json::status(presence.status()))
}

/// Why there is no session, and what to do about it.
pub(super) fn disconnect(reason: &DisconnectReason) -> String {
    match reason {
        DisconnectReason::Closed(closed) => match closed.reason() {
            CloseReason::Replaced => {
                "another session of this device took over; use --device to run several side by side".to_owned()
            }
            other => format!(
                "the server ended the session: {} ({})",
                other.as_str_name().trim_start_matches("CLOSE_REASON_"),
                safe(&closed.message)
            ),
        },
        DisconnectReason::Refused(refusal) => format!("refused: {}", safe(&refusal.message)),
        DisconnectReason::BadToken(text) | DisconnectReason::Network(text) | DisconnectReason::Protocol(text) => {
            text.clone()
        }
        DisconnectReason::Silent => "the server is silent".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing a sender writes reaches the terminal as a command.
    #[test]
    fn control_and_bidi_characters_are_made_harmless() {
        assert_eq!(
            safe("a\u{1b}[2Jb\u{202e}c\r\u{7}"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\u{fffd}"
        );
        assert_eq!(safe("👩‍👩‍👧 שלום é\n"), "👩‍👩‍👧 שלום é\n");
    }

    #[test]
    fn the_clock_is_utc_and_wraps() {
        assert_eq!(clock(0), "00:00Z");
        assert_eq!(clock(1_700_000_000_000), "22:13Z");
        assert_eq!(clock(-60_000), "23:59Z");
    }
}
