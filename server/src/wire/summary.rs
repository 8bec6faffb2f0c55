//! A user's own view of a conversation: list rows and markers.

use stonechat_proto::v1;

use super::entry::kind_to_proto;
use super::fields;
use crate::conversation::{ListPage, OwnMarkers, Summary};

/// A user's own markers.
#[must_use]
pub fn markers(markers: &OwnMarkers) -> v1::Markers {
    v1::Markers {
        conversation_id: markers.conversation.to_string(),
        delivered_seq: markers.delivered.0,
        read_seq: markers.read.0,
        unread_from_seq: markers.unread_from.map_or(0, |seq| seq.0),
        unread_count: markers.unread_count,
    }
}

/// One row of a user's conversation list.
#[must_use]
pub fn summary(summary: &Summary) -> v1::ConversationSummary {
    v1::ConversationSummary {
        conversation_id: summary.id.to_string(),
        kind: kind_to_proto(summary.kind).into(),
        name: summary.name.clone(),
        peer_user_id: fields::text(summary.peer.as_ref()),
        head_seq: summary.head.0,
        activity_ms: summary.activity.0,
        markers: Some(markers(&summary.markers)),
        muted_until_ms: fields::millis(summary.settings.muted_until),
        archived: summary.settings.archived,
        former_member: summary.former_member,
        first_available_seq: summary.first_available.0,
        device_seq: summary.device_seq.0,
    }
}

/// Rows of a user's conversation list.
#[must_use]
pub fn list(page: ListPage) -> v1::ConversationList {
    v1::ConversationList {
        conversations: page.rows.iter().map(summary).collect(),
        next_cursor: page.next_cursor.into(),
        has_more: page.has_more,
    }
}
