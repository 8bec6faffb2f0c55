//! One simulated person: sends, reads, and records both, through the real client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stonechat_client::{Client, ClientConfig, ConfirmMode, Event, Events, StaticToken, text_content};
use stonechat_host::Random;
use stonechat_proto::v1;

use super::net::{SimConnector, host};
use super::recorder::{Recorder, message_hash, sighting};
use crate::checker::{Conversation, Device, MessageId, MessageKey, OpId, Seq, SessionRef, Start, User, What};

/// Longest pause between two messages of a player.
const PAUSE_MAX_MS: u64 = 600;
/// Looks this often whether it has seen everything, when nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a player is to do.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) user: &'static str,
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) token: String,
    pub(super) endpoint: String,
    pub(super) conversation: String,
    pub(super) messages: usize,
    /// Seq of the newest entry when all players' messages are stored.
    pub(super) head: u64,
    pub(super) recorder: Recorder,
}

/// Plays until everything is sent, acknowledged and seen.
pub(super) async fn play(part: Part) -> Result<(), Box<dyn std::error::Error>> {
    let config = ClientConfig {
        confirm: ConfirmMode::NextEvent,
        host: host(part.seed),
        connector: Arc::new(SimConnector),
        ..ClientConfig::new(
            part.endpoint.clone(),
            Arc::new(StaticToken(part.token.clone())),
            "phone",
        )
    };
    let random = Arc::clone(&config.host.random);
    let (client, events) = Client::connect(config).await?;
    let mut player = Player {
        session: SessionRef(part.number),
        part,
        client,
        flying: BTreeMap::new(),
        acked: 0,
        seen: 0,
        unconfirmed: None,
    };
    player.open();
    player.run(events, &*random).await?;
    player.client.close().await;
    Ok(())
}

struct Player {
    part: Part,
    session: SessionRef,
    client: Client,
    flying: BTreeMap<String, OpId>,
    acked: usize,
    seen: u64,
    /// Handed over by the client, confirmed by asking for the next event.
    unconfirmed: Option<u64>,
}

impl Player {
    fn record(&self, what: What) {
        self.part.recorder.push(what);
    }

    fn open(&self) {
        self.record(What::SessionOpened {
            session: self.session,
            user: User(self.part.user.to_owned()),
            device: Device("phone".to_owned()),
            start: Start::default(),
        });
    }

    async fn run(&mut self, mut events: Events, random: &dyn Random) -> Result<(), Box<dyn std::error::Error>> {
        let mut left = self.part.messages;
        let mut send_at = stonechat_host::monotonic();
        while left > 0 || self.acked < self.part.messages || self.seen < self.part.head {
            let wake = if left > 0 {
                send_at
            } else {
                stonechat_host::monotonic() + LOOK_EVERY
            };
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(event) => self.took(event),
                    None => return Err("the client ended".into()),
                },
                () = tokio::time::sleep_until(wake) => {
                    if left > 0 {
                        self.send(self.part.messages - left).await?;
                        left -= 1;
                        send_at = wake + Duration::from_millis(random.below(PAUSE_MAX_MS));
                    }
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, number: usize) -> Result<(), Box<dyn std::error::Error>> {
        let content = text_content(&format!("{} says {number}", self.part.user));
        let body = message_hash(&content);
        let sent = self.client.send(&self.part.conversation, content).await?;
        let op = self.part.recorder.op();
        self.record(What::SendInvoked {
            op,
            key: self.key(&sent.client_msg_id),
            lane: self.part.user.to_owned(),
            body,
        });
        self.flying.insert(sent.client_msg_id, op);
        Ok(())
    }

    fn key(&self, client_msg_id: &str) -> MessageKey {
        MessageKey {
            conversation: Conversation(self.part.conversation.clone()),
            user: User(self.part.user.to_owned()),
            device: Device("phone".to_owned()),
            id: MessageId(client_msg_id.to_owned()),
        }
    }

    fn took(&mut self, event: Event) {
        // Asking for this event confirmed the one before.
        if let Some(seq) = self.unconfirmed.take() {
            self.record(What::DeliveryAcked {
                session: self.session,
                conversation: Conversation(self.part.conversation.clone()),
                seq: Seq(seq),
            });
        }
        match event {
            Event::Delivered { entry, .. } => self.delivered(&entry),
            Event::SendAccepted(appended) => {
                self.acked += 1;
                if let Some(op) = self.flying.remove(&appended.client_msg_id) {
                    self.record(What::SendAcked {
                        op,
                        seq: Seq(appended.seq),
                    });
                }
            }
            Event::SendFailed { client_msg_id, .. } => {
                if let Some(op) = self.flying.remove(&client_msg_id) {
                    self.record(What::SendFailed { op });
                }
            }
            _ => {}
        }
    }

    fn delivered(&mut self, entry: &v1::Entry) {
        self.seen = self.seen.max(entry.seq);
        self.unconfirmed = Some(entry.seq);
        self.record(What::Delivered {
            session: self.session,
            entry: sighting(entry),
        });
    }
}
