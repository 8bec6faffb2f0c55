//! People: users, their profiles, blocks and devices.

use std::sync::Arc;

use stonechat_host::Host;

use super::Conversations;
use super::state::{directory_refusal, not_read};
use crate::bus::{Bus, Event, Topic};
use crate::domain::limits::BLOCKS_MAX;
use crate::domain::{ConversationId, DeviceId, Reason, Refusal, UnixMillis, UserId};
use crate::storage::{DeviceRecord, Directory, UserRecord};

/// No conversation has this id: sessions that are told of it show no row, and look again whom they may watch.
const NO_CONVERSATION: ConversationId = ConversationId([0; 16]);

/// Users, profiles, blocks and devices. Cheap to clone.
#[derive(Clone)]
pub struct People {
    conversations: Conversations,
    directory: Arc<dyn Directory>,
    bus: Arc<dyn Bus>,
    host: Host,
}

impl People {
    /// Stands on the backends of `conversations`.
    #[must_use]
    pub fn new(conversations: Conversations, host: Host) -> Self {
        let backends = &conversations.core.backends;
        Self {
            directory: Arc::clone(&backends.directory),
            bus: Arc::clone(&backends.bus),
            conversations,
            host,
        }
    }

    /// The users among `ids` that exist, by id.
    ///
    /// # Errors
    /// The directory cannot answer.
    pub async fn users(&self, ids: &[UserId]) -> Result<Vec<UserRecord>, Refusal> {
        self.directory.users(ids).await.map_err(not_read)
    }

    /// One user.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn user(&self, id: &UserId) -> Result<UserRecord, Refusal> {
        let found = self.users(std::slice::from_ref(id)).await?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| Refusal::not_done(Reason::NotFound, "no such user"))
    }

    /// Users after `after`, by id, and whether more follow; for integrators.
    ///
    /// # Errors
    /// The directory cannot answer.
    pub async fn list(&self, after: Option<&UserId>, limit: usize) -> Result<(Vec<UserRecord>, bool), Refusal> {
        // One more than asked tells whether more follow.
        let mut users = self.directory.list_users(after, limit + 1).await.map_err(not_read)?;
        let has_more = users.len() > limit;
        users.truncate(limit);
        Ok((users, has_more))
    }

    /// Creates a user or changes their name; may be repeated.
    ///
    /// # Errors
    /// The outcome is unknown when the directory fails.
    pub async fn upsert(&self, id: &UserId, display_name: &str) -> Result<UserRecord, Refusal> {
        let written = self.directory.upsert_user(id, display_name, self.now()).await;
        written.map_err(directory_refusal)
    }

    /// Deactivates a user, which ends all their streams, or brings them back; may be repeated.
    ///
    /// # Errors
    /// `NotFound` when there is none; the outcome is unknown when the directory fails.
    pub async fn set_deactivated(&self, id: &UserId, deactivated: bool) -> Result<UserRecord, Refusal> {
        let now = self.now();
        let written = self.directory.set_deactivated(id, deactivated, now).await;
        let user = written.map_err(directory_refusal)?;
        if deactivated {
            self.tell_revoked(id, None, now).await;
        }
        Ok(user)
    }

    /// Ends a user's streams and voids their tokens, or those of one device, which is removed; may be repeated. Tokens
    /// issued later work. Returns the time up to which tokens are void.
    ///
    /// # Errors
    /// `NotFound` when there is no such user; the outcome is unknown when the directory fails.
    pub async fn revoke_tokens(&self, id: &UserId, device: Option<DeviceId>) -> Result<UnixMillis, Refusal> {
        let now = self.now();
        if let Some(device) = &device {
            self.user(id).await?;
            let removed = self.directory.remove_device(id, device, now).await;
            removed.map_err(directory_refusal)?;
        } else {
            let revoked = self.directory.revoke_tokens(id, now).await;
            revoked.map_err(directory_refusal)?;
        }
        self.tell_revoked(id, device, now).await;
        Ok(now)
    }

    /// Blocks or unblocks; returns all whom the user blocks now. When it returns, their 1:1 obeys on this node, and sessions of
    /// both have been told to look again whom they may watch. May be repeated.
    ///
    /// # Errors
    /// `NotFound` for an unknown target, `LimitReached`; the outcome is unknown when the directory fails, or when their 1:1
    /// cannot learn of it.
    pub async fn set_block(&self, user: &UserId, target: &UserId, blocked: bool) -> Result<Vec<UserId>, Refusal> {
        if user == target {
            return Err(Refusal::invalid("user_id", "nobody can block themself"));
        }
        if blocked {
            self.refuse_too_many_blocks(user, target).await?;
        }
        self.ensure(user).await?;
        let written = self.directory.set_block(user, target, blocked).await;
        written.map_err(directory_refusal)?;
        for one in [user, target] {
            // Of no conversation: nothing of theirs changed that a list would show.
            let topic = Topic::User(one.clone());
            self.bus.publish(&topic, Event::OwnRow(NO_CONVERSATION)).await;
        }
        let obeyed = self.conversations.block_changed(user, target).await;
        obeyed.map_err(|refusal| Refusal::unknown(refusal.reason, "it may not count yet in the 1:1; set it again"))?;
        self.blocks(user).await
    }

    async fn refuse_too_many_blocks(&self, user: &UserId, target: &UserId) -> Result<(), Refusal> {
        let blocks = self.blocks(user).await?;
        if blocks.len() >= BLOCKS_MAX && !blocks.contains(target) {
            let message = format!("a user blocks at most {BLOCKS_MAX} others; nothing was changed");
            return Err(Refusal::not_done(Reason::LimitReached, message));
        }
        Ok(())
    }

    /// Whom a user has blocked, by id.
    ///
    /// # Errors
    /// The directory cannot answer.
    pub async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>, Refusal> {
        self.directory.blocks(user).await.map_err(not_read)
    }

    /// A user's devices, by id.
    ///
    /// # Errors
    /// The directory cannot answer.
    pub async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRecord>, Refusal> {
        self.directory.devices(user).await.map_err(not_read)
    }

    /// Removes a device, which ends its streams and the tokens bound to it; returns those that are left. May be repeated,
    /// and names also a device that never said hello: a token may be bound to it.
    ///
    /// # Errors
    /// `LimitReached` for a device that is not known when no more removals are remembered; the outcome is unknown when the
    /// directory fails.
    pub async fn remove_device(&self, user: &UserId, device: &DeviceId) -> Result<Vec<DeviceRecord>, Refusal> {
        // The directory remembers removals of known users only.
        self.ensure(user).await?;
        let now = self.now();
        let removed = self.directory.remove_device(user, device, now).await;
        removed.map_err(directory_refusal)?;
        // Also when it was not there: an earlier try may have stopped between the directory and the bus.
        self.tell_revoked(user, Some(device.clone()), now).await;
        self.devices(user).await
    }

    /// A user of an outside identity provider may call before their first stream made them known.
    async fn ensure(&self, user: &UserId) -> Result<(), Refusal> {
        let known = self.directory.ensure_user(user, self.now()).await;
        known.map(|_| ()).map_err(directory_refusal)
    }

    /// The quick way; every node also looks into the directory for what the bus lost.
    async fn tell_revoked(&self, user: &UserId, device: Option<DeviceId>, at: UnixMillis) {
        let event = Event::Revoked { device, at };
        self.bus.publish(&Topic::User(user.clone()), event).await;
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.host.clock.unix_ms())
    }
}
