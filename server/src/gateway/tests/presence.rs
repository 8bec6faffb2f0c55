//! What a stream shows of others' presence: what it watches, no more, and not too often.

use std::sync::Arc;
use std::time::Duration;

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::harness::{Peer, TestNode, grounds, node, node_with, refusal, send};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;
use crate::domain::limits::WATCHED_USERS_MAX;
use crate::gateway::limits::PRESENCE_EVERY;

/// Longer than a change takes to be shown, shorter than the regular look at everybody.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

async fn watch(peer: &mut Peer, users: &[&str], replace: bool) -> Reply {
    let watch = v1::WatchPresence {
        user_ids: users.iter().map(|user| (*user).to_owned()).collect(),
        replace,
    };
    let request = peer.ask(Ask::WatchPresence(watch)).await;
    peer.answer(request).await
}

fn statuses(answer: Reply) -> Vec<v1::Status> {
    match answer {
        Reply::Watching(watching) => watching.presences.iter().map(v1::Presence::status).collect(),
        other => panic!("no list: {other:?}"),
    }
}

async fn put(peer: &mut Peer, state: v1::AppState) {
    let app_state = state.into();
    let request = peer.ask(Ask::SetAppState(v1::SetAppState { app_state })).await;
    assert!(matches!(peer.answer(request).await, Reply::Done(_)));
}

/// Who is shown how, in order, until nothing came for a while.
async fn shown(peer: &mut Peer) -> Vec<(String, v1::Status)> {
    let mut all = Vec::new();
    while let Ok((_, body)) = tokio::time::timeout(SHOWN_WITHIN, peer.next()).await {
        if let Reply::Presence(presence) = body {
            all.push((presence.user_id.clone(), presence.status()));
        }
    }
    all
}

/// Alice, who has a 1:1 with each of these, and they, on a stream each.
async fn crowd(node: &TestNode, others: &[&str]) -> (Peer, Vec<Peer>) {
    let mut peers = Vec::new();
    for other in others {
        node.direct("alice", other).await;
        peers.push(node.live_with_backlog(other, "phone").await);
    }
    (node.live_with_backlog("alice", "a1").await, peers)
}

#[tokio::test(start_paused = true)]
async fn an_app_that_goes_to_the_background_shows_as_away() {
    let node = node().await;
    let (mut alice, mut others) = crowd(&node, &["bob"]).await;
    assert_eq!(statuses(watch(&mut alice, &["bob"], false).await), [v1::Status::Online]);
    for (state, status) in [
        (v1::AppState::Background, v1::Status::Away),
        (v1::AppState::Foreground, v1::Status::Online),
    ] {
        put(&mut others[0], state).await;
        let wanted = |body: &Reply| matches!(body, Reply::Presence(presence) if presence.status() == status);
        alice.until(wanted).await;
    }
}

/// I9: the bound is that of the session, not of one call, and what is above it changes nothing.
#[tokio::test(start_paused = true)]
async fn i9_a_session_watches_200_users_over_all_its_calls() {
    let node = node().await;
    let (mut alice, mut others) = crowd(&node, &["bob"]).await;
    let names: Vec<String> = (0..WATCHED_USERS_MAX).map(|number| format!("u{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(matches!(
        watch(&mut alice, &names[1..], false).await,
        Reply::Watching(_)
    ));
    assert!(matches!(watch(&mut alice, &["bob"], false).await, Reply::Watching(_)));
    assert!(
        matches!(watch(&mut alice, &["bob"], false).await, Reply::Watching(_)),
        "watched already"
    );
    let refused = refusal(watch(&mut alice, &names[..1], false).await);
    assert_eq!(refused.reason(), v1::RefusalReason::LimitReached);
    put(&mut others[0], v1::AppState::Background).await;
    assert_eq!(shown(&mut alice).await, [("bob".to_owned(), v1::Status::Away)]);
    assert!(
        matches!(watch(&mut alice, &names, true).await, Reply::Watching(_)),
        "in place of the others"
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_watched_no_longer_is_not_shown() {
    let node = node().await;
    let (mut alice, mut others) = crowd(&node, &["bob", "carol"]).await;
    watch(&mut alice, &["bob"], false).await;
    watch(&mut alice, &["carol"], true).await;
    for other in &mut others {
        put(other, v1::AppState::Background).await;
    }
    assert_eq!(
        shown(&mut alice).await,
        [("carol".to_owned(), v1::Status::Away)],
        "replaced"
    );
    let unwatch = v1::UnwatchPresence {
        user_ids: vec!["carol".into()],
    };
    let request = alice.ask(Ask::UnwatchPresence(unwatch)).await;
    assert!(matches!(alice.answer(request).await, Reply::Done(_)));
    for other in &mut others {
        put(other, v1::AppState::Foreground).await;
    }
    assert_eq!(shown(&mut alice).await, [], "unwatched");
}

/// I9: however often somebody changes, a watcher hears of it twice a second, and last of how it is.
#[tokio::test(start_paused = true)]
async fn i9_changes_of_presence_are_coalesced() {
    let node = node().await;
    let (mut alice, mut others) = crowd(&node, &["bob"]).await;
    watch(&mut alice, &["bob"], false).await;
    let begun = stonechat_host::monotonic();
    for _ in 0..20 {
        put(&mut others[0], v1::AppState::Foreground).await;
        put(&mut others[0], v1::AppState::Background).await;
    }
    let most = 2 + begun.elapsed().as_millis() / PRESENCE_EVERY.as_millis();
    let shown = shown(&mut alice).await;
    assert!(shown.len() as u128 <= most, "{shown:?}");
    assert_eq!(shown.last(), Some(&("bob".to_owned(), v1::Status::Away)));
}

/// I9: presence gives way while the queue of a slow reader is half full; what it then shows is how it is.
#[tokio::test(start_paused = true)]
async fn i9_presence_gives_way_to_messages() {
    let config = Config {
        conversation_entries_per_second: 100_000,
        session_frames_per_second: 100_000,
        ..Config::default()
    };
    let node = node_with(grounds(Arc::new(EmbeddedBus::new())), config).await;
    let (mut alice, mut others) = crowd(&node, &["bob"]).await;
    let bob = &mut others[0];
    watch(&mut alice, &["bob"], false).await;
    let conversation = node.direct("alice", "bob").await;
    // More than Alice's side takes in by itself, and her queue on top.
    let text = "x".repeat(16_000);
    for number in 0..220 {
        let id = bob.ask(send(&conversation, &format!("large{number}"), &text)).await;
        bob.answer(id).await;
    }
    // Alice reads nothing of it yet.
    for _ in 0..5 {
        for state in [
            v1::AppState::Background,
            v1::AppState::Foreground,
            v1::AppState::Background,
        ] {
            put(bob, state).await;
            tokio::time::sleep(PRESENCE_EVERY * 2).await;
        }
    }
    let shown = shown(&mut alice).await;
    assert!(shown.len() <= 3, "{} times", shown.len());
    assert_eq!(shown.last(), Some(&("bob".to_owned(), v1::Status::Away)));
}
