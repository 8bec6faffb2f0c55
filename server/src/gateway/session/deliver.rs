//! Delivery: carries out what the plan orders. Hints come over the bus, truth from the inbox and the log.

use std::sync::Arc;

use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Reply;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::jobs::{Done, Page};
use super::plan::{Live, ReadOrder};
use super::{Session, Who};
use crate::domain::{ConversationId, Reason, Refusal, Seq};
use crate::gateway::Gateway;
use crate::gateway::frames::Frame;
use crate::gateway::limits::{INBOX_PAGE, READ_BYTES_MAX};
use crate::storage::{ChangeStamp, MarkerError, PageLimit, StoredEntry};
use crate::telemetry::meters::{Delivery, meters};
use crate::telemetry::traces::{Stage, span};

impl Session {
    /// Starts whatever can be done now.
    pub(super) fn pump(&mut self) {
        if !self.timers.is_paused() {
            self.look();
            self.plan.try_again();
            self.read_more();
        }
        if let Some(stamp) = self.plan.mark_checkpoint() {
            self.synced(stamp);
        }
        if self.plan.take_caught_up() {
            debug!("caught up");
            let cursor = self.cursor.clone();
            self.push(0, Reply::CaughtUp(v1::CaughtUp { cursor }));
        }
        self.flush_acks();
        self.flush_notices();
        self.flush_presence();
    }

    /// One look-up at a time: positions the plan asks for, or the next page of the inbox.
    fn look(&mut self) {
        if self.looking {
            return;
        }
        let (gateway, who) = (Arc::clone(&self.gateway), Arc::clone(&self.who));
        let unknown = self.plan.unknown();
        if !unknown.is_empty() {
            self.looking = true;
            self.job(async move { Done::Positions(positions(&gateway, &who, unknown).await.map_err(text)) });
        } else if let Some(after) = self.plan.next_page() {
            self.looking = true;
            self.plan.make_room();
            self.job(async move { Done::Page(inbox_page(&gateway, &who, after).await.map_err(text)) });
        }
    }

    fn read_more(&mut self) {
        while self.out.has_room()
            && let Some(order) = self.plan.next_read()
        {
            let (gateway, who) = (Arc::clone(&self.gateway), Arc::clone(&self.who));
            self.job(async move {
                let limit = PageLimit {
                    entries: order.entries,
                    bytes: READ_BYTES_MAX,
                };
                let conversations = &gateway.on.conversations;
                let read = conversations.read_after(&who.user, order.conversation, order.after, limit);
                Done::Read(order, read.await)
            });
        }
    }

    /// An entry came over the bus, acknowledged to its sender at that time.
    pub(super) fn live(&mut self, stored: &StoredEntry, acked: Option<Instant>) {
        let (conversation, seq) = (stored.entry.conversation, stored.entry.seq);
        if let Live::Send { backlog } = self.plan.live(conversation, seq, self.out.has_room()) {
            self.deliver(stored, backlog);
            if let Some(acked) = acked {
                meters().delivery_seconds.since(acked);
            }
        }
    }

    /// An answer stands for the delivery of what was sent, and says so, when it is the message's turn; else the message comes
    /// as all do.
    pub(super) fn deliver_by_answer(&mut self, answer: &mut Reply) {
        let Reply::Send(v1::SendResponse {
            outcome: Some(v1::send_response::Outcome::Appended(appended)),
        }) = answer
        else {
            return;
        };
        if let Ok(conversation) = appended.conversation_id.parse() {
            let turn = self.plan.live(conversation, Seq(appended.seq), self.out.has_room());
            appended.is_delivery = matches!(turn, Live::Send { .. });
        }
    }

    fn deliver(&self, stored: &StoredEntry, backlog: bool) {
        let entry = &stored.entry;
        debug!(conversation = ?entry.conversation, seq = entry.seq.0, correlation = %entry.correlation, "deliver");
        let _stage = span(Stage::Deliver, entry.correlation).entered();
        self.out.push(Frame::Delivery {
            entry: stored.wire.clone(),
            backlog,
        });
        let kind = if backlog { Delivery::Backlog } else { Delivery::Live };
        meters().deliveries.inc(kind);
    }

    pub(super) fn page(&mut self, page: Result<Page, String>) {
        self.looking = false;
        match page {
            Ok(page) => {
                for (row, position) in &page.rows {
                    self.plan.row(row.conversation, row.head.seq, *position);
                }
                let changed = page.rows.iter().map(|(row, _)| row.conversation);
                self.notices.changed(changed, page.end);
                let newest = page.rows.last().map_or(ChangeStamp(0), |(row, _)| row.change);
                self.plan.page_done(newest, page.end);
                if page.end {
                    self.timers.healed();
                }
            }
            Err(error) => self.store_failed(&error),
        }
    }

    pub(super) fn positions(&mut self, positions: Result<Vec<(ConversationId, Seq)>, String>) {
        self.looking = false;
        match positions {
            Ok(positions) => {
                for (conversation, position) in positions {
                    self.plan.position(conversation, position);
                }
            }
            Err(error) => self.store_failed(&error),
        }
    }

    pub(super) fn read(&mut self, order: ReadOrder, entries: Result<Vec<Arc<StoredEntry>>, Refusal>) {
        let entries = match entries {
            Ok(entries) => entries,
            Err(refusal) => return self.read_failed(order, &refusal),
        };
        let found: Vec<Seq> = entries.iter().map(|stored| stored.entry.seq).collect();
        let verdicts = self.plan.read_done(order, &found);
        for (stored, verdict) in entries.iter().zip(verdicts) {
            if let Some(backlog) = verdict {
                self.deliver(stored, backlog);
            }
        }
    }

    /// Nothing is lost: it is read again after a pause, or with the next look at the inbox when only its own log is at fault.
    fn read_failed(&mut self, order: ReadOrder, refusal: &Refusal) {
        let damaged = refusal.reason == Reason::Internal;
        self.plan.read_failed(order, damaged);
        if damaged {
            warn!(conversation = ?order.conversation, error = refusal.message, "a conversation cannot be delivered");
        } else {
            self.store_failed(&refusal.message);
        }
    }

    /// Nothing is lost: it is asked again after a pause.
    pub(super) fn store_failed(&mut self, error: &str) {
        warn!(error, "the store could not answer a session");
        self.timers.pause();
    }
}

/// A page of the inbox with the device's positions.
pub(super) async fn inbox_page(gateway: &Gateway, who: &Who, after: ChangeStamp) -> Result<Page, MarkerError> {
    let markers = gateway.on.conversations.markers();
    let rows = markers.inbox_changes(&who.user, after, INBOX_PAGE).await?;
    let end = rows.len() < INBOX_PAGE;
    if rows.is_empty() {
        return Ok(Page { rows: Vec::new(), end });
    }
    let conversations: Vec<ConversationId> = rows.iter().map(|row| row.conversation).collect();
    let positions = markers.device_positions(&who.user, &who.device, &conversations).await?;
    let rows = rows.into_iter().zip(positions).collect();
    Ok(Page { rows, end })
}

async fn positions(
    gateway: &Gateway,
    who: &Who,
    conversations: Vec<ConversationId>,
) -> Result<Vec<(ConversationId, Seq)>, MarkerError> {
    let markers = gateway.on.conversations.markers();
    let positions = markers.device_positions(&who.user, &who.device, &conversations).await?;
    Ok(conversations.into_iter().zip(positions).collect())
}

pub(super) fn text(error: MarkerError) -> String {
    error.0
}
