//! Migration between embedded and memory stores: everything is the same there, also after a stop in the middle, and
//! nothing is mixed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use stonechat_host::{Host, ManualClock, SeededRandom};

use super::{MigrateError, Migrated, Refused, Verify, Watch, migrate};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::conversation::{AppendRequest, Appended, Backends, Caller, Conversations, Limits};
use crate::domain::authorization::Actor;
use crate::domain::{
    Change, ClientMsgId, Content, ConversationId, CorrelationId, Counted, DeviceId, MarkerSet, MessageContent, Ordinal,
    Sender, Seq, UnixMillis, UserId,
};
use crate::node::open_backends;
use crate::storage::memory::MemoryStore;
use crate::storage::memory::directory::MemoryDirectory;
use crate::storage::{
    AppendBatch, AppendError, ChangeStamp, Head, MarkerRaise, MessageLog, PageLimit, Prior, ReadError, SettingsPatch,
    StoredEntry,
};
use crate::transfer::import;

const SAMPLE: &str = include_str!("../../../../tests/data/sample.jsonl");
const NOW: UnixMillis = UnixMillis(1_000_000);

#[derive(Default)]
struct Told(Vec<Refused>);

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

fn host(seed: u64) -> Host {
    Host {
        clock: Arc::new(ManualClock::new(900_000)),
        random: Arc::new(SeededRandom::new(seed)),
    }
}

fn memory(seed: u64) -> Backends {
    let store = Arc::new(MemoryStore::new(&host(seed)));
    Backends {
        log: Arc::clone(&store) as _,
        markers: store,
        directory: Arc::new(MemoryDirectory::default()),
        bus: Arc::new(EmbeddedBus::default()),
    }
}

struct Folder {
    backends: Backends,
    _folder: tempfile::TempDir,
}

async fn embedded(seed: u64) -> Folder {
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

fn rules(backends: &Backends) -> Conversations {
    Conversations::new(backends.clone(), host(77), Limits::unpaced())
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

/// The sample, and on top of it what no import makes: devices, removals, blocks, markers, settings, a deactivated user.
async fn furnish(backends: &Backends) {
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
    for (number, row) in backends
        .markers
        .inbox_newest(&alice, 100)
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
        directory
            .update_settings(&alice, row.conversation, patch)
            .await
            .unwrap();
        let users = std::slice::from_ref(&alice);
        backends
            .markers
            .raise_inbox(users, row.conversation, row.head, true)
            .await
            .unwrap();
    }
}

async fn copy(source: &Backends, target: &Backends) -> Migrated {
    let mut told = Told::default();
    migrate(source, target, Verify::All, NOW, &mut told).await.unwrap()
}

async fn entries(backends: &Backends, id: ConversationId) -> Vec<Arc<StoredEntry>> {
    let limit = PageLimit {
        entries: usize::MAX,
        bytes: usize::MAX,
    };
    let head = backends.log.head(id).await.unwrap().unwrap_or_default();
    backends.log.read(id, Seq(1), head.seq, limit).await.unwrap()
}

/// Everything there is, as text, read in another way than the migration's own comparison.
async fn picture(backends: &Backends) -> Vec<String> {
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

fn message(conversation: ConversationId, id: &str, text: &str) -> AppendRequest {
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

fn alice() -> Caller {
    Caller {
        actor: Actor::User(user("alice")),
        device: None,
        correlation: CorrelationId::default(),
    }
}

async fn send(rules: &Conversations, conversation: ConversationId, id: &str, text: &str) -> Appended {
    rules.append(&alice(), message(conversation, id, text)).await.unwrap()
}

/// The conversation that alice heard of last.
async fn newest(backends: &Backends) -> ConversationId {
    backends.markers.inbox_newest(&user("alice"), 1).await.unwrap()[0].conversation
}

#[tokio::test]
async fn i2_everything_is_the_same_in_memory_and_back_in_a_folder() {
    let (first, between, last) = (embedded(1).await, memory(2), embedded(3).await);
    furnish(&first.backends).await;
    let there = copy(&first.backends, &between).await;
    assert!(there.is_whole(), "{:?} {:?}", there.refused, there.differences);
    assert!(
        there.entries > 400 && there.compared == there.entries && there.known == 0,
        "{there:?}"
    );
    let back = copy(&between, &last.backends).await;
    assert!(back.is_whole(), "{:?} {:?}", back.refused, back.differences);
    let before = picture(&first.backends).await;
    assert_eq!(before, picture(&between).await);
    assert_eq!(before, picture(&last.backends).await);
    assert!(before.iter().any(|line| line.contains("Tombstone")));
}

#[tokio::test]
async fn a_second_run_writes_nothing() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    let first = copy(&source, &target).await;
    let before = picture(&target).await;
    let second = copy(&source, &target).await;
    let expected = Migrated {
        conversations: first.conversations,
        known: first.entries,
        compared: first.entries,
        ..Migrated::default()
    };
    assert_eq!(second, expected);
    assert_eq!(picture(&target).await, before);
}

/// Takes so many batches, then refuses.
struct Failing {
    inner: Arc<dyn MessageLog>,
    left: AtomicUsize,
}

#[async_trait]
impl MessageLog for Failing {
    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        let buckets = |seq: Seq| seq.0 / super::log::BUCKET;
        assert_eq!(buckets(batch.expected.seq.next()), buckets(batch.head.seq));
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| AppendError::NotDone("the test ends here".to_owned()))?;
        self.inner.append(batch).await
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        self.inner.head(conversation).await
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        self.inner.read(conversation, from, to, limit).await
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        self.inner.find(conversation, sender, id, known_head).await
    }

    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError> {
        self.inner.newest_id(conversation, sender).await
    }

    async fn fanout_pending(&self) -> Result<Vec<(ConversationId, Seq)>, ReadError> {
        self.inner.fanout_pending().await
    }

    async fn fanout_done(&self, conversation: ConversationId, up_to: Seq) {
        self.inner.fanout_done(conversation, up_to).await;
    }
}

