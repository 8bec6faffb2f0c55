//! Users and blocks.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Pool};

use super::SqlDirectory;
use super::db::{Db, statement};
use super::error::{Failed, is_missing_reference};
use super::values::{id_lists, limit_to_db, placeholders, user_from_db, value_rows};
use crate::domain::{UnixMillis, UserId};
use crate::storage::{DirectoryError, UserRecord};

type Result<T> = std::result::Result<T, Failed>;
pub(super) type UserRow = (String, String, bool, Option<i64>);

pub(super) fn record((id, display_name, deactivated, revoked): UserRow) -> Result<UserRecord> {
    Ok(UserRecord {
        id: user_from_db(&id)?,
        display_name,
        deactivated,
        tokens_revoked: revoked.map(UnixMillis),
    })
}

pub(super) async fn upsert<D: Db>(writer: &Pool<D>, id: &UserId, name: &str, now: UnixMillis) -> Result<UserRecord> {
    let row = statement::<D>(
        "INSERT INTO users (user_id, display_name, deactivated, created_ms) VALUES ($1, $2, FALSE, $3)
         ON CONFLICT (user_id) DO UPDATE SET display_name = excluded.display_name
         RETURNING user_id, display_name, deactivated, tokens_revoked_ms",
    )
    .bind(id.as_str())
    .bind(name)
    .bind(now.0)
    .fetch_one(writer)
    .await?;
    record(row)
}

/// Reads first: nearly every hello is of a known user, and a read needs neither the writer nor an fsync.
pub(super) async fn ensure<D: Db>(directory: &SqlDirectory<D>, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
    if let Some(known) = one(directory.readers(), id).await? {
        return Ok(known);
    }
    statement::<D>(
        "INSERT INTO users (user_id, display_name, deactivated, created_ms) VALUES ($1, '', FALSE, $2)
         ON CONFLICT (user_id) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(now.0)
    .execute(directory.writer())
    .await?;
    let made = one(directory.readers(), id).await?;
    Ok(made.ok_or_else(|| DirectoryError::NoSuchUser(id.clone()))?)
}

async fn one<D: Db>(readers: &Pool<D>, id: &UserId) -> Result<Option<UserRecord>> {
    let row =
        statement::<D>("SELECT user_id, display_name, deactivated, tokens_revoked_ms FROM users WHERE user_id = $1")
            .bind(id.as_str())
            .fetch_optional(readers)
            .await?;
    row.map(record).transpose()
}

pub(super) async fn by_id<D: Db>(readers: &Pool<D>, ids: &[UserId]) -> Result<Vec<UserRecord>> {
    let mut connection = readers.acquire().await?;
    by_id_in::<D>(&mut connection, ids).await
}

pub(super) async fn by_id_in<D: Db>(connection: &mut D::Connection, ids: &[UserId]) -> Result<Vec<UserRecord>> {
    let ids: Vec<&UserId> = ids.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut found = Vec::with_capacity(ids.len());
    // The lists are in ascending order, and so is each answer: the whole is too.
    for list in id_lists(&ids) {
        let text = format!(
            "SELECT user_id, display_name, deactivated, tokens_revoked_ms FROM users WHERE user_id IN ({}) ORDER BY user_id",
            placeholders(1, list.len())
        );
        let mut query = statement::<D>(AssertSqlSafe(text));
        for id in list {
            query = query.bind(id.as_str());
        }
        for row in query.fetch_all::<UserRow>(&mut *connection).await? {
            found.push(record(row)?);
        }
    }
    Ok(found)
}

pub(super) async fn list<D: Db>(readers: &Pool<D>, after: Option<&UserId>, limit: usize) -> Result<Vec<UserRecord>> {
    // The empty text sorts before every id.
    let rows = statement::<D>(
        "SELECT user_id, display_name, deactivated, tokens_revoked_ms FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2",
    )
    .bind(after.map_or("", UserId::as_str))
    .bind(limit_to_db(limit))
    .fetch_all(readers)
    .await?;
    rows.into_iter().map(record).collect()
}

pub(super) async fn set_deactivated<D: Db>(
    writer: &Pool<D>,
    id: &UserId,
    deactivated: bool,
    now: UnixMillis,
) -> Result<UserRecord> {
    let row = statement::<D>(
        "UPDATE users SET deactivated = $2, tokens_revoked_ms =
             CASE WHEN $2 THEN CASE WHEN tokens_revoked_ms > $3 THEN tokens_revoked_ms ELSE $3 END
                  ELSE tokens_revoked_ms END
         WHERE user_id = $1 RETURNING user_id, display_name, deactivated, tokens_revoked_ms",
    )
    .bind(id.as_str())
    .bind(deactivated)
    .bind(now.0)
    .fetch_optional(writer)
    .await?;
    record(row.ok_or_else(|| DirectoryError::NoSuchUser(id.clone()))?)
}

pub(super) async fn set_block<D: Db>(writer: &Pool<D>, user: &UserId, target: &UserId, blocked: bool) -> Result<()> {
    let text = if blocked {
        "INSERT INTO blocks (user_id, target_id) VALUES ($1, $2) ON CONFLICT (user_id, target_id) DO NOTHING"
    } else {
        "DELETE FROM blocks WHERE user_id = $1 AND target_id = $2"
    };
    if one(writer, target).await?.is_none() {
        return Err(DirectoryError::NoSuchUser(target.clone()).into());
    }
    let done = statement::<D>(text)
        .bind(user.as_str())
        .bind(target.as_str())
        .execute(writer)
        .await;
    match done {
        // Users are never deleted, so the target is still there: it is the other one who is not.
        Err(error) if is_missing_reference(&error) => Err(DirectoryError::NoSuchUser(user.clone()).into()),
        other => Ok(other.map(drop)?),
    }
}

pub(super) async fn blocks<D: Db>(readers: &Pool<D>, user: &UserId) -> Result<Vec<UserId>> {
    let rows: Vec<(String,)> = statement::<D>("SELECT target_id FROM blocks WHERE user_id = $1 ORDER BY target_id")
        .bind(user.as_str())
        .fetch_all(readers)
        .await?;
    rows.iter().map(|(id,)| user_from_db(id)).collect()
}

/// One has blocked the other.
pub(super) const BLOCKED: &str = "EXISTS (SELECT 1 FROM blocks
    WHERE (user_id = $1 AND target_id = other.column1) OR (user_id = other.column1 AND target_id = $1))";

pub(super) async fn blocked_among<D: Db>(readers: &Pool<D>, user: &UserId, others: &[UserId]) -> Result<Vec<UserId>> {
    select_others(readers, user, others, BLOCKED).await
}

/// Those of a list for whom a condition on `$1`, the user, and `other.column1`, the other, holds.
pub(super) fn others_text(others: usize, condition: &'static str) -> String {
    let rows = value_rows(2, others, 1);
    format!("SELECT other.column1 FROM (VALUES {rows}) AS other WHERE {condition}")
}

/// Those of `others` for whom a condition holds, ascending.
pub(super) async fn select_others<D: Db>(
    readers: &Pool<D>,
    user: &UserId,
    others: &[UserId],
    condition: &'static str,
) -> Result<Vec<UserId>> {
    let mut found = BTreeSet::new();
    for list in id_lists(others) {
        let text = others_text(list.len(), condition);
        let mut query = statement::<D>(AssertSqlSafe(text)).bind(user.as_str());
        for id in &list {
            query = query.bind(id.as_str());
        }
        let rows: Vec<(String,)> = query.fetch_all(readers).await?;
        for (id,) in rows {
            found.insert(user_from_db(&id)?);
        }
    }
    Ok(found.into_iter().collect())
}
