//! What the log says of requests before they get their places. It is asked of many at once: in turn, a log that answers slowly would
//! be asked for longer than anybody waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{join, join_all};

use super::Appended;
use super::sequencer::{Append, appended, check_same_payload, doubted, unasked};
use super::state::read_refusal;
use crate::domain::{ClientMsgId, ConversationId, Refusal, Sender, Seq};
use crate::storage::{MessageLog, PageLimit, Prior, ReadError, StoredEntry};

/// What is known of one request.
pub(super) struct Looked {
    /// An earlier try with the same id (I2).
    pub(super) earlier: Result<Option<Appended>, Refusal>,
    /// Its sender's newest entry; asked where it names a predecessor.
    pub(super) newest: Result<Option<ClientMsgId>, Refusal>,
}

/// Looks for all of them, in their order.
pub(super) async fn look(log: &dyn MessageLog, appends: &[&Append]) -> Vec<Looked> {
    let senders: Vec<Sender> = appends.iter().map(|append| append.caller.sender()).collect();
    let by_sender = || appends.iter().zip(&senders);
    let earlier = join_all(by_sender().map(|(append, sender)| earlier_of(log, append, sender)));
    let ordered = by_sender().filter(|(append, _)| append.request.previous.is_some());
    let asked: BTreeMap<&Sender, ConversationId> = ordered
        .map(|(append, sender)| (sender, append.request.conversation))
        .collect();
    let newest = join_all(asked.into_iter().map(|(sender, id)| newest_of(log, sender, id)));
    let (earlier, newest) = join(earlier, newest).await;
    let newest: BTreeMap<&Sender, _> = newest.into_iter().collect();
    let looked = earlier.into_iter().zip(&senders).map(|(earlier, sender)| Looked {
        earlier,
        newest: newest.get(sender).cloned().unwrap_or(Ok(None)),
    });
    looked.collect()
}

type Newest<'a> = (&'a Sender, Result<Option<ClientMsgId>, Refusal>);

async fn newest_of<'a>(log: &dyn MessageLog, sender: &'a Sender, conversation: ConversationId) -> Newest<'a> {
    let newest = log.newest_id(conversation, sender).await.map_err(read_refusal);
    (sender, newest)
}

async fn earlier_of(log: &dyn MessageLog, append: &Append, sender: &Sender) -> Result<Option<Appended>, Refusal> {
    let request = &append.request;
    let found = log.find(request.conversation, sender, &request.client_msg_id, request.known_head);
    let Some(Prior { seq, payload }) = found.await.map_err(|error| unasked(read_refusal(error)))? else {
        return Ok(None);
    };
    check_same_payload(append, payload, seq)?;
    let stored = read_one(log, request.conversation, seq).await.map_err(doubted)?;
    Ok(Some(appended(&stored.entry, true)))
}

/// The entry at a seq at or below the head.
pub(super) async fn read_one(
    log: &dyn MessageLog,
    conversation: ConversationId,
    seq: Seq,
) -> Result<Arc<StoredEntry>, Refusal> {
    let limit = PageLimit {
        entries: 1,
        bytes: usize::MAX,
    };
    let page = log.read(conversation, seq, seq, limit).await.map_err(read_refusal)?;
    page.into_iter().next().ok_or_else(|| {
        read_refusal(ReadError::Corrupt(format!(
            "seq {seq} is at or below the head but absent"
        )))
    })
}
