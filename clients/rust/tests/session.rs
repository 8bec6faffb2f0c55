//! The session layer against a server that misbehaves, with time paused.

mod server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use server::{CONVERSATION, Mood, Server};
use stonechat_client::v1::server_frame::Body;
use stonechat_client::v1::{CloseReason, InitialBacklog, Resync, StreamClosed, entry, message_content};
use stonechat_client::{
    AccessToken, Client, ClientConfig, ClientStore, ConfirmMode, DisconnectReason, Event, Events, FileStore,
    MemoryStore, StaticToken, TokenError, TokenProvider,
};
use stonechat_host::Connector;

fn config(connector: &Arc<dyn Connector>) -> ClientConfig {
    ClientConfig {
        connector: Arc::clone(connector),
        ..ClientConfig::new("http://server:1", Arc::new(StaticToken("t".to_owned())), "device")
    }
}

fn text_of(event: &Event) -> Option<(u64, String)> {
    let Event::Delivered { entry, .. } = event else {
        return None;
    };
    match &entry.body {
        Some(entry::Body::Message(content)) => match &content.content {
            Some(message_content::Content::Text(text)) => Some((entry.seq, text.clone())),
            _ => None,
        },
        _ => None,
    }
}

async fn next_matching(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(600), events.next())
            .await
            .expect("the event comes within ten minutes")
            .expect("the client runs");
        if wanted(&event) {
            return event;
        }
    }
}

async fn deliveries(events: &mut Events, count: usize) -> Vec<(u64, String)> {
    let mut got = Vec::new();
    while got.len() < count {
        got.extend(text_of(&next_matching(events, |event| text_of(event).is_some()).await));
    }
    got
}

/// R10: a server that is not available for a minute is asked few times, and everything is sent once when it is back.
#[tokio::test(start_paused = true)]
async fn r10_unavailable_for_a_minute() {
    let server = Server::default();
    server.state().unavailable = true;
    let (client, _events) = Client::connect(config(&server.start())).await.unwrap();
    let sent = client.send_text(CONVERSATION, "one").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tries = server.state().streams;
    assert!((4..=30).contains(&tries), "{tries} tries in a minute");
    server.state().unavailable = false;
    let appended = sent.outcome().await.unwrap();
    assert_eq!(appended.seq, 1);
    assert_eq!(server.state().log.len(), 1);
}

/// R10: a server that takes the stream and breaks it at the first operation is held off by the budget.
#[tokio::test(start_paused = true)]
async fn r10_a_stream_that_breaks_at_once() {
    let server = Server::default();
    server.state().moods = std::iter::repeat_n(Mood::Break, 10_000).collect();
    let (client, _events) = Client::connect(config(&server.start())).await.unwrap();
    let _sent = client.send_text(CONVERSATION, "one").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tries = server.state().streams;
    assert!((10..=80).contains(&tries), "{tries} tries in a minute");
}

/// I1, I2, I4: whatever breaks, everything is stored once and in order.
#[tokio::test(start_paused = true)]
async fn i4_sends_survive_a_server_in_every_mood() {
    let moods = [
        Mood::StoreAndBreak,
        Mood::Well,
        Mood::Busy,
        Mood::Break,
        Mood::StoreAndBreak,
        Mood::Busy,
    ];
    for skip in 0..moods.len() {
        let server = Server::default();
        server.state().moods = moods.iter().cycle().skip(skip).take(24).copied().collect();
        let (client, _events) = Client::connect(config(&server.start())).await.unwrap();
        let mut sent = Vec::new();
        for at in 0..20 {
            sent.push(client.send_text(CONVERSATION, &at.to_string()).await.unwrap());
        }
        for (at, sent) in sent.into_iter().enumerate() {
            assert_eq!(sent.outcome().await.unwrap().seq, at as u64 + 1);
        }
        let texts: Vec<String> = server.state().log.iter().map(|(_, text)| text.clone()).collect();
        assert_eq!(texts, (0..20).map(|at| at.to_string()).collect::<Vec<_>>());
    }
}

