//! One real use of each part: an append that is read back, a marker, an inbox row, a user, an event.
//!
//! What stays is a deactivated user and a conversation of theirs alone, with one entry more each time: nobody else sees
//! them, but integrators who list all.

use std::time::Duration;

use stonechat_host::{Host, monotonic};

use super::Check;
use crate::bus::{Event, Topic};
use crate::conversation::Backends;
use crate::domain::{
    Body, ClientMsgId, Content, ConversationId, CorrelationId, Entry, Epoch, Kind, MarkerSet, Member, MessageContent,
    Ordinal, Role, Sender, Seq, UnixMillis, UserId,
};
use crate::storage::{
    AppendBatch, AppendError, Head, InboxHead, MarkerRaise, NewConversation, PageLimit, PayloadHash, PendingAppend,
};

/// The user in whose name stores are tried. Nobody can sign in as them.
pub const PROBE_USER: &str = "stonechat-doctor";
/// Their conversation: the letters of their name, which no random id can be.
pub const PROBE_CONVERSATION: ConversationId = ConversationId(*b"stonechat-doctor");

/// Longest that is still quick: people notice what is above.
const QUICK: Duration = Duration::from_millis(250);
/// Time for one step: a service that needs longer is not usable.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// Tries of an append while another doctor appends in the same place.
const APPEND_TRIES: usize = 5;
/// Looks at the mark of fan-out until it must be gone, and the pause between them: two seconds.
const MARK_LOOKS: usize = 40;
/// See [`MARK_LOOKS`].
const MARK_PAUSE: Duration = Duration::from_millis(50);

/// A step's trouble, in words.
type Outcome = Result<String, String>;

/// Uses each part once. Later steps stand on earlier ones: the first that fails is the last, but the bus.
pub(super) async fn run(backends: &Backends, host: &Host) -> Vec<Check> {
    let mut checks = vec![timed("directory", directory(backends, host)).await];
    let mut seq = Seq::ZERO;
    if is_good(&checks) {
        let appending = async {
            seq = append(backends, host).await?;
            Ok(format!(
                "entry {seq} of the probe was written, read back and found by its id"
            ))
        };
        checks.push(timed("log", appending).await);
    }
    if is_good(&checks) {
        checks.push(timed("markers", markers(backends, seq)).await);
        checks.push(timed("fan-out mark", fanout(backends)).await);
    }
    checks.push(timed("bus", bus(backends)).await);
    checks
}

fn is_good(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.status != super::Status::Fail)
}

async fn timed(name: &str, step: impl Future<Output = Outcome>) -> Check {
    let begun = monotonic();
    let outcome = tokio::time::timeout(STEP_WITHIN, step).await;
    let took = begun.elapsed();
    let advice = "a server with this would not serve: see what the service or the disk says";
    let check = match outcome {
        Err(_) => Check::fail(name, format!("no answer within {} s", STEP_WITHIN.as_secs()), advice),
        Ok(Err(why)) => Check::fail(name, why, advice),
        Ok(Ok(found)) if took > QUICK => {
            let advice = "every message waits for it: look for a busy disk or a long way to the service";
            Check::warn(name, format!("{found}, but slowly"), advice)
        }
        Ok(Ok(found)) => Check::ok(name, found),
    };
    check.took(took)
}

fn words(error: impl ToString) -> String {
    error.to_string()
}

fn probe_user() -> Result<UserId, String> {
    UserId::parse(PROBE_USER).map_err(words)
}

fn sender(user: &UserId) -> Sender {
    Sender {
        user: Some(user.clone()),
        device: None,
    }
}

/// The user and the conversation come first: a log without a conversation in the directory would stop a start.
async fn directory(backends: &Backends, host: &Host) -> Outcome {
    let user = probe_user()?;
    let now = UnixMillis(host.clock.unix_ms());
    let directory = &backends.directory;
    let known = directory.users(std::slice::from_ref(&user)).await.map_err(words)?.pop();
    if known.as_ref().is_some_and(|known| !known.deactivated) {
        return Err(format!(
            "{user} is somebody's name: the stores are tried in this name alone"
        ));
    }
    if known.is_none() {
        directory.upsert_user(&user, "", now).await.map_err(words)?;
        directory.set_deactivated(&user, true, now).await.map_err(words)?;
    }
    let new = NewConversation {
        id: PROBE_CONVERSATION,
        kind: Kind::Group,
        name: PROBE_USER.to_owned(),
        creator: sender(&user),
        client_msg_id: ClientMsgId::parse(PROBE_USER).map_err(words)?,
        correlation: CorrelationId::default(),
        members: vec![Member {
            user: user.clone(),
            role: Role::Owner,
        }],
        created: now,
    };
    let made = directory.create_conversation(new).await.map_err(words)?;
    if made.first.id != PROBE_CONVERSATION {
        return Err("it gave another conversation than the one asked for".to_owned());
    }
    match directory.conversation(PROBE_CONVERSATION).await.map_err(words)? {
        Some(_) => Ok("the probe's user and conversation are there, written or read again".to_owned()),
        None => Err("it lost the conversation it just had".to_owned()),
    }
}

