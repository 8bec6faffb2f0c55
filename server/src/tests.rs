//! What tests of several modules share.

use std::time::Duration;

/// Waits until something holds that nothing announces; fails when that takes longer than `patience`.
pub(crate) async fn comes_true(what: &str, patience: Duration, mut holds: impl AsyncFnMut() -> bool) {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    assert!(tokio::time::timeout(patience, waiting).await.is_ok(), "never: {what}");
}
