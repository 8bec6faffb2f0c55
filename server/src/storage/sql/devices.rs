//! Devices, and what is remembered of removed ones.

use sqlx::Pool;

use super::db::{Db, begin_write, lock_user, statement};
use super::error::{Failed, damaged, is_missing_reference};
use crate::domain::limits::{DEVICES_MAX, REMOVAL_KEPT_MS};
use crate::domain::{DeviceId, UnixMillis, UserId};
use crate::storage::{DeviceRecord, DirectoryError};

type Result<T> = std::result::Result<T, Failed>;

/// Nearly every hello is of a known device: one statement, and nothing to count.
pub(super) async fn touch<D: Db>(writer: &Pool<D>, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<()> {
    let known = statement::<D>(
        "UPDATE devices SET
             created_ms = CASE WHEN present THEN created_ms ELSE $3 END,
             last_seen_ms = $3,
             present = TRUE
         WHERE user_id = $1 AND device_id = $2",
    )
    .bind(user.as_str())
    .bind(device.as_str())
    .bind(now.0)
    .execute(writer)
    .await?;
    if known > 0 {
        return Ok(());
    }
    let mut transaction = begin_write(writer).await?;
    lock_user::<D>(&mut transaction, user.as_str()).await?;
    make_room::<D>(&mut transaction, user, now).await?;
    let done = statement::<D>(
        "INSERT INTO devices (user_id, device_id, present, created_ms, last_seen_ms) VALUES ($1, $2, TRUE, $3, $3)
         ON CONFLICT (user_id, device_id) DO UPDATE SET last_seen_ms = excluded.last_seen_ms, present = TRUE",
    )
    .bind(user.as_str())
    .bind(device.as_str())
    .bind(now.0)
    .execute(&mut *transaction)
    .await;
    match done {
        Err(error) if is_missing_reference(&error) => Err(DirectoryError::NoSuchUser(user.clone()).into()),
        other => {
            other?;
            Ok(transaction.commit().await?)
        }
    }
}

/// Sees to it that a user's next row is within the bound, if need be by forgetting the oldest removal that is old enough.
async fn make_room<D: Db>(connection: &mut D::Connection, user: &UserId, now: UnixMillis) -> Result<()> {
    let (rows,): (i64,) = statement::<D>("SELECT COUNT(*) FROM devices WHERE user_id = $1")
        .bind(user.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if usize::try_from(rows).is_ok_and(|rows| rows < DEVICES_MAX) {
        return Ok(());
    }
    let forgotten = statement::<D>(
        // Once more not present: a hello of the device may have come between the search and the deletion.
        "DELETE FROM devices WHERE user_id = $1 AND NOT present AND device_id = (
             SELECT device_id FROM devices WHERE user_id = $1 AND NOT present AND removed_ms <= $2
             ORDER BY removed_ms, device_id LIMIT 1)",
    )
    .bind(user.as_str())
    .bind(now.0.saturating_sub(REMOVAL_KEPT_MS))
    .execute(&mut *connection)
    .await?;
    match forgotten {
        0 => Err(DirectoryError::TooManyDevices(user.clone()).into()),
        _ => Ok(()),
    }
}

pub(super) async fn list<D: Db>(readers: &Pool<D>, user: &UserId) -> Result<Vec<DeviceRecord>> {
    let rows: Vec<(String, i64, i64)> = statement::<D>(
        "SELECT device_id, created_ms, last_seen_ms FROM devices WHERE user_id = $1 AND present ORDER BY device_id",
    )
    .bind(user.as_str())
    .fetch_all(readers)
    .await?;
    rows.into_iter().map(record).collect()
}

fn record((id, created, last_seen): (String, i64, i64)) -> Result<DeviceRecord> {
    Ok(DeviceRecord {
        id: DeviceId::parse(&id).map_err(|_| damaged("device id"))?,
        created: UnixMillis(created),
        last_seen: UnixMillis(last_seen),
    })
}

/// Remembers the removal also of a device that was not there: a token may be bound to one that never said hello. The
/// time only goes forward, so that a clock that jumped back revives no token.
pub(super) async fn remove<D: Db>(writer: &Pool<D>, user: &UserId, device: &DeviceId, now: UnixMillis) -> Result<bool> {
    let mut transaction = begin_write(writer).await?;
    lock_user::<D>(&mut transaction, user.as_str()).await?;
    let was: Option<(bool,)> = statement::<D>("SELECT present FROM devices WHERE user_id = $1 AND device_id = $2")
        .bind(user.as_str())
        .bind(device.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
    if was.is_none() {
        make_room::<D>(&mut transaction, user, now).await?;
    }
    statement::<D>(
        "INSERT INTO devices (user_id, device_id, present, created_ms, last_seen_ms, removed_ms)
         SELECT user_id, $2, FALSE, $3, $3, $3 FROM users WHERE user_id = $1
         ON CONFLICT (user_id, device_id) DO UPDATE SET
             present = FALSE,
             removed_ms = CASE WHEN devices.removed_ms > excluded.removed_ms
                               THEN devices.removed_ms ELSE excluded.removed_ms END",
    )
    .bind(user.as_str())
    .bind(device.as_str())
    .bind(now.0)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(was.is_some_and(|(present,)| present))
}

pub(super) async fn removed_at<D: Db>(
    readers: &Pool<D>,
    user: &UserId,
    device: &DeviceId,
) -> Result<Option<UnixMillis>> {
    let row: Option<(Option<i64>,)> =
        statement::<D>("SELECT removed_ms FROM devices WHERE user_id = $1 AND device_id = $2")
            .bind(user.as_str())
            .bind(device.as_str())
            .fetch_optional(readers)
            .await?;
    Ok(row.and_then(|(removed,)| removed).map(UnixMillis))
}
