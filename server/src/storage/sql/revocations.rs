//! Tokens that stopped working before they expired.

use sqlx::Pool;

use super::db::{Db, statement};
use super::error::{Failed, damaged};
use super::users::record;
use super::values::{limit_to_db, user_from_db};
use crate::domain::{DeviceId, UnixMillis, UserId};
use crate::storage::{DirectoryError, Revocation, UserRecord};

type Result<T> = std::result::Result<T, Failed>;

/// What was revoked after a place in the order of time, user and device. An absent user or device is the empty text, which
/// sorts before every id.
pub(super) const LIST: &str = "SELECT tokens_revoked_ms AS at_ms, user_id, '' AS device_id FROM users
     WHERE tokens_revoked_ms >= $1 AND (tokens_revoked_ms, user_id, '') > ($1, $2, $3)
     UNION ALL
     SELECT removed_ms, user_id, device_id FROM devices
     WHERE removed_ms >= $1 AND (removed_ms, user_id, device_id) > ($1, $2, $3)
     ORDER BY 1, 2, 3 LIMIT $4";

/// The time only goes forward, so that a clock that jumped back revives no token.
pub(super) async fn revoke<D: Db>(writer: &Pool<D>, id: &UserId, now: UnixMillis) -> Result<UserRecord> {
    let row = statement::<D>(
        "UPDATE users SET tokens_revoked_ms =
             CASE WHEN tokens_revoked_ms > $2 THEN tokens_revoked_ms ELSE $2 END
         WHERE user_id = $1
         RETURNING user_id, display_name, deactivated, tokens_revoked_ms",
    )
    .bind(id.as_str())
    .bind(now.0)
    .fetch_optional(writer)
    .await?;
    record(row.ok_or_else(|| DirectoryError::NoSuchUser(id.clone()))?)
}

pub(super) async fn list<D: Db>(
    readers: &Pool<D>,
    since: UnixMillis,
    after: Option<&Revocation>,
    limit: usize,
) -> Result<Vec<Revocation>> {
    let rows: Vec<(i64, String, String)> = statement::<D>(LIST)
        .bind(after.map_or(since, |after| after.at).0)
        .bind(after.map_or("", |after| after.user.as_str()))
        .bind(
            after
                .and_then(|after| after.device.as_ref())
                .map_or("", DeviceId::as_str),
        )
        .bind(limit_to_db(limit))
        .fetch_all(readers)
        .await?;
    rows.into_iter().map(revocation).collect()
}

fn revocation((at, user, device): (i64, String, String)) -> Result<Revocation> {
    let device = (!device.is_empty()).then(|| DeviceId::parse(&device));
    Ok(Revocation {
        at: UnixMillis(at),
        user: user_from_db(&user)?,
        device: device.transpose().map_err(|_| damaged("device id"))?,
    })
}