/// A permanent refusal is reported once, and what follows goes on.
#[tokio::test(start_paused = true)]
async fn a_refused_operation_does_not_hold_up_the_next() {
    let server = Server::default();
    server.state().moods = [Mood::Well, Mood::Forbid].into();
    let (client, mut events) = Client::connect(config(&server.start())).await.unwrap();
    let mut ids = Vec::new();
    for text in ["a", "b", "c"] {
        ids.push(client.send_text(CONVERSATION, text).await.unwrap().client_msg_id);
    }
    let failed = next_matching(&mut events, |event| matches!(event, Event::SendFailed { .. })).await;
    assert!(matches!(failed, Event::SendFailed { client_msg_id, .. } if client_msg_id == ids[1]));
    next_matching(
        &mut events,
        |event| matches!(event, Event::SendAccepted(appended) if appended.client_msg_id == ids[2]),
    )
    .await;
    let texts: Vec<String> = server.state().log.iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(texts, ["a", "c"]);
}

/// I5: wanting nothing old is said at the device's first session only: what comes while the stream is down is not old.
#[tokio::test(start_paused = true)]
async fn i5_no_backlog_is_wanted_once() {
    let nothing = InitialBacklog::Nothing as i32;
    let server = Server::default();
    let store = Arc::new(MemoryStore::default());
    let start = || ClientConfig {
        initial_backlog: InitialBacklog::Nothing,
        store: Arc::clone(&store) as _,
        ..config(&server.start())
    };
    let (client, mut events) = Client::connect(start()).await.unwrap();
    next_matching(&mut events, |event| matches!(event, Event::CaughtUp)).await;
    server.state().moods = [Mood::Break].into();
    let sent = client.send_text(CONVERSATION, "one").await.unwrap();
    sent.outcome().await.unwrap();
    deliveries(&mut events, 1).await;
    client.close().await;
    while events.next().await.is_some() {}
    let (_client, mut events) = Client::connect(start()).await.unwrap();
    next_matching(&mut events, |event| matches!(event, Event::Connected(_))).await;
    let asked: Vec<i32> = server
        .state()
        .hellos
        .iter()
        .map(|hello| hello.initial_backlog)
        .collect();
    let everything = InitialBacklog::Everything as i32;
    assert_eq!(asked, [nothing, everything, everything]);
}

/// Receipts that overflowed at the server are not told again by themselves: the app hears that it must ask.
#[tokio::test(start_paused = true)]
async fn a_resync_says_that_receipts_were_missed() {
    let server = Server::default();
    let (_client, mut events) = Client::connect(config(&server.start())).await.unwrap();
    next_matching(&mut events, |event| matches!(event, Event::CaughtUp)).await;
    server.tell(Body::Resync(Resync {})).await;
    next_matching(&mut events, |event| *event == Event::ReceiptsMissed).await;
}

