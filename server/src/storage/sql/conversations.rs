//! Creating, finding and reading conversations.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Pool;

use super::db::{Db, begin_read, begin_write, row, statement};
use super::error::{Failed, damaged, lost_race};
use super::users;
use super::values::{
    id_from_db, id_to_db, kind_from_db, kind_to_db, limit_to_db, members_from_db, members_to_db, optional_seq_from_db,
    role_from_db, seq_from_db, user_from_db,
};
use crate::domain::roster::Standing;
use crate::domain::{ClientMsgId, ConversationId, DeviceId, Kind, Roster, Sender, Seq, Span, UnixMillis, UserId};
use crate::storage::{ConversationRecord, DirectoryError, NewConversation};

type Result<T> = std::result::Result<T, Failed>;

/// Whoever comes between looking and writing makes the write insert nothing; the next attempt then finds what that one
/// wrote.
pub(super) async fn create<D: Db>(writer: &Pool<D>, new: &NewConversation) -> Result<ConversationRecord> {
    if new.kind == Kind::Direct && new.pair().is_none() {
        let text = "a 1:1 needs two members; nothing was written";
        return Err(DirectoryError::Unavailable(text.to_owned()).into());
    }
    let mut transaction = begin_write(writer).await?;
    let decided = decide::<D>(&mut transaction, new).await?;
    transaction.commit().await?;
    // Only now: a transaction that writes does not read as of one moment.
    match decided {
        Decided::Before(id) => same_as_asked(existing(writer, id).await?, new),
        Decided::Now(id) => existing(writer, id).await,
    }
}

/// Which conversation a request stands for.
enum Decided {
    /// Was written with the request when it came before.
    Before(ConversationId),
    /// Is written with the request now.
    Now(ConversationId),
}

async fn decide<D: Db>(connection: &mut D::Connection, new: &NewConversation) -> Result<Decided> {
    if let Some(id) = find_request::<D>(connection, &new.creator, &new.client_msg_id).await? {
        return Ok(Decided::Before(id));
    }
    refuse_unknown_members::<D>(connection, new).await?;
    let known = match new.pair() {
        Some((low, high)) => find_pair::<D>(connection, low, high).await?,
        None => None,
    };
    let id = match known {
        Some(id) => id,
        None => {
            insert::<D>(connection, new).await?;
            new.id
        }
    };
    insert_request::<D>(connection, new, id).await?;
    Ok(Decided::Now(id))
}

fn same_as_asked(record: ConversationRecord, new: &NewConversation) -> Result<ConversationRecord> {
    if record.first.asks_same_as(new) {
        Ok(record)
    } else {
        Err(DirectoryError::IdReused.into())
    }
}

async fn existing<D: Db>(writer: &Pool<D>, id: ConversationId) -> Result<ConversationRecord> {
    let record = read(writer, id).await?;
    record.ok_or_else(|| damaged("reference to a conversation"))
}

fn creator_user(sender: &Sender) -> &str {
    sender.user.as_ref().map_or("", UserId::as_str)
}

fn creator_device(sender: &Sender) -> &str {
    sender.device.as_ref().map_or("", DeviceId::as_str)
}

pub(super) async fn requested<D: Db>(
    readers: &Pool<D>,
    creator: &Sender,
    id: &ClientMsgId,
) -> Result<Option<ConversationId>> {
    let mut connection = readers.acquire().await?;
    find_request::<D>(&mut connection, creator, id).await
}

pub(super) async fn direct<D: Db>(readers: &Pool<D>, one: &UserId, other: &UserId) -> Result<Option<ConversationId>> {
    let mut connection = readers.acquire().await?;
    find_pair::<D>(&mut connection, one.min(other), one.max(other)).await
}

async fn find_request<D: Db>(
    connection: &mut D::Connection,
    creator: &Sender,
    id: &ClientMsgId,
) -> Result<Option<ConversationId>> {
    let row: Option<(Vec<u8>,)> = statement::<D>(
        "SELECT conversation_id FROM conversation_requests
         WHERE creator_user = $1 AND creator_device = $2 AND client_msg_id = $3",
    )
    .bind(creator_user(creator))
    .bind(creator_device(creator))
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(|(id,)| id_from_db(&id)).transpose()
}

/// The lower id first.
async fn find_pair<D: Db>(
    connection: &mut D::Connection,
    low: &UserId,
    high: &UserId,
) -> Result<Option<ConversationId>> {
    let row: Option<(Vec<u8>,)> =
        statement::<D>("SELECT conversation_id FROM conversations WHERE direct_low = $1 AND direct_high = $2")
            .bind(low.as_str())
            .bind(high.as_str())
            .fetch_optional(connection)
            .await?;
    row.map(|(id,)| id_from_db(&id)).transpose()
}

