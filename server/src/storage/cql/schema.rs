//! The keyspace and its tables, and which version of them this is.

use scylla::value::{CqlValue, Row};
use stonechat_host::Host;
use tracing::info;

use super::client::Client;
use super::rows::{blob, text};
use super::{CqlError, CqlOptions, fitness};
use crate::storage::turns::Turns;

/// Version of the tables below. A keyspace of a higher one belongs to a newer release.
pub(super) const VERSION: u64 = 2;

/// Statements that lead from version `n` to `n + 1`, each of which may be repeated.
const MIGRATIONS: [&[&str]; 2] = [
    &[
        // Rows by kind: entries, ids, newest ids, edits, marks. Statics: the head of the bucket. Nothing in it ever expires,
        // or a conversation would start again at 1 (D8).
        "CREATE TABLE IF NOT EXISTS log (conversation blob, bucket bigint, kind tinyint, seq bigint, key blob, \
     head bigint static, ordinal bigint static, epoch bigint static, time bigint static, floor bigint static, \
     append_id blob static, written_by blob, wire blob, payload blob, place bigint, state tinyint, \
     PRIMARY KEY ((conversation, bucket), kind, seq, key)) \
     WITH default_time_to_live = 0",
        "CREATE TABLE IF NOT EXISTS hints (conversation blob PRIMARY KEY, bucket bigint)",
        "CREATE TABLE IF NOT EXISTS pending (shard tinyint, conversation blob, from_seq bigint, owner blob, written bigint, \
     PRIMARY KEY (shard, conversation, from_seq, owner))",
        "CREATE TABLE IF NOT EXISTS markers (user text, device text, conversation blob, \
     delivered bigint, read bigint, read_ordinal bigint, read_public bigint, floor bigint, floor_ordinal bigint, \
     position bigint, synced bigint, PRIMARY KEY (user, device, conversation)) WITH default_time_to_live = 0",
        "CREATE TABLE IF NOT EXISTS inbox (user text, conversation blob, head bigint, ordinal bigint, time bigint, \
     change bigint, PRIMARY KEY (user, conversation)) WITH default_time_to_live = 0",
    ],
    // Marks by process and round, where a queue of rows was (`pending`), whose deletes its readers had to pass over. Nodes of schema 1
    // that still run go on to use that.
    &[
        "CREATE TABLE IF NOT EXISTS marks (writer blob, round bigint, conversation blob, from_seq bigint, \
     PRIMARY KEY ((writer, round), conversation, from_seq)) WITH default_time_to_live = 0",
        "CREATE TABLE IF NOT EXISTS writers (shard tinyint, writer blob, oldest bigint, newest bigint, version bigint, \
     PRIMARY KEY (shard, writer)) WITH default_time_to_live = 0",
    ],
];

const META: &str = "CREATE TABLE IF NOT EXISTS meta (name text PRIMARY KEY, value blob)";
/// For the proof at start: shaped as the log, but nothing of it counts.
const PROBE: &str = "CREATE TABLE IF NOT EXISTS probe (id blob, row tinyint, head bigint static, value blob, \
                     PRIMARY KEY (id, row))";

/// Makes what is missing, and refuses what a newer release made and what will not do. Servers that make one table twice at a
/// moment may part over it (CASSANDRA-10699), so nodes take turns, where somebody gives them; with nothing to make nobody waits.
pub(super) async fn prepare(client: &Client, options: &CqlOptions, turns: Option<&dyn Turns>) -> Result<(), CqlError> {
    check_names(options)?;
    fitness::check(client, options).await?;
    // What cannot be looked at may be half made at this moment, by another node: it is looked at again in turn.
    if matches!(version(client, options).await, Ok(Some(VERSION))) {
        return Ok(());
    }
    let _turn = match turns {
        None => None,
        Some(turns) => {
            let turn = turns.take(&format!("schema of keyspace {}", options.keyspace)).await;
            Some(turn.map_err(|error| CqlError::Turn(error.to_string()))?)
        }
    };
    make(client, options).await?;
    // Another node may have made it meanwhile, by settings of its own.
    fitness::check(client, options).await
}

async fn make(client: &Client, options: &CqlOptions) -> Result<(), CqlError> {
    if !keyspace_exists(client, &options.keyspace).await? {
        make_keyspace(client, options).await?;
    }
    client.use_keyspace(&options.keyspace).await?;
    let existing = tables(client, &options.keyspace).await?;
    for (name, statement) in [("meta", META), ("probe", PROBE)] {
        if !existing.iter().any(|table| table == name) {
            client.define(statement).await?;
        }
    }
    migrate(client).await
}

/// Names go into statements as text: what could end a literal is refused.
pub(super) fn check_names(options: &CqlOptions) -> Result<(), CqlError> {
    let plain = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !name.is_empty() && name.len() <= 48 && name.bytes().all(allowed)
    };
    let keyspace = plain(&options.keyspace) && !options.keyspace.contains('-');
    if !keyspace || !options.datacenter.as_deref().is_none_or(plain) {
        let why = "names of keyspace and data centre are 1 to 48 characters of [A-Za-z0-9_], the latter also with -";
        return Err(CqlError::Unfit(why.to_owned()));
    }
    if options.bucket_seqs < super::super::rules::BATCH_ENTRIES_MAX as u64 {
        return Err(CqlError::Unfit("a bucket must hold a whole batch".to_owned()));
    }
    Ok(())
}

async fn keyspace_exists(client: &Client, keyspace: &str) -> Result<bool, CqlError> {
    let ask = format!("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'");
    Ok(!client.ask(&ask).await?.is_empty())
}

