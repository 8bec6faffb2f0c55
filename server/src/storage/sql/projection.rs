//! Projecting log entries: membership, name, pins.

use sqlx::{AssertSqlSafe, Pool};

use super::db::{Db, begin_write, statement};
use super::error::Failed;
use super::values::{id_lists, id_to_db, placeholders, role_to_db, seq_to_db, value_rows};
use crate::domain::roster::Standing;
use crate::domain::{ConversationId, Seq, UserId};
use crate::storage::{DirectoryError, Projection};

type Result<T> = std::result::Result<T, Failed>;

/// Stays written by one statement, five parameters each.
const SPANS_PER_STATEMENT_MAX: usize = 256;

struct SpanRow<'a> {
    user: &'a UserId,
    joined: i64,
    left: Option<i64>,
    role: i16,
}

pub(super) async fn apply<D: Db>(writer: &Pool<D>, id: ConversationId, projection: &Projection) -> Result<()> {
    let mut transaction = begin_write(writer).await?;
    if advance::<D>(&mut transaction, id, projection).await? {
        replace_standings::<D>(&mut transaction, id, projection).await?;
        for (target, pinned) in &projection.pins {
            set_pin::<D>(&mut transaction, id, *target, *pinned).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

/// Moves `applied` forward; false when it is there already. The row is locked from here to the end of the transaction:
/// projections of one conversation are written one after the other.
async fn advance<D: Db>(connection: &mut D::Connection, id: ConversationId, projection: &Projection) -> Result<bool> {
    let done = statement::<D>(
        "UPDATE conversations SET applied_seq = $2, name = COALESCE($3, name)
         WHERE conversation_id = $1 AND applied_seq < $2",
    )
    .bind(id_to_db(id))
    .bind(seq_to_db(projection.applied)?)
    .bind(projection.name.as_deref())
    .execute(&mut *connection)
    .await?;
    if done == 0 {
        refuse_unknown::<D>(connection, id).await?;
    }
    Ok(done > 0)
}

async fn refuse_unknown<D: Db>(connection: &mut D::Connection, id: ConversationId) -> Result<()> {
    let row: Option<(i64,)> = statement::<D>("SELECT applied_seq FROM conversations WHERE conversation_id = $1")
        .bind(id_to_db(id))
        .fetch_optional(connection)
        .await?;
    Ok(row.map(drop).ok_or_else(|| unknown_conversation(id))?)
}

/// The row comes before the log's first entry and is never deleted: without it the directory is not the one of this log.
pub(super) fn unknown_conversation(id: ConversationId) -> DirectoryError {
    DirectoryError::Unavailable(format!("it has no conversation {id}; nothing was written"))
}

async fn replace_standings<D: Db>(
    connection: &mut D::Connection,
    id: ConversationId,
    projection: &Projection,
) -> Result<()> {
    let users: Vec<&UserId> = projection.standings.keys().collect();
    for list in id_lists(&users) {
        let ids = placeholders(2, list.len());
        let text = format!("DELETE FROM standings WHERE conversation_id = $1 AND user_id IN ({ids})");
        let mut query = statement::<D>(AssertSqlSafe(text)).bind(id_to_db(id));
        for user in list {
            query = query.bind(user.as_str());
        }
        query.execute(&mut *connection).await?;
    }
    let mut rows = Vec::new();
    for (user, standing) in &projection.standings {
        push_rows(&mut rows, user, standing)?;
    }
    for chunk in rows.chunks(SPANS_PER_STATEMENT_MAX) {
        insert_spans::<D>(connection, id, chunk).await?;
    }
    Ok(())
}

fn push_rows<'a>(rows: &mut Vec<SpanRow<'a>>, user: &'a UserId, standing: &Standing) -> Result<()> {
    for span in &standing.spans {
        rows.push(SpanRow {
            user,
            joined: seq_to_db(span.joined)?,
            left: span.left.map(seq_to_db).transpose()?,
            role: role_to_db(standing.role),
        });
    }
    Ok(())
}

async fn insert_spans<D: Db>(connection: &mut D::Connection, id: ConversationId, rows: &[SpanRow<'_>]) -> Result<()> {
    let values = value_rows(1, rows.len(), 5);
    let text = format!("INSERT INTO standings (conversation_id, user_id, joined_seq, left_seq, role) VALUES {values}");
    // Its length varies: not worth a place in the statement cache.
    let mut query = statement::<D>(AssertSqlSafe(text)).once();
    for row in rows {
        query = query
            .bind(id_to_db(id))
            .bind(row.user.as_str())
            .bind(row.joined)
            .bind(row.left)
            .bind(row.role);
    }
    query.execute(connection).await?;
    Ok(())
}

/// A message that is pinned already keeps its place.
async fn set_pin<D: Db>(connection: &mut D::Connection, id: ConversationId, target: Seq, pinned: bool) -> Result<()> {
    let text = if pinned {
        "INSERT INTO pins (conversation_id, target_seq, position)
         SELECT $1, $2, COALESCE(MAX(position), 0) + 1 FROM pins WHERE conversation_id = $1
         ON CONFLICT (conversation_id, target_seq) DO NOTHING"
    } else {
        "DELETE FROM pins WHERE conversation_id = $1 AND target_seq = $2"
    };
    statement::<D>(text)
        .bind(id_to_db(id))
        .bind(seq_to_db(target)?)
        .execute(connection)
        .await?;
    Ok(())
}
