//! Looks into the directory for tokens that stopped working, so that their streams end also when the bus lost the word.
//! One question of the node every 2 s, however many streams it has.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::limits::{REVOCATIONS_EVERY, REVOCATIONS_PAGE, REVOCATIONS_PAGES_MAX, REVOCATIONS_WINDOW};
use crate::domain::UnixMillis;
use crate::storage::{DirectoryError, Revocation};

/// Where the looks are.
struct Looks {
    /// The next look begins there.
    since: UnixMillis,
    /// The last look had too much to read and ended here.
    left: Option<Revocation>,
    /// What earlier parts of a look found, if it had too much to read.
    found: Vec<Revocation>,
}

impl Gateway {
    /// Looks again and again; ends with the task it runs in.
    pub async fn watch_revocations(self: Arc<Self>) {
        let mut looks = Looks {
            since: back(self.now(), REVOCATIONS_WINDOW),
            left: None,
            found: Vec::new(),
        };
        loop {
            tokio::time::sleep(REVOCATIONS_EVERY).await;
            if let Err(error) = self.look_for_revocations(&mut looks).await {
                tracing::warn!(%error, "revoked tokens not looked for, trying again");
            }
        }
    }

    async fn look_for_revocations(&self, looks: &mut Looks) -> Result<(), DirectoryError> {
        let began = self.now();
        for _ in 0..REVOCATIONS_PAGES_MAX {
            let directory = &self.on.directory;
            let page = directory.revocations(looks.since, looks.left.as_ref(), REVOCATIONS_PAGE);
            let mut page = page.await?;
            looks.left = (page.len() == REVOCATIONS_PAGE).then(|| page.last().cloned()).flatten();
            page.retain(|revocation| self.sessions.has(&revocation.user));
            looks.found.extend(page);
            if looks.left.is_none() {
                // Only now: what a failed look did not see is looked for again, however long the directory was away.
                looks.since = back(began, REVOCATIONS_WINDOW);
                self.sessions.tell_revoked(std::mem::take(&mut looks.found));
                return Ok(());
            }
        }
        self.sessions.tell_revoked(looks.found.clone());
        Ok(())
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.on.host.clock.unix_ms())
    }
}

fn back(from: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(from.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}