async fn tables(client: &Client, keyspace: &str) -> Result<Vec<String>, CqlError> {
    let ask = format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'");
    let rows = client.ask(&ask).await?;
    Ok(rows.iter().filter_map(|row| text_of(row, 0)).collect())
}

pub(super) fn text_of(row: &Row, column: usize) -> Option<String> {
    match row.columns.get(column)? {
        Some(CqlValue::Text(text) | CqlValue::Ascii(text)) => Some(text.clone()),
        _ => None,
    }
}

async fn make_keyspace(client: &Client, options: &CqlOptions) -> Result<(), CqlError> {
    let local = client.ask("SELECT data_center FROM system.local").await?;
    let found = local.first().and_then(|row| text_of(row, 0));
    let datacenter = options.datacenter.clone().or(found).unwrap_or_default();
    // Conditional statements with tablets hold only on the newest servers (D4); Cassandra does not know the option.
    let tablets = if is_scylla(client).await? {
        " AND tablets = {'enabled': false}"
    } else {
        ""
    };
    let (keyspace, copies) = (&options.keyspace, options.replication);
    info!(keyspace, datacenter, copies, "making the keyspace");
    client
        .define(&format!(
            "CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = \
             {{'class': 'NetworkTopologyStrategy', '{datacenter}': {copies}}} AND durable_writes = true{tablets}"
        ))
        .await
}

pub(super) async fn is_scylla(client: &Client) -> Result<bool, CqlError> {
    Ok(tables(client, "system")
        .await?
        .iter()
        .any(|table| table == "scylla_local"))
}

/// Which version of the tables is there; `None` without a keyspace, or without ours in it. It is used afterwards where it is there.
pub(super) async fn version(client: &Client, options: &CqlOptions) -> Result<Option<u64>, CqlError> {
    if !keyspace_exists(client, &options.keyspace).await? {
        return Ok(None);
    }
    client.use_keyspace(&options.keyspace).await?;
    let existing = tables(client, &options.keyspace).await?;
    let has = |name: &str| existing.iter().any(|table| table == name);
    if !has("meta") || !has("probe") {
        return Ok(None);
    }
    meta_number(client, "schema").await
}

/// Why a table may not be read, of the first that may not: each is asked for a row, whichever it has.
pub(super) async fn cannot_read(client: &Client, options: &CqlOptions) -> Result<Option<String>, CqlError> {
    for table in tables(client, &options.keyspace).await? {
        match client.ask(&format!("SELECT * FROM \"{table}\" LIMIT 1")).await {
            Err(CqlError::Right(why)) => return Ok(Some(why)),
            answered => answered?,
        };
    }
    Ok(None)
}

/// Why tables may not be made, when they may not. Servers look at the right before they look whether there is anything to do,
/// and here there is nothing.
pub(super) async fn cannot_define(client: &Client) -> Option<String> {
    client.define(META).await.err().map(|error| error.to_string())
}

async fn migrate(client: &Client) -> Result<(), CqlError> {
    let version = meta_number(client, "schema").await?.unwrap_or(0);
    if version > VERSION {
        let why = format!("the keyspace has schema {version}; this release knows up to {VERSION}");
        return Err(CqlError::Unfit(why));
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    for statements in MIGRATIONS.iter().skip(done) {
        for statement in *statements {
            client.define(statement).await?;
        }
    }
    if version < VERSION {
        let set = client.prepare("UPDATE meta SET value = ? WHERE name = ?").await?;
        let value = blob(&VERSION.to_be_bytes());
        client.write(&set, vec![value, text("schema")]).await?;
    }
    Ok(())
}

async fn meta_number(client: &Client, name: &str) -> Result<Option<u64>, CqlError> {
    let get = client.prepare("SELECT value FROM meta WHERE name = ?").await?;
    let row: Option<(Vec<u8>,)> = client.row(&get, vec![text(name)]).await?;
    let number = row.map(|(bytes,)| bytes.try_into().map(u64::from_be_bytes));
    number
        .transpose()
        .map_err(|_| CqlError::Damaged(format!("{name} of the keyspace is no number")))
}

/// The random id of the keyspace, made by whoever comes first, and the size of its buckets, which must never change.
pub(super) async fn identity(client: &Client, options: &CqlOptions, host: &Host) -> Result<[u8; 16], CqlError> {
    let buckets = once(client, "bucket-seqs", &options.bucket_seqs.to_be_bytes()).await?;
    if buckets != options.bucket_seqs.to_be_bytes() {
        return Err(CqlError::Unfit("the keyspace has buckets of another size".to_owned()));
    }
    let id = once(client, "store-id", &host.random.bytes16()).await?;
    let id: Result<[u8; 16], _> = id.try_into();
    id.map_err(|_| CqlError::Damaged("the store's id is not one".to_owned()))
}

/// What is stored under a name, `value` if nothing was; all who ask get the same.
async fn once(client: &Client, name: &str, value: &[u8]) -> Result<Vec<u8>, CqlError> {
    let get = Client::serial(&client.prepare("SELECT value FROM meta WHERE name = ?").await?);
    if let Some((stored,)) = client.row::<(Vec<u8>,)>(&get, vec![text(name)]).await? {
        return Ok(stored);
    }
    let set = client
        .prepare("INSERT INTO meta (name, value) VALUES (?, ?) IF NOT EXISTS")
        .await?;
    client.decide(vec![(&set, vec![text(name), blob(value)])]).await?;
    let stored: Option<(Vec<u8>,)> = client.row(&get, vec![text(name)]).await?;
    let stored = stored.ok_or_else(|| CqlError::Damaged(format!("{name} was stored and is not there")))?;
    Ok(stored.0)
}
