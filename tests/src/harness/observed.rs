//! What one raw session has seen so far.

use std::collections::BTreeMap;

use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body;

/// Everything that came on a stream, in order of arrival within each kind.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Answer to hello.
    pub welcome: Option<v1::Welcome>,
    /// Answers by request.
    pub answers: BTreeMap<u64, Body>,
    /// Deliveries by conversation.
    pub deliveries: BTreeMap<String, Vec<v1::Delivery>>,
    /// Everything else that came unasked.
    pub events: Vec<Body>,
    /// The backlog was ended.
    pub caught_up: bool,
    /// The last frame.
    pub closed: Option<v1::StreamClosed>,
    /// The stream is over: "ok" or the status.
    pub ended: Option<String>,
}

impl Observed {
    /// Takes in a frame.
    pub(super) fn take(&mut self, frame: v1::ServerFrame) {
        let Some(body) = frame.body else { return };
        match body {
            Body::Welcome(welcome) => self.welcome = Some(welcome),
            Body::Closed(closed) => self.closed = Some(closed),
            Body::Delivery(delivery) => {
                let conversation = delivery.entry.as_ref().map(|entry| entry.conversation_id.clone());
                self.deliveries
                    .entry(conversation.unwrap_or_default())
                    .or_default()
                    .push(delivery);
            }
            body if frame.request_id > 0 => drop(self.answers.insert(frame.request_id, body)),
            body => {
                self.caught_up |= matches!(body, Body::CaughtUp(_));
                self.events.push(body);
            }
        }
    }

    /// Seqs delivered of a conversation, in order of arrival.
    #[must_use]
    pub fn seqs(&self, conversation: &str) -> Vec<u64> {
        self.entries(conversation).map(|entry| entry.seq).collect()
    }

    /// Entries delivered of a conversation, in order of arrival.
    pub fn entries(&self, conversation: &str) -> impl Iterator<Item = &v1::Entry> {
        let deliveries = self.deliveries.get(conversation).into_iter().flatten();
        deliveries.filter_map(|delivery| delivery.entry.as_ref())
    }

    /// Texts delivered of a conversation, in order of arrival; other entries are left out.
    #[must_use]
    pub fn texts(&self, conversation: &str) -> Vec<String> {
        let texts = self
            .entries(conversation)
            .map(super::text_of)
            .filter(|text| !text.is_empty());
        texts.map(str::to_owned).collect()
    }

    /// Highest seq delivered of a conversation; 0 for none.
    #[must_use]
    pub fn newest(&self, conversation: &str) -> u64 {
        self.entries(conversation).map(|entry| entry.seq).max().unwrap_or(0)
    }

    /// Up to where the device has a conversation: by deliveries of this stream, or acknowledged before it, as welcome
    /// says.
    #[must_use]
    pub fn reached(&self, conversation: &str) -> u64 {
        let rows = self.welcome.iter().flat_map(|welcome| &welcome.conversations);
        let before = rows
            .filter(|row| row.conversation_id == conversation)
            .map(|row| row.device_seq);
        self.newest(conversation).max(before.max().unwrap_or(0))
    }
}