/// I1, I2: an operation taken while offline is sent by the next run of the app, under the same id.
#[tokio::test(start_paused = true)]
async fn the_outbox_survives_a_restart_of_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let server = Server::default();
    server.state().moods = [Mood::StoreAndBreak].into();
    let connector = server.start();
    let with_store = |store: FileStore| ClientConfig {
        store: Arc::new(store),
        ..config(&connector)
    };
    let (client, events) = Client::connect(with_store(FileStore::open(&path).unwrap()))
        .await
        .unwrap();
    let id = client.send_text(CONVERSATION, "one").await.unwrap().client_msg_id;
    while server.state().log.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop((client, events));
    let store = loop {
        // The old client lets go of the journal when its task has ended.
        match FileStore::open(&path) {
            Ok(store) => break store,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let (_client, mut events) = Client::connect(with_store(store)).await.unwrap();
    let accepted = next_matching(&mut events, |event| matches!(event, Event::SendAccepted(_))).await;
    assert!(matches!(accepted, Event::SendAccepted(appended) if appended.client_msg_id == id && appended.duplicate));
    assert_eq!(server.state().log.len(), 1);
}

/// C5, I5: what the stream skipped is fetched, before what follows; and when nothing follows, the heartbeat finds it.
#[tokio::test(start_paused = true)]
async fn gaps_are_repaired_in_order() {
    let server = Server::default();
    server.state().skip = vec![3, 4, 7];
    for at in 1..=6 {
        server.append(&at.to_string());
    }
    let (_client, mut events) = Client::connect(config(&server.start())).await.unwrap();
    let mut got = deliveries(&mut events, 6).await;
    server.append("7");
    got.extend(deliveries(&mut events, 1).await);
    let wanted: Vec<(u64, String)> = (1..=7).map(|at| (at, at.to_string())).collect();
    assert_eq!(got, wanted);
    assert!(server.state().pings >= 2);
}

/// I1 at the receiving end: nothing is acknowledged before the app has confirmed it, and a broken stream brings what was
/// not; the app sees each entry once.
#[tokio::test(start_paused = true)]
async fn only_confirmed_deliveries_are_acknowledged() {
    let server = Server::default();
    for at in 1..=5 {
        server.append(&at.to_string());
    }
    let store: Arc<dyn ClientStore> = Arc::new(MemoryStore::default());
    let explicit = ClientConfig {
        store: Arc::clone(&store),
        confirm: ConfirmMode::Explicit,
        ..config(&server.start())
    };
    let (client, mut events) = Client::connect(explicit.clone()).await.unwrap();
    deliveries(&mut events, 5).await;
    client.confirm(CONVERSATION, 3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.state().acked, 3);
    server.close(closed(CloseReason::Internal, true)).await;
    next_matching(&mut events, |event| matches!(event, Event::Connected(_))).await;
    server.append("6");
    assert_eq!(deliveries(&mut events, 1).await, [(6, "6".to_owned())]);
    client.close().await;
    let (_client, mut events) = Client::connect(explicit).await.unwrap();
    assert_eq!(
        deliveries(&mut events, 1).await,
        [(4, "4".to_owned())],
        "what was not confirmed comes again"
    );
}

fn closed(reason: CloseReason, reconnect: bool) -> StreamClosed {
    StreamClosed {
        reason: reason.into(),
        reconnect,
        ..StreamClosed::default()
    }
}

/// R10: a permanent end stops all tries until the app asks.
#[tokio::test(start_paused = true)]
async fn r10_a_replaced_stream_does_not_fight_back() {
    for reason in [CloseReason::Replaced, CloseReason::Credentials] {
        let server = Server::default();
        let (client, mut events) = Client::connect(config(&server.start())).await.unwrap();
        next_matching(&mut events, |event| matches!(event, Event::CaughtUp)).await;
        server.close(closed(reason, false)).await;
        let end = next_matching(&mut events, |event| matches!(event, Event::Disconnected { .. })).await;
        assert!(
            matches!(end, Event::Disconnected { reason: DisconnectReason::Closed(closed), retry: None } if closed.reason() == reason)
        );
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(server.state().streams, 1);
        client.reconnect().await;
        next_matching(&mut events, |event| matches!(event, Event::Connected(_))).await;
    }
}

/// The server says when to come back.
#[tokio::test(start_paused = true)]
async fn a_draining_server_is_left_alone_for_as_long_as_it_asks() {
    let server = Server::default();
    let (_client, mut events) = Client::connect(config(&server.start())).await.unwrap();
    next_matching(&mut events, |event| matches!(event, Event::CaughtUp)).await;
    let drain = StreamClosed {
        retry_after_ms: 30_000,
        ..closed(CloseReason::Draining, true)
    };
    server.close(drain).await;
    next_matching(&mut events, |event| matches!(event, Event::Disconnected { .. })).await;
    tokio::time::sleep(Duration::from_millis(29_900)).await;
    assert_eq!(server.state().streams, 1);
    next_matching(&mut events, |event| matches!(event, Event::Connected(_))).await;
}

/// Gives token after token.
#[derive(Default)]
struct Tokens {
    given: AtomicUsize,
    only: Mutex<Option<String>>,
}

#[async_trait]
impl TokenProvider for Tokens {
    async fn token(&self, renew: bool) -> Result<AccessToken, TokenError> {
        let only = self.only.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let at = self.given.load(Ordering::Relaxed) + usize::from(renew);
        self.given.store(at, Ordering::Relaxed);
        Ok(AccessToken {
            text: only.unwrap_or_else(|| format!("t{at}")),
            expires_ms: None,
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once_and_then_the_client_stops() {
    let server = Server::default();
    server.state().bad_token = Some("t0".to_owned());
    let tokens = Arc::new(Tokens::default());
    let with_tokens = ClientConfig {
        tokens: tokens.clone(),
        ..config(&server.start())
    };
    let (client, mut events) = Client::connect(with_tokens).await.unwrap();
    next_matching(&mut events, |event| matches!(event, Event::Connected(_))).await;
    assert_eq!(
        server.state().hellos.last().map(|hello| hello.token.clone()),
        Some("t1".to_owned())
    );
    server.state().bad_token = Some("stale".to_owned());
    *tokens.only.lock().unwrap() = Some("stale".to_owned());
    server.close(closed(CloseReason::Expired, true)).await;
    let stopped = |event: &Event| {
        matches!(
            event,
            Event::Disconnected {
                reason: DisconnectReason::BadToken(_),
                retry: None
            }
        )
    };
    next_matching(&mut events, stopped).await;
    let streams = server.state().streams;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(server.state().streams, streams);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn the_token_is_renewed_in_the_stream_before_it_expires() {
    let server = Server::default();
    server.state().token_life_ms = 300_000;
    let with_tokens = ClientConfig {
        tokens: Arc::new(Tokens::default()),
        ..config(&server.start())
    };
    let (_client, mut events) = Client::connect(with_tokens).await.unwrap();
    next_matching(&mut events, |event| matches!(event, Event::Connected(_))).await;
    tokio::time::sleep(Duration::from_secs(239)).await;
    assert!(server.state().reauthenticated.is_empty());
    tokio::time::sleep(Duration::from_secs(260)).await;
    assert_eq!(server.state().reauthenticated, ["t1", "t2"]);
    assert_eq!(server.state().streams, 1);
}

/// A peer that says nothing for 45 s is gone.
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left() {
    let server = Server::default();
    server.state().mute = true;
    let (_client, mut events) = Client::connect(config(&server.start())).await.unwrap();
    next_matching(&mut events, |event| matches!(event, Event::Connected(_))).await;
    let before = stonechat_host::monotonic();
    let end = next_matching(&mut events, |event| matches!(event, Event::Disconnected { .. })).await;
    assert!(matches!(
        end,
        Event::Disconnected {
            reason: DisconnectReason::Silent,
            retry: Some(_)
        }
    ));
    let waited = stonechat_host::monotonic() - before;
    assert!((44..=47).contains(&waited.as_secs()), "left after {waited:?}");
}

/// What the device has is told to the server: the resume token, the cursor, and that a new store has nothing.
#[tokio::test(start_paused = true)]
async fn the_hello_says_what_the_device_has() {
    let server = Server::default();
    server.append("1");
    let store: Arc<dyn ClientStore> = Arc::new(MemoryStore::default());
    let with_store = ClientConfig {
        store: Arc::clone(&store),
        ..config(&server.start())
    };
    let (client, mut events) = Client::connect(with_store.clone()).await.unwrap();
    next_matching(&mut events, |event| matches!(event, Event::CaughtUp)).await;
    tokio::time::timeout(Duration::from_secs(1), events.next())
        .await
        .unwrap_err();
    client.close().await;
    let (_client, mut events) = Client::connect(with_store).await.unwrap();
    next_matching(&mut events, |event| matches!(event, Event::CaughtUp)).await;
    let hellos = server.state().hellos.clone();
    assert!(hellos[0].forget_device_positions && hellos[0].cursor.is_empty());
    assert!(!hellos[1].forget_device_positions);
    assert_eq!(hellos[1].cursor.to_vec(), [1]);
    assert_eq!(store.load().await.unwrap().positions[CONVERSATION], 1);
}
