//! Conversations and the people in them, each with one device.

use std::sync::{Mutex, PoisonError};

use stonechat_server::conversation::Caller;
use stonechat_server::domain::authorization::Actor;
use stonechat_server::domain::{ConversationId, CorrelationId, DeviceId, Seq, UserId};

use super::signal::Signal;
use crate::checker::{Conversation, Device, MessageId, MessageKey, User};

/// A conversation.
pub(super) struct Room {
    pub(super) id: ConversationId,
    pub(super) name: Conversation,
}

/// A user with their device.
pub(super) struct Person {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) name: User,
    pub(super) device_name: Device,
    /// How often the device lost its power.
    power: Signal<u64>,
    /// Newest seq the device has seen, by room: what it stores outlives its power.
    seen: Mutex<Vec<Seq>>,
}

impl Person {
    pub(super) fn new(name: &str, rooms: usize) -> Self {
        let parsed = (UserId::parse(name), DeviceId::parse("phone"));
        let (Ok(user), Ok(device)) = parsed else {
            panic!("{name} is no name");
        };
        Self {
            name: User(user.to_string()),
            device_name: Device(device.to_string()),
            user,
            device,
            power: Signal::new(0),
            seen: Mutex::new(vec![Seq::ZERO; rooms]),
        }
    }

    pub(super) fn caller(&self) -> Caller {
        Caller {
            actor: Actor::User(self.user.clone()),
            device: Some(self.device.clone()),
            correlation: CorrelationId::default(),
        }
    }

    pub(super) fn key(&self, room: &Room, id: &str) -> MessageKey {
        MessageKey {
            conversation: room.name.clone(),
            user: self.name.clone(),
            device: self.device_name.clone(),
            id: MessageId(id.to_owned()),
        }
    }

    pub(super) fn saw(&self, room: usize, seq: Seq) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen[room] = seen[room].max(seq);
    }

    pub(super) fn seen(&self, room: usize) -> Seq {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)[room]
    }

    pub(super) fn cut_power(&self) {
        self.power.change(|cuts| cuts + 1);
    }

    /// How often the device lost its power up to now.
    pub(super) fn cuts(&self) -> u64 {
        self.power.get()
    }

    /// Returns when it has lost its power since then.
    pub(super) async fn cut_since(&self, cuts: u64) {
        self.power.wait_for(|now| now > cuts).await;
    }
}
