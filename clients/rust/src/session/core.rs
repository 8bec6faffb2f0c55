//! What the session decides: pure but for the clock it is given.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use stonechat_proto::v1::client_frame::Body;
use stonechat_proto::v1::{
    AppState, GetHistoryRequest, Hello, InitialBacklog, ListConversationsRequest, Ping, SetAppState, SetStatusRequest,
    SetTypingRequest, WatchPresence, Welcome, get_history_request,
};
use tokio::time::Instant;

use super::confirmations::Pending;
use super::heartbeat::Heartbeat;
use super::queue::EventQueue;
use super::requests::{Purpose, Requests};
use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::event::Event;
use crate::inbox::{Gap, Handed, Inbox};
use crate::outbox::Outbox;
use crate::store::{Record, Stored};
use crate::transport::{HELLO_REQUEST, wire_bytes};

/// Typing notices on their way: they are forgotten after 6 s, so more make no sense.
const TYPING_MAX: usize = 16;
/// Entries of a page fetched for a gap: the contract's bound.
const REPAIR_PAGE: u32 = 200;
/// Rows of a list page: the contract's bound.
const SYNC_PAGE: u32 = 500;
/// In flight when the server states no bound.
const IN_FLIGHT_DEFAULT: u32 = 16;

pub(super) struct Core {
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    pub(super) requests: Requests,
    pub(super) events: EventQueue,
    /// Changes to remember before anything else is sent.
    pub(super) records: Vec<Record>,
    pub(super) heartbeat: Option<Heartbeat>,
    /// What the app last set, told again to a session that does not resume.
    pub(super) watched: BTreeSet<String>,
    pub(super) status: Option<SetStatusRequest>,
    pub(super) app_state: AppState,
    pub(super) typing: VecDeque<SetTypingRequest>,
    /// Newest list cursor; empty for nothing.
    pub(super) cursor: Vec<u8>,
    pub(super) syncing: bool,
    keeps_list: bool,
    resume_token: Vec<u8>,
    hello: Hello,
    told: Vec<stonechat_proto::v1::ConversationPosition>,
    next_request: u64,
}

impl Core {
    pub(super) fn new(config: &ClientConfig, stored: Stored) -> Self {
        let fresh = stored.positions.is_empty() && stored.cursor.is_empty();
        let backoff = Backoff::new(config.operation_retry, config.host.random.clone());
        let mut outbox = Outbox::new(backoff);
        for operation in stored.outbox {
            outbox.push(operation, None);
        }
        let from_start = config.initial_backlog != InitialBacklog::Nothing;
        Self {
            outbox,
            inbox: Inbox::new(stored.positions, from_start),
            requests: Requests::default(),
            events: EventQueue::default(),
            records: Vec::new(),
            heartbeat: None,
            watched: BTreeSet::new(),
            status: None,
            app_state: config.app_state,
            typing: VecDeque::new(),
            cursor: if config.keeps_list { stored.cursor } else { Vec::new() },
            syncing: false,
            keeps_list: config.keeps_list,
            resume_token: Vec::new(),
            hello: Hello {
                device_id: config.device_id.clone(),
                stream_name: config.stream_name.clone(),
                protocol_min: 1,
                protocol_max: 1,
                // It speaks of what was there before the first session: what comes while none is open is not to be missed.
                initial_backlog: if fresh {
                    config.initial_backlog
                } else {
                    InitialBacklog::Everything
                }
                .into(),
                client_name: config.client_name.clone(),
                window: config.window,
                // A store that knows nothing is that of a device that lost its data.
                forget_device_positions: fresh,
                ..Hello::default()
            },
            told: Vec::new(),
            next_request: HELLO_REQUEST + 1,
        }
    }

