//! The directory on each database, and what is the same on all of them.

mod nodes;
mod postgres;
mod schema;
mod sqlite;

use std::sync::atomic::{AtomicU32, Ordering};

use super::error::{Failed, lost_race};
use super::{ATTEMPTS_MAX, attempts};
use crate::domain::{UnixMillis, UserId};
use crate::storage::DirectoryError;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn text_of<T>(result: Result<T, DirectoryError>) -> String {
    match result {
        Err(DirectoryError::Unavailable(text)) => text,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was done"),
    }
}

/// Attempts of a call that fails `failures` times in a way that passes, and what became of it.
async fn attempts_of(failures: u32) -> (u32, Result<(), DirectoryError>) {
    let made = AtomicU32::new(0);
    let result = attempts(|| async {
        let before = made.fetch_add(1, Ordering::Relaxed);
        if before < failures { Err(lost_race()) } else { Ok(()) }
    });
    let result = result.await;
    (made.into_inner(), result)
}

#[tokio::test]
async fn what_passes_is_tried_again_a_few_times() {
    assert!(matches!(attempts_of(0).await, (1, Ok(()))));
    assert!(matches!(attempts_of(2).await, (3, Ok(()))));
    let (made, result) = attempts_of(u32::MAX).await;
    assert_eq!(made, ATTEMPTS_MAX);
    assert!(text_of(result).contains("same moment"));
}

#[tokio::test]
async fn what_was_refused_is_not_tried_again() {
    let made = AtomicU32::new(0);
    let refused = attempts(|| async {
        made.fetch_add(1, Ordering::Relaxed);
        Err::<(), _>(Failed::Refused(DirectoryError::IdReused))
    });
    assert!(matches!(refused.await, Err(DirectoryError::IdReused)));
    assert_eq!(made.into_inner(), 1);
}
