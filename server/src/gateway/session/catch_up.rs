//! What a device that says hello has, and what it lacks: positions, the list since its cursor, the start of its backlog.

use super::Who;
use super::close::{Failure, failed, store_failed};
use super::deliver::inbox_page;
use super::jobs::Page;
use crate::conversation::ListPage;
use crate::domain::{ConversationId, Seq};
use crate::gateway::Gateway;
use crate::gateway::limits::{INBOX_PAGE, NOTHING_PAGES_MAX};
use crate::storage::ChangeStamp;
use crate::telemetry::meters::{Resync, meters};
use crate::wire::session::Hello;

/// Takes the positions that the client gives over those that are remembered; a position beyond the head is the head.
pub(super) async fn set_positions(
    gateway: &Gateway,
    who: &Who,
    hello: &Hello,
) -> Result<Vec<(ConversationId, Seq, Seq)>, Failure> {
    let markers = gateway.on.conversations.markers();
    if hello.forget_device_positions {
        let forgotten = markers.forget_device(&who.user, &who.device).await;
        forgotten.map_err(store_failed)?;
    }
    if hello.positions.is_empty() {
        return Ok(Vec::new());
    }
    let mut given = Vec::with_capacity(hello.positions.len());
    for (conversation, seq) in &hello.positions {
        let row = markers.inbox_row(&who.user, *conversation).await;
        // Conversations that the user has nothing to do with are passed over: a restored database may name such.
        if let Some(row) = row.map_err(store_failed)? {
            given.push((*conversation, row.head.seq, (*seq).min(row.head.seq)));
        }
    }
    let positions: Vec<_> = given
        .iter()
        .map(|(conversation, _, seq)| (*conversation, *seq))
        .collect();
    let set = markers.set_device_positions(&who.user, &who.device, &positions).await;
    set.map_err(store_failed)?;
    Ok(given)
}

/// Up to where the device has everything.
pub(super) async fn synced(gateway: &Gateway, who: &Who) -> Result<ChangeStamp, Failure> {
    let markers = gateway.on.conversations.markers();
    markers.synced(&who.user, &who.device).await.map_err(store_failed)
}

/// Sets the device to the head of every conversation in which it has nothing, so that only newer entries come.
pub(super) async fn skip_backlog(gateway: &Gateway, who: &Who) -> Result<(), Failure> {
    gateway.on.conversations.settled(&who.user).await;
    let markers = gateway.on.conversations.markers();
    let mut after = ChangeStamp::default();
    for _ in 0..NOTHING_PAGES_MAX {
        let rows = markers.inbox_changes(&who.user, after, INBOX_PAGE).await;
        let rows = rows.map_err(store_failed)?;
        let conversations: Vec<ConversationId> = rows.iter().map(|row| row.conversation).collect();
        let positions = markers.device_positions(&who.user, &who.device, &conversations).await;
        let nothing: Vec<(ConversationId, Seq)> = rows
            .iter()
            .zip(positions.map_err(store_failed)?)
            .filter(|(_, position)| *position == Seq::ZERO)
            .map(|(row, _)| (row.conversation, row.head.seq))
            .collect();
        let set = markers.set_device_positions(&who.user, &who.device, &nothing).await;
        set.map_err(store_failed)?;
        match rows.last() {
            Some(last) if rows.len() == INBOX_PAGE => after = last.change,
            _ => break,
        }
    }
    Ok(())
}

/// What happened while the device was away.
pub(super) struct News {
    /// The rows that changed since the client's cursor; from nothing when the cursor is not of this store.
    pub(super) list: ListPage,
    /// The cursor was of this store.
    pub(super) continuous: bool,
    /// The first page of what may have to be delivered.
    pub(super) backlog: Page,
}

/// Reads list and backlog: both are the end of the user's changes, as a rule a short one, so that one read gives both.
pub(super) async fn news(gateway: &Gateway, who: &Who, cursor: &[u8], synced: ChangeStamp) -> Result<News, Failure> {
    let conversations = &gateway.on.conversations;
    let known = conversations.read_cursor(cursor);
    if known.is_none() {
        meters().resyncs.inc(Resync::Cursor);
    }
    let listed = known.unwrap_or_default();
    conversations.settled(&who.user).await;
    let page = async |after| inbox_page(gateway, who, after).await.map_err(store_failed);
    let first = page(listed.min(synced)).await?;
    let (changed, backlog) = if first.end {
        (first.after(listed), first.after(synced))
    } else if listed <= synced {
        (first, page(synced).await?)
    } else {
        (page(listed).await?, first)
    };
    let list = conversations.list_page(&who.user, listed, &changed.rows, !changed.end);
    Ok(News {
        list: list.await.map_err(failed)?,
        continuous: known.is_some(),
        backlog,
    })
}