    /// The hello of the next session.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            app_state: self.app_state.into(),
            resume_token: wire_bytes(&self.resume_token),
            cursor: wire_bytes(&self.cursor),
            positions: self.told.clone(),
            ..self.hello.clone()
        }
    }

    pub(super) fn connected(&mut self, now: Instant, welcome: Welcome) {
        self.heartbeat = Some(Heartbeat::new(now, &welcome));
        self.resume_token = welcome.resume_token.to_vec();
        self.hello.forget_device_positions = false;
        self.hello.initial_backlog = InitialBacklog::Everything.into();
        let stated = welcome
            .limits
            .as_ref()
            .map_or(0, |limits| limits.max_requests_in_flight);
        let in_flight = if stated == 0 { IN_FLIGHT_DEFAULT } else { stated };
        // A quarter is left for everything else.
        self.outbox.allow(in_flight as usize * 3 / 4);
        if !welcome.resumed {
            self.tell_again(now);
        }
        self.note_rows(now, &welcome);
        self.syncing = welcome.has_more;
        let cursor = welcome.cursor.to_vec();
        if welcome.has_more {
            self.sync(now, &cursor);
        }
        self.events.push_with(Event::Connected(Box::new(welcome)), Some(cursor));
    }

    /// Watches and status end with a session that is not resumed.
    fn tell_again(&mut self, now: Instant) {
        if !self.watched.is_empty() {
            let watch = WatchPresence {
                user_ids: self.watched.iter().cloned().collect(),
                replace: true,
            };
            self.request(now, Body::WatchPresence(watch), Purpose::Session);
        }
        if let Some(status) = self.status {
            self.request(now, Body::SetStatus(status), Purpose::Session);
        }
    }

    fn note_rows(&mut self, now: Instant, welcome: &Welcome) {
        for row in &welcome.conversations {
            if !welcome.continuous && self.inbox.rewind(&row.conversation_id, row.head_seq) {
                self.rewound(&row.conversation_id, row.head_seq);
            }
            if let Some(gap) = self.inbox.note_row(row) {
                self.fetch(now, gap);
            }
        }
    }

    fn rewound(&mut self, conversation_id: &str, head_seq: u64) {
        self.records.push(Record::Position {
            conversation_id: conversation_id.to_owned(),
            seq: head_seq,
        });
        self.events.push(Event::Rewound {
            conversation_id: conversation_id.to_owned(),
            head_seq,
        });
    }

    pub(super) fn disconnected(&mut self) {
        self.heartbeat = None;
        self.syncing = false;
        self.typing.clear();
        self.outbox.disconnected();
        self.requests.disconnected();
        self.told = self.inbox.disconnected();
    }

    /// Takes what the app has stored.
    pub(super) fn confirm(&mut self, pending: Pending) {
        for (conversation_id, seq) in pending.positions {
            if self.inbox.confirm(&conversation_id, seq) {
                self.records.push(Record::Position { conversation_id, seq });
            }
        }
        if let Some(cursor) = pending.cursor {
            if self.keeps_list {
                self.records.push(Record::Cursor(cursor.clone()));
            }
            self.cursor = cursor;
        }
    }

    pub(super) fn request(&mut self, now: Instant, body: Body, purpose: Purpose) {
        self.remember(&body);
        let id = self.next_id();
        self.requests.add(now, id, body, purpose);
    }

    fn remember(&mut self, body: &Body) {
        match body {
            Body::WatchPresence(watch) => {
                if watch.replace {
                    self.watched.clear();
                }
                self.watched.extend(watch.user_ids.iter().cloned());
            }
            Body::UnwatchPresence(unwatch) if unwatch.user_ids.is_empty() => self.watched.clear(),
            Body::UnwatchPresence(unwatch) => self.watched.retain(|user| !unwatch.user_ids.contains(user)),
            Body::SetStatus(status) => self.status = Some(*status),
            Body::SetAppState(SetAppState { app_state }) => {
                self.app_state = AppState::try_from(*app_state).unwrap_or_default();
            }
            _ => {}
        }
    }

    pub(super) fn type_notice(&mut self, typing: SetTypingRequest) {
        if self.heartbeat.is_some() && self.typing.len() < TYPING_MAX {
            self.typing.push_back(typing);
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    pub(super) fn sync(&mut self, now: Instant, cursor: &[u8]) {
        let request = ListConversationsRequest {
            cursor: wire_bytes(cursor),
            limit: SYNC_PAGE,
        };
        self.request(now, Body::Sync(request), Purpose::Sync);
    }

    pub(super) fn fetch(&mut self, now: Instant, gap: Gap) {
        tracing::debug!(
            conversation = gap.conversation_id,
            after = gap.after,
            until = gap.until,
            "repairing a gap"
        );
        let request = GetHistoryRequest {
            conversation_id: gap.conversation_id.clone(),
            limit: REPAIR_PAGE,
            until_seq: gap.until,
            anchor: Some(get_history_request::Anchor::AfterSeq(gap.after)),
        };
        self.request(now, Body::History(request), Purpose::Repair(gap));
    }

    /// Gives the app what a delivery or repair released, and fetches what is still missing.
    pub(super) fn release(&mut self, now: Instant, (handed, gap): (Vec<Handed>, Option<Gap>)) {
        for (entry, backlog) in handed {
            let entry = Box::new(entry);
            self.events.push(Event::Delivered { entry, backlog });
        }
        if let Some(gap) = gap {
            self.fetch(now, gap);
        }
    }

    /// Does what is due; false when the peer counts as dead. `reading` is false while the app is what holds things up.
    pub(super) fn on_time(&mut self, now: Instant, reading: bool) -> bool {
        for gap in self.requests.expire(now) {
            self.fetch(now, gap);
        }
        let Some(heartbeat) = &mut self.heartbeat else {
            return true;
        };
        if !reading {
            heartbeat.heard(now);
        }
        let alive = !heartbeat.is_silent(now);
        if heartbeat.ping_due(now) {
            self.request(now, Body::Ping(Ping {}), Purpose::Session);
        }
        alive
    }

    /// The next moment at which `on_time` has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let beat = self.heartbeat.as_ref().map(Heartbeat::next_timer);
        let wake = self.outbox.next_wake().filter(|_| self.heartbeat.is_some());
        [beat, wake, self.requests.next_deadline()].into_iter().flatten().min()
    }

    pub(super) fn token_renewed(&mut self, now: Instant, text: String, life: Option<Duration>) {
        let Some(heartbeat) = &mut self.heartbeat else {
            return;
        };
        heartbeat.renewed(now, life);
        let body = Body::Reauthenticate(stonechat_proto::v1::Reauthenticate { token: text });
        self.request(now, body, Purpose::Session);
    }
}
