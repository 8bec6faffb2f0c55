//! Events of the bus: hints about conversations, news of others, and the word that a stream is to end.

use std::sync::Arc;
use std::time::Duration;

use stonechat_host::rule_holds;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::Session;
use super::close::Close;
use super::jobs::Done;
use crate::bus::Event;
use crate::domain::{DeviceId, Reason, Refusal, SessionId, StreamName, UnixMillis};
use crate::storage::Revocation;
use crate::telemetry::meters::{Shed, meters};
use crate::wire;

/// A lost echo of our own "replaced" is given up after this: it takes milliseconds when it comes at all.
const ECHO_WITHIN: Duration = Duration::from_secs(2);

impl Session {
    /// An event for the user came; `None` when the bus is gone.
    pub(super) fn event(&mut self, event: Option<Event>) {
        if self.events.take_lagged() {
            tracing::debug!("events were lost, reading the inbox again");
            self.notices.lost();
            self.plan.look_again();
        }
        let Some(event) = event else {
            return self.close(Close::Internal("live delivery stopped".into()));
        };
        match event {
            Event::Entries(..) if !rule_holds("events_arrive") => {}
            Event::Entries(entries, acked) => {
                // Who comes or goes changes who may be watched.
                if entries.iter().any(|stored| stored.entry.body.changes_membership()) {
                    self.timers.reread_soon();
                }
                entries.iter().for_each(|stored| self.live(stored, acked));
            }
            Event::Receipts(moved) => self.notices.receipts(&moved),
            Event::OwnRow(conversation) => {
                self.notices.row(conversation);
                // A membership may have changed, and with it who may be watched.
                self.timers.reread_soon();
            }
            Event::Typing {
                conversation,
                user,
                stopped,
            } => {
                if self.out.is_half_full() {
                    return meters().shed.inc(Shed::Typing);
                }
                let typing = wire::presence::typing(conversation, &user, stopped);
                self.push(0, Reply::TypingEvent(typing));
            }
            Event::Replaced { device, stream, by } => self.replaced(&device, &stream, &by),
            Event::Revoked { device, at } => self.revoked(device.as_ref(), at),
            // Lost did its work by being an event: the mark was looked at above.
            Event::Presence(_) | Event::Control(_) | Event::Lost => {}
        }
    }

    /// A stream of some device took over. All streams of a user hear this in one order, each its own as well: what comes
    /// before our own was sent by an older stream, which hears ours; so of two that open at once, exactly one stays.
    fn replaced(&mut self, device: &DeviceId, stream: &StreamName, by: &SessionId) {
        if (device, stream) != (&self.who.device, &self.who.stream) {
            return;
        }
        if *by == self.who.id {
            self.own_echo = true;
        } else if self.own_echo || stonechat_host::monotonic() >= self.timers.opened + ECHO_WITHIN {
            self.close(Close::Replaced);
        }
    }

    /// Hears what was said to all sessions.
    pub(super) fn heed(&mut self) {
        let word = self.word.borrow_and_update();
        let draining = word.draining;
        let own: Vec<Revocation> = word.revoked.get(&self.who.user).cloned().unwrap_or_default();
        drop(word);
        for revocation in own {
            self.revoked(revocation.device.as_ref(), revocation.at);
        }
        if draining {
            self.close(Close::Draining);
        }
    }

    /// Tokens stopped working: the stream ends if a hello with its token would be refused now.
    fn revoked(&mut self, device: Option<&DeviceId>, at: UnixMillis) {
        let why = match device {
            None => "the user's tokens were revoked",
            Some(device) if *device == self.who.device => "the device was removed",
            Some(_) => return,
        };
        if self.principal.issued <= at {
            return self.close(Close::Credentials(why.into()));
        }
        // A newer token; but its issuer's clock may be ahead, or the user deactivated.
        let (gateway, who, principal) = (Arc::clone(&self.gateway), Arc::clone(&self.who), self.principal.clone());
        self.job(async move {
            let checked = gateway
                .on
                .authenticator
                .check_again(&principal, Some(&who.device))
                .await;
            Done::CheckedAgain(principal.issued, checked)
        });
    }

    /// The token was checked once more.
    pub(super) fn checked_again(&mut self, issued: UnixMillis, checked: Result<(), Refusal>) {
        match checked {
            // Meanwhile there is another token, which was checked when it came.
            _ if issued != self.principal.issued => {}
            Ok(()) => {}
            Err(refusal) if refusal.reason == Reason::Unauthenticated => {
                self.close(Close::Credentials(refusal.message))
            }
            // Who cannot be checked must not stay; a client that may come back does, and is checked by its hello.
            Err(refusal) => self.close(Close::Internal(refusal.message)),
        }
    }
}
