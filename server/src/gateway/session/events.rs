//! Events of the bus: hints about conversations, news of others, and the word that a stream is to end.

use std::time::Duration;

use stonechat_proto::v1::server_frame::Body as Reply;

use super::Session;
use super::close::Close;
use crate::bus::Event;
use crate::domain::{DeviceId, SessionId, StreamName};
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
            Event::Entry(stored, acked) => self.live(&stored, acked),
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
            Event::Revoked { device } => self.revoked(device.as_ref()),
            Event::Presence(_) | Event::Control(_) => {}
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

    fn revoked(&mut self, device: Option<&DeviceId>) {
        match device {
            None => self.close(Close::Credentials("the user was deactivated".into())),
            Some(device) if *device == self.who.device => {
                self.close(Close::Credentials("the device was removed".into()));
            }
            Some(_) => {}
        }
    }
}
