//! Stores full of everything, a full picture of what a store holds, and a log that stops in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use stonechat_host::{Host, ManualClock, SeededRandom};

use super::super::log::BUCKET;
use super::super::{Migrated, Refused, Verify, Watch, migrate};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::conversation::{AppendRequest, Appended, Backends, Caller, Conversations, Limits};
use crate::domain::authorization::Actor;
use crate::domain::{
    Body, Change, ClientMsgId, Content, ConversationId, CorrelationId, Counted, DeviceId, Entry, MarkerSet,
    MessageContent, Ordinal, Sender, Seq, UnixMillis, UserId,
};
use crate::node::open_backends;
use crate::storage::contract::doubled_log::LogDouble;
use crate::storage::memory::MemoryStore;
use crate::storage::memory::directory::MemoryDirectory;
use crate::storage::{
    AppendBatch, AppendError, ChangeStamp, Head, MarkerRaise, MessageLog, PageLimit, PendingAppend, SettingsPatch,
    StoredEntry,
};
use crate::transfer::import;

pub(super) const SAMPLE: &str = include_str!("../../../../../tests/data/sample.jsonl");
pub(super) const NOW: UnixMillis = UnixMillis(1_000_000);

#[derive(Default)]
pub(super) struct Told(pub(super) Vec<Refused>);

impl Watch for Told {
    fn begin(&mut self, _conversations: u64) {}

    fn conversation(&mut self) {}

    fn refused(&mut self, refused: &Refused) {
        self.0.push(refused.clone());
    }
}

impl crate::transfer::Progress for Told {
    fn read(&mut self, _bytes: u64) {}

    fn refused(&mut self, line: u64, refusal: &crate::domain::Refusal) {
        panic!("line {line}: {}", refusal.message);
    }
}

pub(super) fn host(seed: u64) -> Host {
    Host {
        clock: Arc::new(ManualClock::new(900_000)),
        random: Arc::new(SeededRandom::new(seed)),
    }
}

pub(super) fn memory(seed: u64) -> Backends {
    let store = Arc::new(MemoryStore::new(&host(seed)));
    Backends {
        log: Arc::clone(&store) as _,
        markers: store,
        directory: Arc::new(MemoryDirectory::default()),
        bus: Arc::new(EmbeddedBus::default()),
    }
}

pub(super) struct Folder {
    pub(super) backends: Backends,
    _folder: tempfile::TempDir,
}

pub(super) async fn embedded(seed: u64) -> Folder {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        data_folder: folder.path().join("data"),
        ..Config::default()
    };
    Folder {
        backends: open_backends(&config, &host(seed)).await.unwrap(),
        _folder: folder,
    }
}

