//! What a client needs to know.

use std::sync::Arc;

use async_trait::async_trait;
use stonechat_host::{Connector, Host, TcpConnector};
use stonechat_proto::v1;

use crate::backoff::RetryPolicy;
use crate::store::{ClientStore, MemoryStore};
use crate::tls::Tls;

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The JWT.
    pub text: String,
    /// When it expires, milliseconds since the Unix epoch, when known: the next renewal is timed by it. When unknown, it
    /// is taken to live as long as the one before.
    pub expires_ms: Option<i64>,
}

/// No token could be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no token: {message}")]
pub struct TokenError {
    /// Why.
    pub message: String,
    /// True when asking again makes no sense until the user does something.
    pub permanent: bool,
}

/// Where tokens come from.
#[async_trait]
pub trait TokenProvider: Send + Sync {
    /// A token that is good now. `renew` asks for another one than was given before: it expires soon or was refused;
    /// giving the same again means there is no other.
    ///
    /// # Errors
    /// None can be had now, or at all.
    async fn token(&self, renew: bool) -> Result<AccessToken, TokenError>;
}

/// One token, which cannot be renewed.
pub struct StaticToken(pub String);

#[async_trait]
impl TokenProvider for StaticToken {
    async fn token(&self, _renew: bool) -> Result<AccessToken, TokenError> {
        Ok(AccessToken {
            text: self.0.clone(),
            expires_ms: None,
        })
    }
}

/// When a delivery counts as stored by the app, so that it may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConfirmMode {
    /// When the app asks for the event after it.
    #[default]
    NextEvent,
    /// When the app calls `confirm`.
    Explicit,
}

/// What a client needs to know. Cheap to clone.
#[derive(Clone)]
pub struct ClientConfig {
    /// `https://host:port`, or `http://host:port` without encryption.
    pub endpoint: String,
    /// Where tokens come from.
    pub tokens: Arc<dyn TokenProvider>,
    /// This installation: 1 to 64 characters of [A-Za-z0-9._:-], kept across restarts.
    pub device_id: String,
    /// Names a stream of the device; empty for the app itself.
    pub stream_name: String,
    /// What survives a restart of the app.
    pub store: Arc<dyn ClientStore>,
    /// Foreground or background at the start.
    pub app_state: v1::AppState,
    /// What to deliver from conversations in which this device has nothing yet.
    pub initial_backlog: v1::InitialBacklog,
    /// Name and version of the app, for the server's logs.
    pub client_name: String,
    /// Most deliveries unacknowledged at a time, 1 to 256; 0 for 256.
    pub window: u32,
    /// When a delivery counts as stored.
    pub confirm: ConfirmMode,
    /// True when the app keeps the conversation list itself, so that a new session need only list what changed.
    pub keeps_list: bool,
    /// How to space connection tries.
    pub connect_retry: RetryPolicy,
    /// How to space repeats of refused operations.
    pub operation_retry: RetryPolicy,
    /// Time and randomness.
    pub host: Host,
    /// Sockets.
    pub connector: Arc<dyn Connector>,
    /// Whom to trust on an `https://` endpoint.
    pub tls: Tls,
}

impl ClientConfig {
    /// A config with defaults: the machine's network, nothing kept across restarts.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, tokens: Arc<dyn TokenProvider>, device_id: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            tokens,
            device_id: device_id.into(),
            stream_name: String::new(),
            store: Arc::new(MemoryStore::default()),
            app_state: v1::AppState::Foreground,
            initial_backlog: v1::InitialBacklog::Everything,
            client_name: concat!("stonechat-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            window: 0,
            confirm: ConfirmMode::default(),
            keeps_list: true,
            connect_retry: RetryPolicy::CONNECT,
            operation_retry: RetryPolicy::OPERATION,
            host: Host::system(),
            connector: Arc::new(TcpConnector),
            tls: Tls::default(),
        }
    }
}
