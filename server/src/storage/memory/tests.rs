//! The contract suites against the store in memory, and its own proof of damage.

use std::sync::Arc;

use stonechat_host::Host;

use super::MemoryStore;
use crate::domain::Seq;
use crate::storage::contract::samples::{WIDE, append, conversation, message};
use crate::storage::{AppendError, Markers, MessageLog, ReadError};

crate::message_log_contract!(log, || async {
    (Arc::new(MemoryStore::new(&Host::system())) as Arc<dyn MessageLog>, ())
});
crate::markers_contract!(markers, || async {
    (Arc::new(MemoryStore::new(&Host::system())) as Arc<dyn Markers>, ())
});

#[tokio::test]
async fn a_hole_or_a_missing_head_is_corrupt() {
    let store = MemoryStore::new(&Host::system());
    let here = conversation(1);
    append(&store, here, &[message("a"), message("b"), message("c")])
        .await
        .expect("appended");
    store.logs().get_mut(&here).expect("a log").entries.remove(&Seq(2));
    let read = store.read(here, Seq(1), Seq(3), WIDE).await;
    assert!(matches!(read, Err(ReadError::Corrupt(_))), "{read:?}");
    store.logs().get_mut(&here).expect("a log").head = None;
    assert!(matches!(store.head(here).await, Err(ReadError::Corrupt(_))));
    let again = crate::storage::contract::samples::batch(here, crate::storage::Head::default(), &[message("d")]);
    let refused = store.append(again).await;
    assert!(
        matches!(refused, Err(AppendError::Corrupt(_))),
        "never start again at 1: {refused:?}"
    );
}
