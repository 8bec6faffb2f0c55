//! Creating, finding and reading conversations.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{FromRow, Row};

use super::error::damaged;
use super::open::begin_write;
use super::sql::{
    id_from_db, id_to_db, kind_from_db, kind_to_db, limit_to_db, members_from_db, members_to_db, optional_seq_from_db,
    role_from_db, seq_from_db, user_from_db,
};
use super::users;
use crate::domain::roster::Standing;
use crate::domain::{ClientMsgId, ConversationId, DeviceId, Kind, Roster, Sender, Seq, Span, UnixMillis, UserId};
use crate::storage::{ConversationRecord, DirectoryError, NewConversation};

type Result<T> = std::result::Result<T, DirectoryError>;

/// One transaction that holds the write lock: between looking and writing nobody else creates.
pub(super) async fn create(writer: &SqlitePool, new: NewConversation) -> Result<ConversationRecord> {
    if new.kind == Kind::Direct && new.pair().is_none() {
        return Err(DirectoryError::Unavailable(
            "a 1:1 needs two members; nothing was written".to_owned(),
        ));
    }
    let mut transaction = begin_write(writer).await?;
    let record = create_in(&mut transaction, &new).await?;
    transaction.commit().await?;
    Ok(record)
}

async fn create_in(connection: &mut SqliteConnection, new: &NewConversation) -> Result<ConversationRecord> {
    if let Some(id) = find_request(connection, new).await? {
        return same_as_asked(existing(connection, id).await?, new);
    }
    refuse_unknown_members(connection, new).await?;
    let id = match find_pair(connection, new).await? {
        Some(id) => id,
        None => {
            insert(connection, new).await?;
            new.id
        }
    };
    insert_request(connection, new, id).await?;
    existing(connection, id).await
}

fn same_as_asked(record: ConversationRecord, new: &NewConversation) -> Result<ConversationRecord> {
    if record.first.asks_same_as(new) {
        Ok(record)
    } else {
        Err(DirectoryError::IdReused)
    }
}

async fn existing(connection: &mut SqliteConnection, id: ConversationId) -> Result<ConversationRecord> {
    let record = read_in(connection, id).await?;
    record.ok_or_else(|| damaged("reference to a conversation"))
}

fn creator_user(sender: &Sender) -> &str {
    sender.user.as_ref().map_or("", UserId::as_str)
}

fn creator_device(sender: &Sender) -> &str {
    sender.device.as_ref().map_or("", DeviceId::as_str)
}

async fn find_request(connection: &mut SqliteConnection, new: &NewConversation) -> Result<Option<ConversationId>> {
    let row: Option<(Vec<u8>,)> = sqlx::query_as(
        "SELECT conversation_id FROM conversation_requests
         WHERE creator_user = $1 AND creator_device = $2 AND client_msg_id = $3",
    )
    .bind(creator_user(&new.creator))
    .bind(creator_device(&new.creator))
    .bind(new.client_msg_id.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(|(id,)| id_from_db(&id)).transpose()
}

async fn find_pair(connection: &mut SqliteConnection, new: &NewConversation) -> Result<Option<ConversationId>> {
    let Some((low, high)) = new.pair() else {
        return Ok(None);
    };
    let row: Option<(Vec<u8>,)> =
        sqlx::query_as("SELECT conversation_id FROM conversations WHERE direct_low = $1 AND direct_high = $2")
            .bind(low.as_str())
            .bind(high.as_str())
            .fetch_optional(connection)
            .await?;
    row.map(|(id,)| id_from_db(&id)).transpose()
}

async fn refuse_unknown_members(connection: &mut SqliteConnection, new: &NewConversation) -> Result<()> {
    let wanted: Vec<UserId> = new.members.iter().map(|member| member.user.clone()).collect();
    let known = users::by_id_in(connection, &wanted).await?;
    let known: BTreeSet<&UserId> = known.iter().map(|user| &user.id).collect();
    match wanted.iter().find(|user| !known.contains(user)) {
        Some(unknown) => Err(DirectoryError::NoSuchUser(unknown.clone())),
        None => Ok(()),
    }
}

async fn insert(connection: &mut SqliteConnection, new: &NewConversation) -> Result<()> {
    let pair = new.pair();
    sqlx::query(
        "INSERT INTO conversations (conversation_id, kind, direct_low, direct_high, first_name, first_members,
                                    creator_user, creator_device, client_msg_id, correlation_id, created_ms, name,
                                    applied_seq)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $5, 0)",
    )
    .bind(id_to_db(new.id))
    .bind(kind_to_db(new.kind))
    .bind(pair.map(|(low, _)| low.as_str()))
    .bind(pair.map(|(_, high)| high.as_str()))
    .bind(&new.name)
    .bind(members_to_db(&new.members))
    .bind(creator_user(&new.creator))
    .bind(creator_device(&new.creator))
    .bind(new.client_msg_id.as_str())
    .bind(new.correlation.to_string())
    .bind(new.created.0)
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_request(connection: &mut SqliteConnection, new: &NewConversation, id: ConversationId) -> Result<()> {
    sqlx::query(
        "INSERT INTO conversation_requests (creator_user, creator_device, client_msg_id, conversation_id)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(creator_user(&new.creator))
    .bind(creator_device(&new.creator))
    .bind(new.client_msg_id.as_str())
    .bind(id_to_db(id))
    .execute(connection)
    .await?;
    Ok(())
}

/// All parts in one transaction, so that roster and pins are those of `applied`.
pub(super) async fn read(readers: &SqlitePool, id: ConversationId) -> Result<Option<ConversationRecord>> {
    let mut snapshot = readers.begin().await?;
    let record = read_in(&mut snapshot, id).await?;
    snapshot.rollback().await?;
    Ok(record)
}

async fn read_in(connection: &mut SqliteConnection, id: ConversationId) -> Result<Option<ConversationRecord>> {
    let Some(row) = read_row(connection, id).await? else {
        return Ok(None);
    };
    Ok(Some(ConversationRecord {
        first: first_from_row(id, &row)?,
        name: row.name,
        applied: seq_from_db(row.applied_seq)?,
        roster: read_roster(connection, id).await?,
        pins: read_pins(connection, id).await?,
    }))
}

struct ConversationRow {
    kind: i16,
    first_name: String,
    first_members: String,
    creator_user: String,
    creator_device: String,
    client_msg_id: String,
    correlation_id: String,
    created_ms: i64,
    name: String,
    applied_seq: i64,
}

impl FromRow<'_, SqliteRow> for ConversationRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            kind: row.try_get("kind")?,
            first_name: row.try_get("first_name")?,
            first_members: row.try_get("first_members")?,
            creator_user: row.try_get("creator_user")?,
            creator_device: row.try_get("creator_device")?,
            client_msg_id: row.try_get("client_msg_id")?,
            correlation_id: row.try_get("correlation_id")?,
            created_ms: row.try_get("created_ms")?,
            name: row.try_get("name")?,
            applied_seq: row.try_get("applied_seq")?,
        })
    }
}

