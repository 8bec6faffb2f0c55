//! The inbox index: one partition for each user, one row for each conversation, overwritten in place.
//!
//! What changed is found by reading the partition: one request for thousands of conversations. Rows ordered by their change
//! would have to be deleted with each message, and a reader would wade through what was deleted.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::statement::prepared::PreparedStatement;
use tracing::error;

use super::client::{Client, Steps};
use super::rows::{conversation, number, read_conversation, read_number, signed, text};
use super::{CqlError, Inner};
use crate::domain::{ConversationId, Ordinal, Seq, UnixMillis, UserId};
use crate::storage::rules::raised_head;
use crate::storage::{ChangeStamp, FanoutRecord, InboxHead, InboxRaise, InboxRow, MarkerRaise};

/// Users at a time of one fan-out.
const USERS_AT_ONCE: usize = 64;

pub(super) struct Inbox {
    one: PreparedStatement,
    all: PreparedStatement,
    raise_head: PreparedStatement,
    raise_change: PreparedStatement,
}

/// Head, ordinal, time, change; and when head and change were written.
type Number = Option<i64>;
type HeadColumns = (Number, Number, Number, Number, Number, Number);
type Row = (Vec<u8>, Number, Number, Number, Number, Number, Number);

impl Inbox {
    pub(super) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        const HERE: &str = "WHERE user = ? AND conversation = ?";
        const COLUMNS: &str = "head, ordinal, time, change, WRITETIME(head), WRITETIME(change)";
        // Two registers, each written at its own value: the highest head and the latest change stay.
        Ok(Self {
            one: client.prepare(&format!("SELECT {COLUMNS} FROM inbox {HERE}")).await?,
            all: client
                .prepare(&format!("SELECT conversation, {COLUMNS} FROM inbox WHERE user = ?"))
                .await?,
            raise_head: client
                .prepare(&format!(
                    "UPDATE inbox USING TIMESTAMP ? SET head = ?, ordinal = ?, time = ? {HERE}"
                ))
                .await?,
            raise_change: client
                .prepare(&format!("UPDATE inbox USING TIMESTAMP ? SET change = ? {HERE}"))
                .await?,
        })
    }
}

/// A row is there once it has a change.
fn row_of(id: ConversationId, columns: HeadColumns) -> Result<Option<InboxRow>, CqlError> {
    let (head, ordinal, time, Some(change), ..) = columns else {
        return Ok(None);
    };
    let number = |value: Option<i64>, what| read_number(value.unwrap_or(0), what);
    Ok(Some(InboxRow {
        conversation: id,
        head: InboxHead {
            seq: Seq(number(head, "an inbox head")?),
            ordinal: Ordinal(number(ordinal, "an inbox ordinal")?),
            time: UnixMillis(time.unwrap_or(0)),
        },
        change: ChangeStamp(read_number(change, "a change stamp")?),
    }))
}

impl Inner {
    /// Looks whether a row's registers were written at their own values: else by a clock, or by hand (D15).
    fn look_at_times(&self, user: &UserId, &(head, _, _, change, head_at, change_at): &HeadColumns) {
        for (at, should_be) in [(head_at, head.map(|head| head + 1)), (change_at, change)] {
            if at != should_be {
                self.client.count_foreign_write();
                error!(%user, ?at, "an inbox row was written past this store; later changes stay hidden");
            }
        }
    }

    pub(super) async fn inbox_row_of(&self, user: &UserId, id: ConversationId) -> Result<Option<InboxRow>, CqlError> {
        let key = vec![text(user.as_str()), conversation(id)];
        let row: Option<HeadColumns> = self.client.row(&self.inbox.one, key).await?;
        let Some(columns) = row else { return Ok(None) };
        self.look_at_times(user, &columns);
        row_of(id, columns)
    }

