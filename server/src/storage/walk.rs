//! Walks through everything that a directory lists, or a log holds, a page at a time.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::directory::{Directory, DirectoryError, UserRecord};
use super::log::{MessageLog, PageLimit, ReadError, StoredEntry};
use crate::domain::{ConversationId, Seq, UserId};

/// Rows read at a time.
const PAGE: usize = 500;
/// Entries read at a time.
const ENTRIES: PageLimit = PageLimit {
    entries: 256,
    bytes: 1 << 20,
};

/// Entries `from..=to`, which must be there.
pub fn entries<L: MessageLog + ?Sized>(
    log: &L,
    conversation: ConversationId,
    from: Seq,
    to: Seq,
) -> BoxStream<'_, Result<Arc<StoredEntry>, ReadError>> {
    let pages = stream::try_unfold(from, move |next| async move {
        if next > to {
            return Ok(None);
        }
        let page = log.read(conversation, next, to, ENTRIES).await?;
        let Some(last) = page.last() else {
            let why = format!("entry {next} of {conversation} is missing below the head");
            return Err(ReadError::Corrupt(why));
        };
        let after = last.entry.seq.next();
        Ok(Some((page, after)))
    });
    flatten(pages).boxed()
}

/// All conversations, by id.
pub fn conversations(directory: &dyn Directory) -> BoxStream<'_, Result<ConversationId, DirectoryError>> {
    let pages = stream::try_unfold(None::<ConversationId>, move |after| async move {
        let page = directory.list_conversations(after, PAGE).await?;
        let last = page.last().copied();
        Ok::<_, DirectoryError>(last.map(|last| (page, Some(last))))
    });
    flatten(pages).boxed()
}

/// How many conversations there are.
///
/// # Errors
/// The directory cannot answer.
pub async fn count_conversations(directory: &dyn Directory) -> Result<u64, DirectoryError> {
    let (mut all, mut count) = (conversations(directory), 0);
    while let Some(id) = all.next().await {
        id?;
        count += 1;
    }
    Ok(count)
}

/// All users, by id.
pub fn users(directory: &dyn Directory) -> BoxStream<'_, Result<UserRecord, DirectoryError>> {
    let pages = stream::try_unfold(None::<UserId>, move |after| async move {
        let page = directory.list_users(after.as_ref(), PAGE).await?;
        let last = page.last().map(|user| user.id.clone());
        Ok::<_, DirectoryError>(last.map(|last| (page, Some(last))))
    });
    flatten(pages).boxed()
}

fn flatten<T, E>(pages: impl stream::Stream<Item = Result<Vec<T>, E>>) -> impl stream::Stream<Item = Result<T, E>> {
    pages.flat_map(|page| {
        stream::iter(match page {
            Ok(page) => page.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    })
}
