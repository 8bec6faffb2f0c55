//! SQLite: the contract, durability, and what goes wrong with files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::sqlite::migrations;
use super::super::users::{BLOCKED, others_text};
use super::super::views::{SHARES, views_text};
use super::super::{Patience, SqliteDirectory, revocations};
use super::{NOW, text_of, user};
use crate::storage::contract::directory::directory_contract;
use crate::storage::{Directory, DirectoryError};

/// A call may take long on a busy machine; a lock that is not ours is given up at once.
const PATIENT: Patience = Patience {
    busy: Duration::from_millis(50),
    call: Duration::from_secs(60),
};

async fn fresh() -> (Arc<SqliteDirectory>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let directory = open(folder.path()).await.unwrap();
    (Arc::new(directory), folder)
}

async fn open(folder: &Path) -> Result<SqliteDirectory, DirectoryError> {
    SqliteDirectory::open(&folder.join("directory.sqlite"), PATIENT).await
}

mod contract {
    use super::{directory_contract, fresh};

    directory_contract!(fresh().await);
}

async fn pragma(pool: &sqlx::SqlitePool, name: &'static str) -> String {
    let text = sqlx::AssertSqlSafe(format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"));
    sqlx::query_scalar(text).fetch_one(pool).await.unwrap()
}

/// I1 rests on these: a commit is on disk when it returns, and references hold.
#[tokio::test]
async fn commits_are_synced_and_references_checked() {
    let (directory, _folder) = fresh().await;
    assert_eq!(pragma(directory.writer(), "journal_mode").await, "wal");
    assert_eq!(pragma(directory.writer(), "synchronous").await, "2", "FULL");
    assert_eq!(pragma(directory.writer(), "foreign_keys").await, "1");
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let (directory, folder) = fresh().await;
    directory.upsert_user(&user("ann"), "Ann", NOW).await.unwrap();
    // Not closed: as after a kill, the next one reads the WAL.
    let second = open(folder.path()).await.unwrap();
    assert_eq!(second.users(&[user("ann")]).await.unwrap()[0].display_name, "Ann");
    second.close().await;
    directory.close().await;
    let third = open(folder.path()).await.unwrap();
    assert_eq!(third.users(&[user("ann")]).await.unwrap()[0].display_name, "Ann");
}

#[tokio::test]
async fn full_disk_is_unavailable_and_heals() {
    let (directory, _folder) = fresh().await;
    // The engine's own limit of pages: it answers as it does for a full disk.
    let limit = async |pages: &'static str| sqlx::query(pages).execute(directory.writer()).await.unwrap();
    limit("PRAGMA max_page_count = 1").await;
    let name = "n".repeat(1_000_000);
    let refused = text_of(directory.upsert_user(&user("ann"), &name, NOW).await);
    assert!(refused.contains("the disk is full"), "{refused}");
    assert_eq!(directory.users(&[user("ann")]).await.unwrap(), []);
    limit("PRAGMA max_page_count = 1000000").await;
    directory.upsert_user(&user("ann"), &name, NOW).await.unwrap();
}

#[tokio::test]
async fn read_only_database_still_reads() {
    let (directory, _folder) = fresh().await;
    directory.ensure_user(&user("ann"), NOW).await.unwrap();
    sqlx::query("PRAGMA query_only = ON")
        .execute(directory.writer())
        .await
        .unwrap();
    let refused = text_of(directory.ensure_user(&user("bob"), NOW).await);
    assert!(refused.contains("read-only"), "{refused}");
    // Known users can still say hello.
    directory.ensure_user(&user("ann"), NOW).await.unwrap();
}

#[tokio::test]
async fn lock_of_another_process_is_unavailable_and_heals() {
    let (directory, folder) = fresh().await;
    let other = open(folder.path()).await.unwrap();
    let lock = other.writer().begin_with("BEGIN IMMEDIATE").await.unwrap();
    let refused = text_of(directory.ensure_user(&user("ann"), NOW).await);
    assert!(refused.contains("locked by another process"), "{refused}");
    assert_eq!(directory.users(&[user("ann")]).await.unwrap(), []);
    lock.rollback().await.unwrap();
    directory.ensure_user(&user("ann"), NOW).await.unwrap();
}

#[tokio::test]
async fn call_that_takes_too_long_is_unavailable() {
    let (_, folder) = fresh().await;
    let hasty = Patience {
        busy: Duration::from_millis(50),
        call: Duration::from_millis(200),
    };
    let directory = SqliteDirectory::open(&folder.path().join("directory.sqlite"), hasty)
        .await
        .unwrap();
    let held = directory.writer().acquire().await.unwrap();
    let refused = text_of(directory.ensure_user(&user("ann"), NOW).await);
    assert!(refused.contains("in time"), "{refused}");
    drop(held);
    directory.ensure_user(&user("ann"), NOW).await.unwrap();
}

#[tokio::test]
async fn unusable_files_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let missing = text_of(open(&folder.path().join("missing")).await);
    assert!(missing.contains("cannot be opened"), "{missing}");
    std::fs::write(folder.path().join("directory.sqlite"), "no database ".repeat(1_000)).unwrap();
    let garbage = text_of(open(folder.path()).await);
    assert!(garbage.contains("not a database"), "{garbage}");
}

#[tokio::test]
async fn schema_of_a_newer_version_is_refused() {
    let (directory, folder) = fresh().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'future', TRUE, x'00', 0)",
    )
    .execute(directory.writer())
    .await
    .unwrap();
    directory.close().await;
    let refused = text_of(open(folder.path()).await);
    assert!(refused.contains("999"), "{refused}");
}

/// What the first version wrote is read by this one.
#[tokio::test]
async fn a_directory_of_the_first_version_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.path().join("directory.sqlite"))
        .create_if_missing(true);
    let old = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let first = migrations()
        .iter()
        .filter(|migration| migration.version == 1)
        .cloned()
        .collect();
    sqlx::migrate::Migrator::with_migrations(first).run(&old).await.unwrap();
    sqlx::query("INSERT INTO users (user_id, display_name, deactivated, created_ms) VALUES ('ann', 'Ann', TRUE, 1)")
        .execute(&old)
        .await
        .unwrap();
    old.close().await;
    let directory = open(folder.path()).await.unwrap();
    let ann = directory.users(&[user("ann")]).await.unwrap().remove(0);
    assert_eq!((ann.deactivated, ann.tokens_revoked), (true, None));
    let ann = directory.revoke_tokens(&ann.id, NOW).await.unwrap();
    assert_eq!((ann.deactivated, ann.tokens_revoked), (true, Some(NOW)));
}

/// A list's cost follows the ids asked, not what is stored: every step of its plan is a search by key.
#[tokio::test]
async fn no_list_scans_a_table() {
    let (directory, _folder) = fresh().await;
    let texts = [
        views_text(64),
        others_text(64, SHARES),
        others_text(64, BLOCKED),
        revocations::LIST.to_owned(),
    ];
    for statement in texts {
        let text = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(text).fetch_all(directory.readers()).await.unwrap();
        let searches = steps.iter().filter(|(.., step)| step.starts_with("SEARCH")).count();
        assert!(searches >= 2, "{statement}: {steps:?}");
        for (.., step) in steps {
            let of_a_table = step.starts_with("SCAN") && !step.contains("VALUES CLAUSE");
            assert!(!of_a_table, "{step} in {statement}");
        }
    }
}
