//! What one device hears: a session on some node, from hello to its end, and then the next one.
//!
//! It follows the rules of the gateway's session: live events are hints, the inbox says what is missing, the log is read
//! from where the device is; every ten seconds the inbox is compared with what was delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stonechat_server::bus::{Bus, Event, ReceiptsMoved, Subscription, Topic};
use stonechat_server::conversation::{HistoryAnchor, HistoryQuery};
use stonechat_server::domain::{ConversationId, Entry, Seq};
use stonechat_server::storage::{ChangeStamp, PageLimit};
use tokio::time::Instant;

use super::node::Node;
use super::people::Person;
use super::recorder::sighting;
use super::setup::PerMille;
use super::world::{GUEST, World};
use crate::checker::{MarkerValues, Register, Seq as SeenSeq, SessionRef, Start, User, What};

/// How often the inbox is compared with what was delivered: as the gateway does.
const HEAL_EVERY: Duration = Duration::from_secs(10);
/// Pause after the store could not answer: as the gateway does.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Entries and bytes of one read: as the gateway does.
const READ: PageLimit = PageLimit {
    entries: 64,
    bytes: 128 * 1024,
};
/// Rows of the inbox read at a time.
const INBOX_PAGE: usize = 500;
/// Deliveries are acknowledged together after at most this long.
const ACK_AFTER: Duration = Duration::from_millis(400);
/// A device looks at history or receipts this often, at most.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How often an ack also says that everything was read.
const READS: PerMille = PerMille(300);
/// Longest session while things go wrong.
const SESSION_MAX: Duration = Duration::from_secs(40);

/// One session after the other.
pub(super) async fn follow(world: Arc<World>, person: Arc<Person>) {
    loop {
        if let Some(node) = world.any_node() {
            Box::pin(one_session(&world, &person, node)).await;
        }
        tokio::time::sleep(Duration::from_millis(20) + world.dice.millis(Duration::from_secs(1))).await;
    }
}

async fn one_session(world: &Arc<World>, person: &Arc<Person>, node: Arc<Node>) {
    let cuts = person.cuts();
    let lifetime = world.dice.millis(SESSION_MAX);
    let number = world.recorder.session();
    let tired = async {
        tokio::time::sleep(lifetime).await;
        if world.is_healed() {
            std::future::pending::<()>().await;
        }
    };
    let mut opened = false;
    tokio::select! {
        biased;
        () = node.gate.died() => {}
        () = person.cut_since(cuts) => {}
        () = tired => {}
        () = Session::run(world, person, &node, number, &mut opened) => {}
    }
    if opened {
        world.record(What::SessionClosed {
            session: number,
            bye: false,
        });
    }
}

/// Where a session is in one conversation.
struct Track {
    room: usize,
    /// Delivered up to here; `None` until the device's position was read.
    sent: Option<Seq>,
    acked: Seq,
}

struct Session<'a> {
    world: &'a Arc<World>,
    person: &'a Person,
    node: &'a Node,
    number: SessionRef,
    events: Subscription,
    tracks: BTreeMap<ConversationId, Track>,
    /// Conversations that could not be read.
    behind: BTreeSet<ConversationId>,
    /// Inbox rows up to here were taken in.
    stamp: ChangeStamp,
    heal_at: Instant,
    retry_at: Option<Instant>,
    ack_at: Option<Instant>,
    look_at: Instant,
    /// The highest markers shown of others.
    shown: BTreeMap<(ConversationId, User), MarkerValues>,
}

impl<'a> Session<'a> {
    async fn run(world: &'a Arc<World>, person: &'a Person, node: &'a Node, number: SessionRef, opened: &mut bool) {
        // Subscribed first, read second: what is appended in between comes by both ways.
        let events = node.bus.subscribe(Topic::User(person.user.clone())).await;
        let now = stonechat_host::monotonic();
        *opened = true;
        world.weather.count("sessions");
        world.record(What::SessionOpened {
            session: number,
            user: person.name.clone(),
            device: person.device_name.clone(),
            start: Start::default(),
        });
        let tracks = world.rooms.iter().enumerate().map(|(room, of)| {
            let track = Track {
                room,
                sent: None,
                acked: Seq::ZERO,
            };
            (of.id, track)
        });
        let mut session = Self {
            tracks: tracks.collect(),
            world,
            person,
            node,
            number,
            events,
            behind: BTreeSet::new(),
            stamp: ChangeStamp::default(),
            heal_at: now,
            retry_at: None,
            ack_at: None,
            look_at: now + world.dice.millis(LOOK_EVERY),
            shown: BTreeMap::new(),
        };
        session.serve().await;
    }

