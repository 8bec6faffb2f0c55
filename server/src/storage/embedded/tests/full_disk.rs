//! A full disk, for real (T14): give a file system of 80 to 200 MiB that nobody else uses.
//!
//! `mount -t tmpfs -o size=96m tmpfs DIR; STONECHAT_SMALL_DISK=DIR cargo test -p stonechat-server --lib full_disk -- --ignored`

use std::fs;
use std::path::PathBuf;

use super::open;
use crate::domain::{Body, MarkerSet, Seq};
use crate::storage::contract::samples::{append, conversation, everything, message, text, user, wish};
use crate::storage::{AppendError, MarkerRaise, Markers};

/// I1, I8: what is refused was certainly not done, what was acknowledged is there, and with room it goes on.
#[tokio::test]
#[ignore = "needs a small file system in STONECHAT_SMALL_DISK"]
async fn a_full_disk_refuses_and_loses_nothing() {
    let disk = PathBuf::from(std::env::var("STONECHAT_SMALL_DISK").expect("STONECHAT_SMALL_DISK names a folder"));
    let (data, here) = (disk.join("data"), conversation(1));
    let store = open(&data);
    let mut acknowledged = 0_u64;
    let refused = loop {
        let big = wish(&acknowledged.to_string(), Body::Message(text(&"f".repeat(16 * 1024))));
        match append(&store, here, &[big]).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        // Fills the disk from outside, too.
        fs::write(disk.join(format!("ballast{acknowledged}")), vec![1; 256 * 1024]).expect("the store stops first");
    };
    assert!(matches!(refused, AppendError::NotDone(_)), "{refused}");
    assert!(acknowledged > 0, "the disk was too small from the start");
    let raise = MarkerRaise {
        user: user("ada"),
        conversation: here,
        markers: MarkerSet {
            delivered: Seq(1),
            ..MarkerSet::default()
        },
        device: None,
    };
    store.raise(vec![raise]).await.expect_err("no room");
    assert_eq!(everything(&store, here).await.len() as u64, acknowledged);
    drop(store);

    let store = open(&data);
    assert_eq!(everything(&store, here).await.len() as u64, acknowledged);
    // Opening gave back some room that the engine had reserved.
    fs::write(disk.join("ballast0"), vec![1; 2 * 1024 * 1024]).expect("room is left for others");
    let refused = append(&store, here, &[message("later")]).await;
    assert!(matches!(refused, Err(AppendError::NotDone(_))), "{refused:?}");
    for number in 0..=acknowledged {
        fs::remove_file(disk.join(format!("ballast{number}"))).expect("removed");
    }
    append(&store, here, &[message("later")]).await.expect("room again");
    drop(store);
    assert_eq!(everything(&open(&data), here).await.len() as u64, acknowledged + 1);
}