pub(super) fn rules(backends: &Backends) -> Conversations {
    Conversations::new(backends.clone(), host(77), Limits::unpaced())
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

/// The sample, and on top of it what no import makes: devices, removals, blocks, markers, settings, a deactivated user.
pub(super) async fn furnish(backends: &Backends) {
    let rules = rules(backends);
    import(&rules, backends, &host(5), SAMPLE.as_bytes(), &mut Told::default())
        .await
        .unwrap();
    rules.drain().await;
    let directory = &backends.directory;
    let (alice, bob, phone) = (user("alice"), user("bob"), device("phone"));
    directory
        .touch_device(&alice, &phone, UnixMillis(100_000))
        .await
        .unwrap();
    directory
        .touch_device(&alice, &phone, UnixMillis(400_000))
        .await
        .unwrap();
    directory
        .touch_device(&bob, &device("tv"), UnixMillis(1_000))
        .await
        .unwrap();
    directory
        .remove_device(&bob, &device("tv"), UnixMillis(2_000))
        .await
        .unwrap();
    directory
        .touch_device(&bob, &device("tv"), UnixMillis(300_000))
        .await
        .unwrap();
    directory
        .remove_device(&bob, &device("lost"), UnixMillis(3_000))
        .await
        .unwrap();
    directory.set_block(&alice, &user("crowd-003"), true).await.unwrap();
    directory.revoke_tokens(&bob, UnixMillis(7_000)).await.unwrap();
    directory
        .set_deactivated(&user("crowd-001"), true, UnixMillis(8_000))
        .await
        .unwrap();
    mark_and_set(backends, &alice, &phone).await;
}

/// Markers, positions and settings in every conversation of a user.
async fn mark_and_set(backends: &Backends, alice: &UserId, phone: &DeviceId) {
    let directory = &backends.directory;
    for (number, row) in backends
        .markers
        .inbox_newest(alice, 100)
        .await
        .unwrap()
        .iter()
        .enumerate()
    {
        let read = Counted {
            seq: Seq(1),
            ordinal: Ordinal::ZERO,
        };
        let raise = MarkerRaise {
            user: alice.clone(),
            conversation: row.conversation,
            markers: MarkerSet {
                delivered: row.head.seq,
                read,
                read_public: Seq(1),
                unread_floor: Counted::default(),
            },
            device: Some((phone.clone(), row.head.seq)),
        };
        backends.markers.raise(vec![raise]).await.unwrap();
        let patch = SettingsPatch {
            muted_until: Some((number % 2 == 0).then_some(UnixMillis(5))),
            archived: Some(number % 3 == 0),
            unread_from: Some(Some(Seq(1))),
        };
        directory.update_settings(alice, row.conversation, patch).await.unwrap();
        let users = std::slice::from_ref(alice);
        backends
            .markers
            .raise_inbox(users, row.conversation, row.head, true)
            .await
            .unwrap();
    }
}

pub(super) async fn copy(source: &Backends, target: &Backends) -> Migrated {
    let mut told = Told::default();
    migrate(source, target, Verify::All, NOW, &mut told).await.unwrap()
}

pub(super) async fn entries(backends: &Backends, id: ConversationId) -> Vec<Arc<StoredEntry>> {
    let limit = PageLimit {
        entries: usize::MAX,
        bytes: usize::MAX,
    };
    let head = backends.log.head(id).await.unwrap().unwrap_or_default();
    backends.log.read(id, Seq(1), head.seq, limit).await.unwrap()
}

/// Everything there is, as text, read in another way than the migration's own comparison.
pub(super) async fn picture(backends: &Backends) -> Vec<String> {
    let mut lines = Vec::new();
    let directory = &backends.directory;
    let ids = directory.list_conversations(None, 10_000).await.unwrap();
    for id in &ids {
        let record = directory.conversation(*id).await.unwrap().unwrap();
        let (first, name, pins) = (record.first, record.name, record.pins);
        lines.push(format!("{first:?} {name} {pins:?} {:?}", record.roster));
        lines.push(format!("{:?}", backends.log.head(*id).await.unwrap()));
        lines.push(format!(
            "pending {:?}",
            backends.log.fanout_pending_from(*id).await.unwrap()
        ));
        for stored in entries(backends, *id).await {
            let Sender { user, device } = &stored.entry.sender;
            let sender = Sender {
                user: user.clone(),
                device: device.clone(),
            };
            let own = &stored.entry.client_msg_id;
            let prior = backends.log.find(*id, &sender, own, Seq::ZERO).await.unwrap();
            let newest = backends.log.newest_id(*id, &sender).await.unwrap();
            lines.push(format!("{:?} {prior:?} {newest:?}", stored));
        }
    }
    for user in directory.list_users(None, 10_000).await.unwrap() {
        let devices = directory.devices(&user.id).await.unwrap();
        let blocks = directory.blocks(&user.id).await.unwrap();
        let rows = backends
            .markers
            .inbox_changes(&user.id, ChangeStamp(0), 10_000)
            .await
            .unwrap();
        let rows: Vec<_> = rows.iter().map(|row| (row.conversation, row.head)).collect();
        let markers = backends.markers.get_many(&user.id, &ids).await.unwrap();
        let views = directory.views(&user.id, &ids).await.unwrap();
        lines.push(format!(
            "{user:?} {devices:?} {blocks:?} {rows:?} {markers:?} {views:?}"
        ));
        for device in devices {
            let positions = backends.markers.device_positions(&user.id, &device.id, &ids).await;
            lines.push(format!("{:?}", positions.unwrap()));
        }
    }
    let revocations = directory.revocations(UnixMillis(0), None, 10_000).await.unwrap();
    lines.push(format!("{revocations:?}"));
    lines
}

pub(super) fn message(conversation: ConversationId, id: &str, text: &str) -> AppendRequest {
    AppendRequest {
        conversation,
        client_msg_id: ClientMsgId::parse(id).unwrap(),
        previous: None,
        known_head: Seq::ZERO,
        origin_time: None,
        change: Change::Message(MessageContent {
            content: Content::Text(text.to_owned()),
            reply_to: None,
            media: Vec::new(),
        }),
    }
}

pub(super) fn alice() -> Caller {
    Caller {
        actor: Actor::User(user("alice")),
        device: None,
        correlation: CorrelationId::default(),
    }
}

pub(super) async fn send(rules: &Conversations, conversation: ConversationId, id: &str, text: &str) -> Appended {
    rules.append(&alice(), message(conversation, id, text)).await.unwrap()
}

/// The conversation that alice heard of last.
pub(super) async fn newest(backends: &Backends) -> ConversationId {
    backends.markers.inbox_newest(&user("alice"), 1).await.unwrap()[0].conversation
}

/// Takes so many batches, then refuses.
pub(super) struct Failing {
    pub(super) inner: Arc<dyn MessageLog>,
    pub(super) left: AtomicUsize,
}

#[async_trait]
impl LogDouble for Failing {
    fn inner(&self) -> &dyn MessageLog {
        &*self.inner
    }

    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        let buckets = |seq: Seq| seq.0 / BUCKET;
        assert_eq!(buckets(batch.expected.seq.next()), buckets(batch.head.seq));
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| AppendError::NotDone("the test ends here".to_owned()))?;
        self.inner.append(batch).await
    }
}

/// Appends so many entries that the log reaches over the end of a bucket, some so large that a batch holds few.
pub(super) async fn lengthen(backends: &Backends, conversation: ConversationId) {
    let head = backends.log.head(conversation).await.unwrap().unwrap();
    let last = entries(backends, conversation).await.pop().unwrap();
    let mut at = head;
    for number in 0..BUCKET {
        let before = at;
        at = Head {
            seq: at.seq.next(),
            ordinal: at.ordinal.next(),
            ..at
        };
        let bytes = if number % 64 == 0 { 16_000 } else { 10 };
        let entry = Entry {
            seq: at.seq,
            ordinal: at.ordinal,
            time: at.time,
            client_msg_id: ClientMsgId::parse(&format!("long-{number}")).unwrap(),
            body: Body::Message(MessageContent {
                content: Content::Text("x".repeat(bytes)),
                reply_to: None,
                media: Vec::new(),
            }),
            ..last.entry.clone()
        };
        let batch = AppendBatch {
            conversation,
            expected: before,
            entries: vec![PendingAppend {
                entry,
                payload: [7; 32],
            }],
            head: at,
        };
        backends.log.append(batch).await.unwrap();
    }
    backends.log.fanout_done(conversation, at.seq).await;
}
