//! Walks through everything that a directory lists, a page at a time.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::directory::{Directory, DirectoryError, UserRecord};
use crate::domain::{ConversationId, UserId};

/// Rows read at a time.
const PAGE: usize = 500;

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

type Rows<T> = Result<Vec<T>, DirectoryError>;

fn flatten<T>(pages: impl stream::Stream<Item = Rows<T>>) -> impl stream::Stream<Item = Result<T, DirectoryError>> {
    pages.flat_map(|page| {
        stream::iter(match page {
            Ok(page) => page.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    })
}