    async fn serve(&mut self) {
        loop {
            let timers = [Some(self.heal_at), self.retry_at, self.ack_at, Some(self.look_at)];
            let wake = timers.into_iter().flatten().min().unwrap_or(self.heal_at);
            tokio::select! {
                biased;
                event = self.events.next() => match event {
                    Some(event) => self.hear(event).await,
                    None => return,
                },
                () = tokio::time::sleep_until(wake) => self.on_time().await,
            }
        }
    }

    async fn on_time(&mut self) {
        let now = stonechat_host::monotonic();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for id in std::mem::take(&mut self.behind) {
                self.pull(id).await;
            }
        }
        if self.heal_at <= now {
            self.heal_at = now + HEAL_EVERY;
            self.heal().await;
        }
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_at = None;
            self.acknowledge().await;
        }
        if self.look_at <= now {
            self.look_at = now + Duration::from_millis(100) + self.world.dice.millis(LOOK_EVERY);
            self.look_around().await;
        }
    }

    async fn hear(&mut self, event: Event) {
        if self.events.take_lagged() {
            self.heal().await;
        }
        match event {
            Event::Entries(entries, _) => {
                for stored in entries.iter() {
                    self.live(&stored.entry).await;
                }
            }
            Event::OwnRow(id) => {
                if let Some(track) = self.tracks.get(&id) {
                    let conversation = self.world.rooms[track.room].name.clone();
                    let session = self.number;
                    self.world.record(What::Noticed { session, conversation });
                }
                self.pull(id).await;
            }
            Event::Receipts(moved) => self.receipts(&moved),
            _ => {}
        }
    }

    async fn live(&mut self, entry: &Entry) {
        let Some(sent) = self.position(entry.conversation).await else {
            return;
        };
        if entry.seq == sent.next() {
            self.deliver(entry);
        } else if entry.seq > sent {
            self.pull(entry.conversation).await;
        }
    }

    fn deliver(&mut self, entry: &Entry) {
        let Some(track) = self.tracks.get_mut(&entry.conversation) else {
            return;
        };
        track.sent = Some(entry.seq);
        self.person.saw(track.room, entry.seq);
        self.world.weather.count("deliveries");
        self.world.record(What::Delivered {
            session: self.number,
            entry: sighting(&self.world.rooms[track.room].name, entry),
        });
        if self.ack_at.is_none() {
            self.ack_at = Some(stonechat_host::monotonic() + self.world.dice.millis(ACK_AFTER));
        }
    }

    /// Up to where the conversation was delivered; `None` when that cannot be read now.
    async fn position(&mut self, id: ConversationId) -> Option<Seq> {
        let track = self.tracks.get(&id)?;
        if track.sent.is_some() {
            return track.sent;
        }
        let markers = self.node.rules.markers();
        let read = markers
            .device_positions(&self.person.user, &self.person.device, &[id])
            .await;
        let Some(position) = read.ok().and_then(|positions| positions.first().copied()) else {
            self.fall_behind(id);
            return None;
        };
        let track = self.tracks.get_mut(&id)?;
        track.sent = Some(position);
        track.acked = position;
        track.sent
    }

    fn fall_behind(&mut self, id: ConversationId) {
        self.behind.insert(id);
        let at = stonechat_host::monotonic() + RETRY_AFTER;
        self.retry_at.get_or_insert(at);
    }

    /// Delivers what the log has behind the position.
    async fn pull(&mut self, id: ConversationId) {
        let Some(mut sent) = self.position(id).await else {
            return;
        };
        loop {
            let read = self.node.rules.read_after(&self.person.user, id, sent, READ).await;
            let Ok(page) = read else {
                return self.fall_behind(id);
            };
            let Some(last) = page.last() else { return };
            sent = last.entry.seq;
            for stored in &page {
                self.deliver(&stored.entry);
            }
        }
    }

    async fn heal(&mut self) {
        loop {
            let markers = self.node.rules.markers();
            let rows = markers.inbox_changes(&self.person.user, self.stamp, INBOX_PAGE).await;
            let Ok(rows) = rows else {
                self.heal_at = stonechat_host::monotonic() + RETRY_AFTER;
                return;
            };
            let Some(last) = rows.last() else { return };
            self.stamp = last.change;
            for row in &rows {
                let sent = self.position(row.conversation).await;
                if sent.is_none_or(|sent| sent < row.head.seq) {
                    self.pull(row.conversation).await;
                }
            }
        }
    }

    async fn acknowledge(&mut self) {
        let due = self.tracks.iter().filter_map(|(id, track)| {
            let sent = track.sent.filter(|sent| *sent > track.acked)?;
            Some((*id, track.room, sent))
        });
        for (id, room, seq) in due.collect::<Vec<_>>() {
            let conversation = self.world.rooms[room].name.clone();
            self.world.record(What::DeliveryAcked {
                session: self.number,
                conversation,
                seq: SeenSeq(seq.0),
            });
            let stored = self.node.rules.acknowledge(&self.person.caller(), &[(id, seq)]).await;
            match self.tracks.get_mut(&id) {
                Some(track) if stored.iter().all(Result::is_ok) => track.acked = seq,
                _ => self.ack_at = Some(stonechat_host::monotonic() + RETRY_AFTER),
            }
            if self.world.dice.chance(READS) {
                self.mark_read(id, room, seq).await;
            }
        }
    }

    async fn mark_read(&self, id: ConversationId, room: usize, seq: Seq) {
        let conversation = self.world.rooms[room].name.clone();
        let invoked = self.world.recorder.now();
        self.world.record(What::MarkInvoked {
            user: self.person.name.clone(),
            device: None,
            conversation: conversation.clone(),
            seq: SeenSeq(seq.0),
        });
        let private = self.world.dice.below(4) == 0;
        let marked = self.node.rules.mark_read(&self.person.caller(), id, seq, private).await;
        if let Ok(own) = marked {
            self.world.record(What::MarkersRead {
                subject: self.person.name.clone(),
                conversation,
                register: Register::Own,
                invoked,
                values: MarkerValues {
                    delivered: SeenSeq(own.delivered.0),
                    read: SeenSeq(own.read.0),
                },
            });
        }
    }

    /// What a person sees is the highest: events of two nodes come in any order.
    fn receipts(&mut self, moved: &ReceiptsMoved) {
        let Some(track) = self.tracks.get(&moved.conversation) else {
            return;
        };
        for (user, delivered, read) in &moved.members {
            let subject = User(user.to_string());
            let values = self.shown.entry((moved.conversation, subject.clone())).or_default();
            values.delivered = values.delivered.max(SeenSeq(delivered.0));
            values.read = values.read.max(SeenSeq(read.0));
            self.world.record(What::MarkersPushed {
                session: self.number,
                subject,
                conversation: self.world.rooms[track.room].name.clone(),
                register: Register::Public,
                values: *values,
            });
        }
    }

    /// Looks at the newest page of a conversation, or at who has received something.
    async fn look_around(&self) {
        let room = self.world.dice.index(self.world.rooms.len());
        let Some(node) = self.world.any_node() else { return };
        let history = self.world.dice.below(2) == 0;
        tokio::select! {
            biased;
            () = node.gate.died() => {}
            () = self.look_at_history(&node, room), if history => {}
            () = self.look_at_receipts(&node, room), if !history => {}
        }
    }

    async fn look_at_history(&self, node: &Node, room: usize) {
        let of = &self.world.rooms[room];
        let invoked = self.world.recorder.now();
        let query = HistoryQuery {
            conversation: of.id,
            anchor: HistoryAnchor::Before(None),
            limit: 20,
            until: None,
        };
        let Ok(page) = node.rules.history(&self.person.caller(), query).await else {
            return;
        };
        self.world.record(What::HeadRead {
            user: self.person.name.clone(),
            conversation: of.name.clone(),
            invoked,
            head: SeenSeq(page.head.0),
            listed: false,
        });
        self.world.record(What::PageRead {
            user: self.person.name.clone(),
            entries: page
                .entries
                .iter()
                .map(|stored| sighting(&of.name, &stored.entry))
                .collect(),
        });
    }

    async fn look_at_receipts(&self, node: &Node, room: usize) {
        let of = &self.world.rooms[room];
        let (seq, invoked) = (self.person.seen(room), self.world.recorder.now());
        let receipts = node.rules.receipts(&self.person.caller(), of.id, seq, true).await;
        if self.person.name.0.starts_with(GUEST) {
            // Who left sees markers up to where they left (I7), which is no news of how far the others are.
            return;
        }
        for member in receipts.map(|receipts| receipts.members).unwrap_or_default() {
            self.world.record(What::MarkersRead {
                subject: User(member.user.to_string()),
                conversation: of.name.clone(),
                register: Register::Public,
                invoked,
                values: MarkerValues {
                    delivered: SeenSeq(member.delivered.0),
                    read: SeenSeq(member.read.0),
                },
            });
        }
    }
}