async fn refuse_unknown_members<D: Db>(connection: &mut D::Connection, new: &NewConversation) -> Result<()> {
    let wanted: Vec<UserId> = new.members.iter().map(|member| member.user.clone()).collect();
    let known = users::by_id_in::<D>(connection, &wanted).await?;
    let known: BTreeSet<&UserId> = known.iter().map(|user| &user.id).collect();
    match wanted.iter().find(|user| !known.contains(user)) {
        Some(unknown) => Err(DirectoryError::NoSuchUser(unknown.clone()).into()),
        None => Ok(()),
    }
}

async fn insert<D: Db>(connection: &mut D::Connection, new: &NewConversation) -> Result<()> {
    let pair = new.pair();
    let inserted = statement::<D>(
        "INSERT INTO conversations (conversation_id, kind, direct_low, direct_high, first_name, first_members,
                                    creator_user, creator_device, client_msg_id, correlation_id, created_ms, name,
                                    applied_seq)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $5, 0)
         ON CONFLICT DO NOTHING",
    )
    .bind(id_to_db(new.id))
    .bind(kind_to_db(new.kind))
    .bind(pair.map(|(low, _)| low.as_str()))
    .bind(pair.map(|(_, high)| high.as_str()))
    .bind(new.name.as_str())
    .bind(members_to_db(&new.members))
    .bind(creator_user(&new.creator))
    .bind(creator_device(&new.creator))
    .bind(new.client_msg_id.as_str())
    .bind(new.correlation.to_string())
    .bind(new.created.0)
    .execute(connection)
    .await?;
    if inserted == 0 { Err(lost_race()) } else { Ok(()) }
}

async fn insert_request<D: Db>(
    connection: &mut D::Connection,
    new: &NewConversation,
    id: ConversationId,
) -> Result<()> {
    let inserted = statement::<D>(
        "INSERT INTO conversation_requests (creator_user, creator_device, client_msg_id, conversation_id)
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(creator_user(&new.creator))
    .bind(creator_device(&new.creator))
    .bind(new.client_msg_id.as_str())
    .bind(id_to_db(id))
    .execute(connection)
    .await?;
    if inserted == 0 { Err(lost_race()) } else { Ok(()) }
}

/// All parts in one transaction, so that roster and pins are those of `applied`.
pub(super) async fn read<D: Db>(readers: &Pool<D>, id: ConversationId) -> Result<Option<ConversationRecord>> {
    let mut snapshot = begin_read(readers).await?;
    let record = read_in::<D>(&mut snapshot, id).await?;
    snapshot.rollback().await?;
    Ok(record)
}

async fn read_in<D: Db>(connection: &mut D::Connection, id: ConversationId) -> Result<Option<ConversationRecord>> {
    let Some(row) = read_row::<D>(connection, id).await? else {
        return Ok(None);
    };
    Ok(Some(ConversationRecord {
        first: first_from_row(id, &row)?,
        name: row.name,
        applied: seq_from_db(row.applied_seq)?,
        roster: read_roster::<D>(connection, id).await?,
        pins: read_pins::<D>(connection, id).await?,
    }))
}

row! {
    /// The conversation's own row.
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
}

async fn read_row<D: Db>(connection: &mut D::Connection, id: ConversationId) -> Result<Option<ConversationRow>> {
    let query = statement::<D>(
        "SELECT kind, first_name, first_members, creator_user, creator_device, client_msg_id, correlation_id,
                created_ms, name, applied_seq
         FROM conversations WHERE conversation_id = $1",
    );
    Ok(query.bind(id_to_db(id)).fetch_optional(connection).await?)
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

async fn read_roster<D: Db>(connection: &mut D::Connection, id: ConversationId) -> Result<Roster> {
    let rows: Vec<(String, i64, Option<i64>, i16)> = statement::<D>(
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

async fn read_pins<D: Db>(connection: &mut D::Connection, id: ConversationId) -> Result<Vec<Seq>> {
    let rows: Vec<(i64,)> = statement::<D>("SELECT target_seq FROM pins WHERE conversation_id = $1 ORDER BY position")
        .bind(id_to_db(id))
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(|(seq,)| seq_from_db(seq)).collect()
}

pub(super) async fn list<D: Db>(
    readers: &Pool<D>,
    after: Option<ConversationId>,
    limit: usize,
) -> Result<Vec<ConversationId>> {
    // The empty byte string sorts before every id.
    let rows: Vec<(Vec<u8>,)> = statement::<D>(
        "SELECT conversation_id FROM conversations WHERE conversation_id > $1 ORDER BY conversation_id LIMIT $2",
    )
    .bind(after.map(id_to_db).unwrap_or_default())
    .bind(limit_to_db(limit))
    .fetch_all(readers)
    .await?;
    rows.iter().map(|(id,)| id_from_db(id)).collect()
}
