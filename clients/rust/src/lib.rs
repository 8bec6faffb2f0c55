//! The Rust client of Stonechat: generated stubs and a session layer that keeps the promises across restarts.
//!
//! [`Client::connect`] gives a handle and a stream of events. Behind them one task holds the device's stream, sends the
//! outbox, repairs gaps and acknowledges what the app has stored. [`Unary`] calls services without a stream.

mod answer;
mod backoff;
mod client;
mod config;
mod error;
mod event;
mod id;
mod inbox;
mod outbox;
mod session;
mod store;
mod tls;
mod transport;
mod unary;

pub use answer::{Answer, settle};
pub use backoff::RetryPolicy;
pub use client::{Client, Events, Sent, text_content};
pub use config::{AccessToken, ClientConfig, ConfirmMode, StaticToken, TokenError, TokenProvider};
pub use error::{ClientError, RequestError};
pub use event::{DisconnectReason, Event};
pub use store::{ClientStore, FileStore, MemoryStore, QueuedOperation, Record, StoreError, Stored};
pub use tls::{Tls, TlsError};
pub use unary::{AuthorizedChannel, Credentials, DEVICE_METADATA, Unary, UnaryConfig};

/// The generated contract.
pub use stonechat_proto::{admin, v1};
