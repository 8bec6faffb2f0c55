//! Where devices arrive: the listener, one task per device stream, and browsers. No business rules.
//!
//! A stream's way: `listener` (a connection, if `edge` lets it in) → `router` (HTTP: page, health, rpcs) → `service` (the session rpcs) →
//! `session` (the task that speaks the protocol) → `api::Operations` and `conversation`.

mod codec;
mod connection;
pub mod edge;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod lanes;
pub mod limits;
mod listener;
mod operations;
mod resume;
mod revocations;
mod router;
mod service;
mod session;
mod sessions;
mod web;

#[cfg(test)]
mod tests;

pub use listener::{Serving, serve};
pub use router::{Web, gated, router};
pub use service::SessionService;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use stonechat_host::Host;

use self::edge::Edge;
use self::resume::Resumes;
use self::sessions::Sessions;
use crate::api::Operations;
use crate::auth::Authenticator;
use crate::bus::Bus;
use crate::conversation::Conversations;
use crate::presence::Presence;
use crate::storage::Directory;

/// What the gateway stands on.
pub struct Foundation {
    /// The operations that frames ask for.
    pub operations: Operations,
    /// The rules, for lists, reads and acks of sessions.
    pub conversations: Conversations,
    /// Presence.
    pub presence: Presence,
    /// Users and devices.
    pub directory: Arc<dyn Directory>,
    /// Live events.
    pub bus: Arc<dyn Bus>,
    /// Tokens.
    pub authenticator: Arc<Authenticator>,
    /// Time and randomness.
    pub host: Host,
    /// Whether a user with a good token is created at their first hello.
    pub create_users: bool,
    /// The node's limits.
    pub edge: Arc<Edge>,
    /// Frames a second that one stream may send in the long run; acks are not counted.
    pub frames_per_second: u32,
}

/// Everything the sessions of a node share.
pub struct Gateway {
    on: Foundation,
    sessions: Arc<Sessions>,
    resumes: Resumes,
    /// Something of the machine is wrong: streams go on, but nobody new is sent here.
    unfit: AtomicBool,
}

impl Gateway {
    /// Stands on this.
    #[must_use]
    pub fn new(on: Foundation) -> Arc<Self> {
        Arc::new(Self {
            on,
            sessions: Arc::default(),
            resumes: Resumes::default(),
            unfit: AtomicBool::new(false),
        })
    }

    /// Open sessions of this node.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.count()
    }

    /// Why new clients are not to be sent here, if they are not.
    #[must_use]
    pub fn unready(&self) -> Option<&'static str> {
        if self.sessions.is_draining() {
            return Some("draining\n");
        }
        let unfit = self.unfit.load(Ordering::Relaxed);
        unfit.then_some("the clock of this node is too far from the other nodes'\n")
    }

    /// Says that this node's clock may, or may not, be believed. Open streams go on either way.
    pub fn trust_clock(&self, trusted: bool) {
        self.unfit.store(!trusted, Ordering::Relaxed);
    }

    /// Its time and randomness.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.on.host
    }

    /// Puts the node's date on every answer of a router.
    pub fn dated(&self, pages: Router) -> Router {
        router::dated(pages, &self.on.host)
    }

    /// Ends every session with the reason draining, and new ones too; returns when all of them have ended.
    pub async fn drain(&self) {
        self.sessions.drain().await;
    }
}