async fn append(backends: &Backends, host: &Host) -> Result<Seq, String> {
    let user = probe_user()?;
    for _ in 0..APPEND_TRIES {
        let head = backends.log.head(PROBE_CONVERSATION).await.map_err(words)?;
        let (entry, after) = next(backends, host, &user, head).await?;
        let batch = AppendBatch {
            conversation: PROBE_CONVERSATION,
            expected: head.unwrap_or_default(),
            entries: vec![PendingAppend {
                entry: entry.clone(),
                payload: PayloadHash::default(),
            }],
            head: after,
        };
        match backends.log.append(batch).await {
            Ok(_) => {
                check_stored(backends, &entry).await?;
                // The first entry of all is the conversation's own: the one that was to be tried comes after it.
                if head.is_some() {
                    return Ok(entry.seq);
                }
            }
            Err(AppendError::Conflict) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("others append in the same place all the time".to_owned())
}

/// The entry after the head, and the head after it.
async fn next(backends: &Backends, host: &Host, user: &UserId, head: Option<Head>) -> Result<(Entry, Head), String> {
    let record = backends
        .directory
        .conversation(PROBE_CONVERSATION)
        .await
        .map_err(words)?;
    let first = record.ok_or("the directory lost the conversation")?.first;
    let now = UnixMillis(host.clock.unix_ms());
    let before = head.unwrap_or_default();
    let (body, id, epoch, ordinal) = if head.is_none() {
        let (kind, name, members) = (first.kind, first.name, first.members);
        let created = Body::Created { kind, name, members };
        (created, first.client_msg_id, Epoch::ZERO.next(), Ordinal::ZERO)
    } else {
        let says = Body::Message(MessageContent {
            content: Content::Text("a doctor was here".to_owned()),
            reply_to: None,
            media: Vec::new(),
        });
        let id = CorrelationId(host.random.bytes16()).to_string();
        let id = ClientMsgId::parse(&id).map_err(words)?;
        (says, id, before.epoch, before.ordinal.next())
    };
    let entry = Entry {
        conversation: PROBE_CONVERSATION,
        seq: before.seq.next(),
        time: now.max(before.time),
        ordinal,
        sender: sender(user),
        client_msg_id: id,
        correlation: CorrelationId::default(),
        origin_time: None,
        body,
    };
    let after = Head {
        seq: entry.seq,
        ordinal,
        epoch,
        time: entry.time,
        floor: before.floor.max(Seq(1)),
    };
    Ok((entry, after))
}

async fn check_stored(backends: &Backends, entry: &Entry) -> Result<(), String> {
    let limit = PageLimit {
        entries: 1,
        bytes: usize::MAX,
    };
    let (id, seq) = (entry.conversation, entry.seq);
    let read = backends.log.read(id, seq, seq, limit).await.map_err(words)?.pop();
    if read.is_none_or(|read| read.entry != *entry) {
        return Err(format!(
            "entry {seq} was acknowledged, but is not read back as it was written"
        ));
    }
    let before = Seq(seq.0.saturating_sub(1));
    let found = backends.log.find(id, &entry.sender, &entry.client_msg_id, before).await;
    match found.map_err(words)? {
        Some(prior) if prior.seq == seq => Ok(()),
        _ => Err(format!(
            "entry {seq} is not found by its id: retries would be stored twice"
        )),
    }
}

async fn markers(backends: &Backends, seq: Seq) -> Outcome {
    let user = probe_user()?;
    let markers = &backends.markers;
    // Before the markers, which are durable in order after it: a crash leaves nothing to be fanned out again.
    backends.log.fanout_done(PROBE_CONVERSATION, seq).await;
    let raise = MarkerRaise {
        user: user.clone(),
        conversation: PROBE_CONVERSATION,
        markers: MarkerSet {
            delivered: seq,
            ..MarkerSet::default()
        },
        device: None,
    };
    markers.raise(vec![raise]).await.map_err(words)?;
    let got = markers.get(&user, PROBE_CONVERSATION).await.map_err(words)?;
    if got.delivered < seq {
        return Err("a marker that was raised is not there".to_owned());
    }
    let head = InboxHead {
        seq,
        ..InboxHead::default()
    };
    let users = std::slice::from_ref(&user);
    markers
        .raise_inbox(users, PROBE_CONVERSATION, head, false)
        .await
        .map_err(words)?;
    match markers.inbox_row(&user, PROBE_CONVERSATION).await.map_err(words)? {
        Some(row) if row.head.seq >= seq => Ok("a marker and an inbox row were raised and read back".to_owned()),
        _ => Err("an inbox row that was raised is not there".to_owned()),
    }
}

/// The mark is a hint that a store may take down a moment later.
async fn fanout(backends: &Backends) -> Outcome {
    let mut pending = None;
    for _ in 0..MARK_LOOKS {
        pending = backends
            .log
            .fanout_pending_from(PROBE_CONVERSATION)
            .await
            .map_err(words)?;
        if pending.is_none() {
            return Ok("taken down".to_owned());
        }
        tokio::time::sleep(MARK_PAUSE).await;
    }
    let from = pending.unwrap_or_default();
    Err(format!("still says that entry {from} is to be fanned out"))
}

async fn bus(backends: &Backends) -> Outcome {
    let topic = Topic::User(probe_user()?);
    let mut events = backends.bus.subscribe(topic.clone()).await;
    backends.bus.publish(&topic, Event::OwnRow(PROBE_CONVERSATION)).await;
    match events.next().await {
        Some(Event::OwnRow(id)) if id == PROBE_CONVERSATION => Ok("an event went out and came back".to_owned()),
        _ => Err("another event came than was sent".to_owned()),
    }
}