#[tokio::test]
async fn i1_a_run_that_stopped_anywhere_goes_on() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    let busy = newest(&source).await;
    let rules = rules(&source);
    for number in 0..200 {
        send(&rules, busy, &format!("long-{number}"), &"x".repeat(1_000)).await;
    }
    rules.drain().await;
    let mut stops = 0;
    let whole = loop {
        let failing = Backends {
            log: Arc::new(Failing {
                inner: Arc::clone(&target.log),
                left: AtomicUsize::new(2),
            }),
            ..target.clone()
        };
        match migrate(&source, &failing, Verify::All, NOW, &mut Told::default()).await {
            Ok(whole) => break whole,
            Err(MigrateError::Append(_)) => stops += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(stops > 3 && whole.is_whole() && whole.known > 0, "{stops} {whole:?}");
    assert_eq!(picture(&source).await, picture(&target).await);
}

#[tokio::test]
async fn i2_a_retry_from_before_is_a_duplicate_after() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    let here = newest(&source).await;
    let first = send(&rules(&source), here, "mine", "once").await;
    copy(&source, &target).await;
    let again = send(&rules(&target), here, "mine", "once").await;
    assert!(again.duplicate && again.seq == first.seq, "{again:?}");
    let other = rules(&target)
        .append(&alice(), message(here, "mine", "another text"))
        .await;
    assert!(other.is_err(), "the payload of then counts");
}

/// What goes back is only what is new, and redactions of what was there before reach it.
#[tokio::test]
async fn what_was_said_meanwhile_goes_back() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    let here = newest(&source).await;
    let said = send(&rules(&source), here, "mine", "regret").await;
    copy(&source, &target).await;
    let there = rules(&target);
    let change = Change::Redact {
        target: said.seq,
        reason: String::new(),
    };
    let request = AppendRequest {
        change,
        ..message(here, "redaction", "")
    };
    there.append(&alice(), request).await.unwrap();
    there.drain().await;
    let back = copy(&target, &source).await;
    assert_eq!((back.entries, back.is_whole()), (1, true), "{back:?}");
    assert_eq!(picture(&source).await, picture(&target).await);
}

#[tokio::test]
async fn a_target_with_another_history_is_refused_and_left_alone() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    copy(&source, &target).await;
    let here = newest(&source).await;
    send(&rules(&source), here, "one", "said here").await;
    send(&rules(&target), here, "other", "said there").await;
    send(&rules(&target), here, "more", "and on").await;
    let before = entries(&target, here).await;
    let went_on = copy(&source, &target).await;
    assert!(
        went_on.refused.len() == 1 && went_on.refused[0].why.contains("went on"),
        "{went_on:?}"
    );
    send(&rules(&source), here, "two", "said here").await;
    send(&rules(&source), here, "three", "said here").await;
    let mixed = copy(&source, &target).await;
    assert!(
        mixed.refused.len() == 1 && mixed.refused[0].why.contains("another history"),
        "{mixed:?}"
    );
    assert_eq!(entries(&target, here).await, before);
}

#[tokio::test]
async fn another_conversation_in_the_place_of_one_is_refused() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    import(
        &rules(&target),
        &target,
        &host(9),
        SAMPLE.as_bytes(),
        &mut Told::default(),
    )
    .await
    .unwrap();
    let done = copy(&source, &target).await;
    assert!(
        done.conversations == 0 && done.entries == 0 && !done.refused.is_empty(),
        "{done:?}"
    );
}

#[tokio::test]
async fn a_store_is_not_copied_onto_itself() {
    let store = memory(1);
    let refused = migrate(&store, &store, Verify::All, NOW, &mut Told::default()).await;
    assert!(matches!(refused, Err(MigrateError::Same)), "{refused:?}");
}
