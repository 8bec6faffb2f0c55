//! What a user's conversation list shows, their settings, and whom they share a conversation with.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Pool};

use super::conversations::span;
use super::db::{Db, row, statement};
use super::error::{Failed, is_missing_reference};
use super::projection::unknown_conversation;
use super::users::select_others;
use super::values::{
    id_from_db, id_lists, id_to_db, kind_from_db, optional_seq_from_db, placeholders, role_from_db, seq_to_db,
    user_from_db,
};
use crate::domain::roster::Standing;
use crate::domain::{ConversationId, UnixMillis, UserId};
use crate::storage::{ConversationView, Settings, SettingsPatch};

type Result<T> = std::result::Result<T, Failed>;

row! {
    /// One stay of the user, or none, with what is the same in all rows of the conversation.
    struct ViewRow {
        conversation_id: Vec<u8>,
        kind: i16,
        name: String,
        direct_low: Option<String>,
        direct_high: Option<String>,
        muted_until_ms: Option<i64>,
        archived: Option<bool>,
        unread_from_seq: Option<i64>,
        joined_seq: Option<i64>,
        left_seq: Option<i64>,
        role: Option<i16>,
    }
}

/// One statement per list of ids, so that standing, name and settings of a conversation are of one moment.
pub(super) async fn views<D: Db>(
    readers: &Pool<D>,
    user: &UserId,
    ids: &[ConversationId],
) -> Result<BTreeMap<ConversationId, ConversationView>> {
    // Each id once: a second row of a stay would make a second stay.
    let ids: Vec<ConversationId> = ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mut views = BTreeMap::new();
    for list in id_lists(&ids) {
        for row in read_rows(readers, user, &list).await? {
            add_row(&mut views, user, row)?;
        }
    }
    Ok(views)
}

pub(super) fn views_text(ids: usize) -> String {
    format!(
        "SELECT c.conversation_id, c.kind, c.name, c.direct_low, c.direct_high,
                own.muted_until_ms, own.archived, own.unread_from_seq, stay.joined_seq, stay.left_seq, stay.role
         FROM conversations c
         LEFT JOIN settings own ON own.user_id = $1 AND own.conversation_id = c.conversation_id
         LEFT JOIN standings stay ON stay.conversation_id = c.conversation_id AND stay.user_id = $1
         WHERE c.conversation_id IN ({})
         ORDER BY c.conversation_id, stay.joined_seq",
        placeholders(2, ids)
    )
}

async fn read_rows<D: Db>(readers: &Pool<D>, user: &UserId, list: &[ConversationId]) -> Result<Vec<ViewRow>> {
    let text = views_text(list.len());
    let mut query = statement::<D>(AssertSqlSafe(text)).bind(user.as_str());
    for id in list {
        query = query.bind(id_to_db(*id));
    }
    Ok(query.fetch_all(readers).await?)
}

fn add_row(views: &mut BTreeMap<ConversationId, ConversationView>, user: &UserId, row: ViewRow) -> Result<()> {
    let id = id_from_db(&row.conversation_id)?;
    let stay = match (row.joined_seq, row.role) {
        (Some(joined), Some(role)) => Some((span(joined, row.left_seq)?, role_from_db(role)?)),
        _ => None,
    };
    let view = match views.entry(id) {
        std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
        std::collections::btree_map::Entry::Vacant(free) => free.insert(view_without_standing(user, row)?),
    };
    if let Some((span, role)) = stay {
        let spans = Vec::new();
        let standing = view.standing.get_or_insert(Standing { role, spans });
        standing.spans.push(span);
    }
    Ok(())
}

fn view_without_standing(user: &UserId, row: ViewRow) -> Result<ConversationView> {
    let peer = match (row.direct_low, row.direct_high) {
        (Some(low), Some(high)) if low == user.as_str() => Some(user_from_db(&high)?),
        (Some(low), Some(high)) if high == user.as_str() => Some(user_from_db(&low)?),
        _ => None,
    };
    let archived = row.archived.unwrap_or_default();
    Ok(ConversationView {
        kind: kind_from_db(row.kind)?,
        name: row.name,
        peer,
        standing: None,
        settings: settings((row.muted_until_ms, archived, row.unread_from_seq))?,
    })
}

pub(super) type SettingsRow = (Option<i64>, bool, Option<i64>);

fn settings((muted_until, archived, unread_from): SettingsRow) -> Result<Settings> {
    Ok(Settings {
        muted_until: muted_until.map(UnixMillis),
        archived,
        unread_from: optional_seq_from_db(unread_from)?,
    })
}

pub(super) async fn update_settings<D: Db>(
    writer: &Pool<D>,
    user: &UserId,
    id: ConversationId,
    patch: SettingsPatch,
) -> Result<Settings> {
    let unread_from = patch.unread_from.flatten().map(seq_to_db).transpose()?;
    let written = statement::<D>(
        "INSERT INTO settings (user_id, conversation_id, muted_until_ms, archived, unread_from_seq)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (user_id, conversation_id) DO UPDATE SET
             muted_until_ms = CASE WHEN $6 THEN excluded.muted_until_ms ELSE settings.muted_until_ms END,
             archived = CASE WHEN $7 THEN excluded.archived ELSE settings.archived END,
             unread_from_seq = CASE WHEN $8 THEN excluded.unread_from_seq ELSE settings.unread_from_seq END
         RETURNING muted_until_ms, archived, unread_from_seq",
    )
    .bind(user.as_str())
    .bind(id_to_db(id))
    .bind(patch.muted_until.flatten().map(|until| until.0))
    .bind(patch.archived.unwrap_or_default())
    .bind(unread_from)
    .bind(patch.muted_until.is_some())
    .bind(patch.archived.is_some())
    .bind(patch.unread_from.is_some())
    .fetch_one(writer)
    .await;
    match written {
        Err(error) if is_missing_reference(&error) => Err(unknown_conversation(id).into()),
        other => settings(other?),
    }
}

/// Both are members of one conversation now.
pub(super) const SHARES: &str = "EXISTS (SELECT 1 FROM standings mine
    JOIN standings theirs ON theirs.conversation_id = mine.conversation_id
    WHERE mine.user_id = $1 AND mine.left_seq IS NULL
      AND theirs.user_id = other.column1 AND theirs.left_seq IS NULL)";

pub(super) async fn sharing<D: Db>(readers: &Pool<D>, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
    select_others(readers, user, others, SHARES).await
}
