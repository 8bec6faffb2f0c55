//! The client library with its journal against the real server: both die, in turn, and every message is there once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stonechat_client::{Client, ClientConfig, Event, Events, FileStore, StaticToken};
use stonechat_tests::harness::{Bench, Claims, text_of};

/// How often somebody dies: the server and the client by turns.
const DEATHS: usize = 8;
/// Messages taken between two deaths.
const MESSAGES: usize = 40;
/// Answers that are awaited before a death: it comes in the middle.
const ANSWERS: usize = 15;
/// Everything settles within this on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A run of the app; dropping it is its death, as far as its process allows.
struct App {
    client: Client,
    events: Events,
}

impl App {
    /// Starts on what the last run left behind, once that has let go of it.
    async fn start(bench: &Bench, user: &str, journal: &Path) -> Self {
        let opening = async {
            loop {
                match FileStore::open(journal) {
                    Ok(store) => return store,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let store = tokio::time::timeout(PATIENCE, opening)
            .await
            .expect("the journal is let go of");
        let token = Arc::new(StaticToken(bench.token(&Claims::user(user))));
        let endpoint = format!("http://{}", bench.server.authority());
        let config = ClientConfig {
            store: Arc::new(store),
            ..ClientConfig::new(endpoint, token, "phone")
        };
        let (client, events) = Client::connect(config).await.expect("a client");
        Self { client, events }
    }

    async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.next()).await;
        event.expect("something happens").expect("the client runs")
    }

    /// Waits for so many of its operations to be stored.
    async fn stored(&mut self, count: usize) {
        let mut stored = 0;
        while stored < count {
            match self.next().await {
                Event::SendAccepted(_) => stored += 1,
                Event::SendFailed { refusal, .. } => panic!("refused for good: {refusal:?}"),
                _ => {}
            }
        }
    }
}

/// How often each text lies in the log, and the texts in its order.
async fn log(bench: &Bench, room: &str) -> (BTreeMap<String, usize>, Vec<String>) {
    let mut counts = BTreeMap::new();
    let mut texts = Vec::new();
    for entry in bench.entries(room).await {
        let text = text_of(&entry).to_owned();
        if !text.is_empty() {
            *counts.entry(text.clone()).or_default() += 1;
            texts.push(text);
        }
    }
    (counts, texts)
}

fn journal(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

/// I1, I2, I4: what the client took is in the log once, in the order it was taken, and comes to the other side once.
#[tokio::test]
async fn i1_a_client_and_its_server_die_in_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::start(&["--conversation-entries-per-second", "100000"]).await;
    let room = bench.direct("alice", "bob").await;
    let mut bob = App::start(&bench, "bob", &journal(&folder, "bob")).await;
    let mut taken = Vec::new();
    let mut alice = App::start(&bench, "alice", &journal(&folder, "alice")).await;
    for death in 0..DEATHS {
        for number in 0..MESSAGES {
            let text = format!("{death}-{number}");
            alice.client.send_text(&room, &text).await.expect("taken");
            taken.push(text);
        }
        alice.stored(ANSWERS).await;
        if death % 2 == 0 {
            bench.server.kill_and_restart().await;
        } else {
            drop(alice);
            alice = App::start(&bench, "alice", &journal(&folder, "alice")).await;
        }
    }
    let mut seen = Vec::new();
    while seen.len() < taken.len() {
        if let Event::Delivered { entry, .. } = bob.next().await
            && !text_of(&entry).is_empty()
        {
            seen.push(text_of(&entry).to_owned());
        }
    }
    assert_eq!(seen, taken, "what bob got");
    let (counts, texts) = log(&bench, &room).await;
    assert!(counts.values().all(|count| *count == 1), "twice: {counts:?}");
    assert_eq!(texts, taken, "what the log holds");
}