async fn read_row(connection: &mut SqliteConnection, id: ConversationId) -> Result<Option<ConversationRow>> {
    let row = sqlx::query_as(
        "SELECT kind, first_name, first_members, creator_user, creator_device, client_msg_id, correlation_id,
                created_ms, name, applied_seq
         FROM conversations WHERE conversation_id = $1",
    );
    Ok(row.bind(id_to_db(id)).fetch_optional(connection).await?)
}

fn first_from_row(id: ConversationId, row: &ConversationRow) -> Result<NewConversation> {
    Ok(NewConversation {
        id,
        kind: kind_from_db(row.kind)?,
        name: row.first_name.clone(),
        creator: sender_from_row(row)?,
        client_msg_id: ClientMsgId::parse(&row.client_msg_id).map_err(|_| damaged("request id"))?,
        correlation: row.correlation_id.parse().map_err(|_| damaged("correlation id"))?,
        members: members_from_db(&row.first_members)?,
        created: UnixMillis(row.created_ms),
    })
}

fn sender_from_row(row: &ConversationRow) -> Result<Sender> {
    let user = Some(row.creator_user.as_str()).filter(|text| !text.is_empty());
    let device = Some(row.creator_device.as_str()).filter(|text| !text.is_empty());
    Ok(Sender {
        user: user.map(user_from_db).transpose()?,
        device: device
            .map(DeviceId::parse)
            .transpose()
            .map_err(|_| damaged("device id"))?,
    })
}

async fn read_roster(connection: &mut SqliteConnection, id: ConversationId) -> Result<Roster> {
    let rows: Vec<(String, i64, Option<i64>, i16)> = sqlx::query_as(
        "SELECT user_id, joined_seq, left_seq, role FROM standings WHERE conversation_id = $1
         ORDER BY user_id, joined_seq",
    )
    .bind(id_to_db(id))
    .fetch_all(connection)
    .await?;
    let mut standings: BTreeMap<UserId, Standing> = BTreeMap::new();
    for (user, joined, left, role) in rows {
        let role = role_from_db(role)?;
        let spans = Vec::new();
        let standing = standings
            .entry(user_from_db(&user)?)
            .or_insert(Standing { role, spans });
        standing.spans.push(span(joined, left)?);
    }
    Ok(Roster::from_standings(standings))
}

pub(super) fn span(joined: i64, left: Option<i64>) -> Result<Span> {
    Ok(Span {
        joined: seq_from_db(joined)?,
        left: optional_seq_from_db(left)?,
    })
}

async fn read_pins(connection: &mut SqliteConnection, id: ConversationId) -> Result<Vec<Seq>> {
    let rows: Vec<(i64,)> = sqlx::query_as("SELECT target_seq FROM pins WHERE conversation_id = $1 ORDER BY position")
        .bind(id_to_db(id))
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(|(seq,)| seq_from_db(seq)).collect()
}

pub(super) async fn list(
    readers: &SqlitePool,
    after: Option<ConversationId>,
    limit: usize,
) -> Result<Vec<ConversationId>> {
    // The empty byte string sorts before every id.
    let rows: Vec<(Vec<u8>,)> = sqlx::query_as(
        "SELECT conversation_id FROM conversations WHERE conversation_id > $1 ORDER BY conversation_id LIMIT $2",
    )
    .bind(after.map(id_to_db).unwrap_or_default())
    .bind(limit_to_db(limit))
    .fetch_all(readers)
    .await?;
    rows.iter().map(|(id,)| id_from_db(id)).collect()
}