    /// All rows of a user, oldest change first.
    pub(super) async fn inbox_of(&self, user: &UserId) -> Result<Vec<InboxRow>, CqlError> {
        let rows: Vec<Row> = self.client.rows(&self.inbox.all, vec![text(user.as_str())]).await?;
        let mut all = Vec::with_capacity(rows.len());
        for (id, head, ordinal, time, change, head_at, change_at) in rows {
            let columns = (head, ordinal, time, change, head_at, change_at);
            self.look_at_times(user, &columns);
            all.extend(row_of(read_conversation(&id)?, columns)?);
        }
        // Two nodes may have given out the same stamp: then the id decides, alike in every reading.
        all.sort_unstable_by_key(|row| (row.change, row.conversation));
        Ok(all)
    }

    pub(super) async fn raise_rows(
        &self,
        users: &[UserId],
        id: ConversationId,
        head: InboxHead,
        touch: bool,
    ) -> Result<(), CqlError> {
        let users = users.iter().cloned();
        let raises = users.map(|user| async move { self.raise_row(&user, id, head, touch).await });
        stream::iter(raises).buffer_unordered(USERS_AT_ONCE).try_collect().await
    }

    /// A reader between the two sees a row of before or after: what another node writes meanwhile costs a stamp too many.
    async fn raise_row(&self, user: &UserId, id: ConversationId, head: InboxHead, touch: bool) -> Result<(), CqlError> {
        let steps = self.row_steps(user, id, head, touch).await?;
        if steps.is_empty() {
            return Ok(());
        }
        self.client.write_all(steps).await?;
        self.known.stored_head(user, id, head);
        Ok(())
    }

    /// Statements that raise a row, none when it stays as it is. Reads only a row of which this node knows nothing.
    async fn row_steps(
        &self,
        user: &UserId,
        id: ConversationId,
        head: InboxHead,
        touch: bool,
    ) -> Result<Steps<'_>, CqlError> {
        if head.seq == Seq::ZERO && !touch {
            return Ok(Steps::new());
        }
        let before = self.known_or_stored_head(user, id).await?;
        let Some(head) = raised_head(before, head, touch) else {
            return Ok(Steps::new());
        };
        let key = [text(user.as_str()), conversation(id)];
        let change = self.stamps.next();
        let mut values = vec![number(change.0), number(change.0)];
        values.extend(key.clone());
        let mut steps = vec![(&self.inbox.raise_change, values)];
        if before.is_none_or(|before| head.seq > before.seq) {
            let mut values = vec![number(head.seq.0 + 1), number(head.seq.0)];
            values.extend([number(head.ordinal.0), signed(head.time.0)]);
            values.extend(key);
            steps.push((&self.inbox.raise_head, values));
        }
        Ok(steps)
    }

    async fn known_or_stored_head(&self, user: &UserId, id: ConversationId) -> Result<Option<InboxHead>, CqlError> {
        if let Some(known) = self.known.head(user, id) {
            return Ok(Some(known));
        }
        let stored = self.inbox_row_of(user, id).await?.map(|row| row.head);
        if let Some(head) = stored {
            self.known.stored_head(user, id, head);
        }
        Ok(stored)
    }

    /// What fan-out leaves: for each user one write, for markers and inbox have the same partition key.
    pub(super) async fn record(&self, id: ConversationId, record: FanoutRecord) -> Result<(), CqlError> {
        let mut of_users: BTreeMap<UserId, (Vec<MarkerRaise>, InboxHead)> = BTreeMap::new();
        for floor in record.floors {
            of_users.entry(floor.user.clone()).or_default().0.push(floor);
        }
        for InboxRaise { users, head } in record.rows {
            for user in users {
                let highest = &mut of_users.entry(user).or_default().1;
                if head.seq > highest.seq {
                    *highest = head;
                }
            }
        }
        let writes = of_users.into_iter().map(|(user, (floors, head))| async move {
            let mut steps = self.row_steps(&user, id, head, false).await?;
            self.raise_registers(&floors, &mut steps);
            self.write_steps(steps).await?;
            self.known.stored_head(&user, id, head);
            Ok(())
        });
        stream::iter(writes).buffer_unordered(USERS_AT_ONCE).try_collect().await
    }
}
