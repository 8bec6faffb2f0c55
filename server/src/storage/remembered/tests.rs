//! What is remembered is what is stored, whatever is written meanwhile.

use super::*;
use crate::storage::contract::directory::directory_contract;
use crate::storage::contract::samples::{device, user};
use crate::storage::memory::directory::MemoryDirectory;

fn remembered(touch_every: Duration) -> (Arc<MemoryDirectory>, RememberedDirectory) {
    let directory = Arc::new(MemoryDirectory::new());
    let below: Arc<dyn Directory> = Arc::clone(&directory) as _;
    (directory, RememberedDirectory::new(below, touch_every))
}

directory_contract!((Arc::new(remembered(Duration::ZERO).1), ()));

/// I11: whoever was deactivated is not remembered as active.
#[tokio::test]
async fn what_is_written_is_not_remembered_as_it_was() {
    let (_below, directory) = remembered(Duration::ZERO);
    let ada = user("ada");
    directory.ensure_user(&ada, UnixMillis(1)).await.expect("made");
    assert!(!directory.users(std::slice::from_ref(&ada)).await.expect("read")[0].deactivated);
    directory
        .set_deactivated(&ada, true, UnixMillis(2))
        .await
        .expect("written");
    assert!(directory.users(std::slice::from_ref(&ada)).await.expect("read")[0].deactivated);
    assert!(
        directory
            .ensure_user(&ada, UnixMillis(2))
            .await
            .expect("read")
            .deactivated
    );
}

/// I11: a read that a write overtook leaves nothing behind.
#[tokio::test]
async fn a_read_older_than_a_write_is_not_remembered() {
    let (below, directory) = remembered(Duration::ZERO);
    let ada = user("ada");
    let old = below.ensure_user(&ada, UnixMillis(1)).await.expect("made");
    let reading = directory.lock().reading();
    directory
        .set_deactivated(&ada, true, UnixMillis(2))
        .await
        .expect("written");
    directory.lock().note_user(&old, reading);
    assert!(directory.users(&[ada]).await.expect("read")[0].deactivated);
}

#[tokio::test]
async fn hellos_close_to_each_other_are_written_once_and_a_removed_device_anew() {
    let (below, directory) = remembered(Duration::from_secs(60));
    let (ada, phone) = (user("ada"), device("phone"));
    directory.ensure_user(&ada, UnixMillis(0)).await.expect("made");
    for at in [1, 60_000, 60_001] {
        directory
            .touch_device(&ada, &phone, UnixMillis(at))
            .await
            .expect("written");
    }
    assert_eq!(
        below.devices(&ada).await.expect("read")[0].last_seen,
        UnixMillis(60_001)
    );
    directory
        .touch_device(&ada, &phone, UnixMillis(60_002))
        .await
        .expect("written");
    assert_eq!(
        below.devices(&ada).await.expect("read")[0].last_seen,
        UnixMillis(60_001)
    );
    directory
        .remove_device(&ada, &phone, UnixMillis(60_003))
        .await
        .expect("written");
    let removed = directory.device_removed_at(&ada, &phone).await.expect("read");
    assert_eq!(removed, Some(UnixMillis(60_003)));
    directory
        .touch_device(&ada, &phone, UnixMillis(60_004))
        .await
        .expect("written");
    assert_eq!(below.devices(&ada).await.expect("read").len(), 1);
}

/// I11: a write whose caller hung up happens all the same, and is not overlooked.
#[tokio::test(start_paused = true)]
async fn a_write_that_nobody_waits_for_is_not_overlooked() {
    let (_below, directory) = remembered(Duration::ZERO);
    let ada = user("ada");
    directory.ensure_user(&ada, UnixMillis(1)).await.expect("made");
    let hung_up = tokio::time::timeout(Duration::ZERO, directory.set_deactivated(&ada, true, UnixMillis(2)));
    assert!(hung_up.await.is_err());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(directory.users(&[ada]).await.expect("read")[0].deactivated);
}

/// I11: what somebody else revoked counts as soon as it is seen.
#[tokio::test]
async fn a_revocation_that_is_read_is_not_overlooked() {
    let (below, directory) = remembered(Duration::ZERO);
    let ada = user("ada");
    directory.ensure_user(&ada, UnixMillis(1)).await.expect("made");
    below.revoke_tokens(&ada, UnixMillis(2)).await.expect("written");
    let seen = directory.revocations(UnixMillis(0), None, 10).await.expect("read");
    assert_eq!(seen.len(), 1);
    let record = directory.ensure_user(&ada, UnixMillis(3)).await.expect("read");
    assert_eq!(record.tokens_revoked, Some(UnixMillis(2)));
}

/// After a write that may still happen nothing is remembered for a while.
#[tokio::test(start_paused = true)]
async fn doubt_ends_memory_for_a_while() {
    let (below, directory) = remembered(Duration::ZERO);
    let ada = user("ada");
    let name = async |name: &str| {
        below.upsert_user(&ada, name, UnixMillis(1)).await.expect("written");
        directory.users(std::slice::from_ref(&ada)).await.expect("read")[0]
            .display_name
            .clone()
    };
    assert_eq!(name("one").await, "one");
    assert_eq!(name("two").await, "one", "it is remembered");
    directory.lock().wrote(&Subject::User(user("bob")), false);
    assert_eq!(name("three").await, "three");
    assert_eq!(name("four").await, "four");
    tokio::time::sleep(Duration::from_secs(121)).await;
    assert_eq!(name("five").await, "five");
    assert_eq!(name("six").await, "five", "it is remembered again");
}
