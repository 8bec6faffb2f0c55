//! Whether the ids of a log lead to its entries (I2), looked up one by one.

use std::collections::BTreeMap;

use futures_util::StreamExt;

use super::log::{CONTRADICTIONS_MAX, MessageLog, Prior, ReadError};
use super::walk::entries;
use crate::domain::{ClientMsgId, ConversationId, Entry, Sender, Seq};

/// What is stored under an entry's id: it leads to the entry, or the log is damaged.
///
/// # Errors
/// See [`ReadError`].
pub async fn prior_of<L: MessageLog + ?Sized>(log: &L, entry: &Entry) -> Result<Option<Prior>, ReadError> {
    let known_head = Seq(entry.seq.0.saturating_sub(1));
    log.find(entry.conversation, &entry.sender, &entry.client_msg_id, known_head)
        .await
}

/// Each entry's id must lead to it, and each sender's newest id must be that of their newest entry.
pub(super) async fn contradictions<L: MessageLog + ?Sized>(
    log: &L,
    conversation: ConversationId,
    up_to: Seq,
) -> Result<Vec<String>, ReadError> {
    let mut found = Vec::new();
    let mut newest: BTreeMap<Sender, ClientMsgId> = BTreeMap::new();
    let mut all = entries(log, conversation, Seq(1), up_to);
    while let Some(stored) = all.next().await {
        let entry = &stored?.entry;
        found.extend(leads_elsewhere(log, entry).await?);
        newest.insert(entry.sender.clone(), entry.client_msg_id.clone());
        if found.len() >= CONTRADICTIONS_MAX {
            return Ok(found);
        }
    }
    for (sender, id) in newest {
        found.extend(is_not_newest(log, conversation, up_to, &sender, &id).await?);
        if found.len() >= CONTRADICTIONS_MAX {
            break;
        }
    }
    Ok(found)
}

async fn leads_elsewhere<L: MessageLog + ?Sized>(log: &L, entry: &Entry) -> Result<Option<String>, ReadError> {
    Ok(match prior_of(log, entry).await? {
        Some(prior) if prior.seq == entry.seq => None,
        Some(prior) => Some(format!("the id of entry {} leads to {}", entry.seq, prior.seq)),
        None => Some(format!("the id of entry {} leads nowhere", entry.seq)),
    })
}

/// Somebody may have written on since `up_to`.
async fn is_not_newest<L: MessageLog + ?Sized>(
    log: &L,
    conversation: ConversationId,
    up_to: Seq,
    sender: &Sender,
    id: &ClientMsgId,
) -> Result<Option<String>, ReadError> {
    let Some(newest) = log.newest_id(conversation, sender).await? else {
        return Ok(Some(format!("no newest id is known of {sender:?}")));
    };
    if newest == *id {
        return Ok(None);
    }
    let place = log.find(conversation, sender, &newest, up_to).await?;
    let later = place.is_some_and(|prior| prior.seq > up_to);
    Ok((!later).then(|| format!("the newest id of {sender:?} is said to be {newest}, and is {id}")))
}
