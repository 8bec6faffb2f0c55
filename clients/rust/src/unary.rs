//! Services without a stream: the generated clients with the caller's token on every call.

use std::sync::Arc;

use stonechat_host::{Connector, TcpConnector};
use stonechat_proto::admin::v1::conversation_admin_service_client::ConversationAdminServiceClient;
use stonechat_proto::admin::v1::message_admin_service_client::MessageAdminServiceClient;
use stonechat_proto::admin::v1::token_admin_service_client::TokenAdminServiceClient;
use stonechat_proto::admin::v1::user_admin_service_client::UserAdminServiceClient;
use stonechat_proto::v1::conversation_service_client::ConversationServiceClient;
use stonechat_proto::v1::device_service_client::DeviceServiceClient;
use stonechat_proto::v1::message_service_client::MessageServiceClient;
use stonechat_proto::v1::presence_service_client::PresenceServiceClient;
use stonechat_proto::v1::receipt_service_client::ReceiptServiceClient;
use stonechat_proto::v1::user_service_client::UserServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::error::RequestError;
use crate::tls::Tls;

/// Metadata key that names the calling device.
pub const DEVICE_METADATA: &str = "stonechat-device-id";
/// Largest answer decoded: eight history pages.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A channel that carries the caller's token.
pub type AuthorizedChannel = InterceptedService<Channel, Credentials>;

/// Puts token and device on every call.
#[derive(Clone)]
pub struct Credentials {
    authorization: MetadataValue<Ascii>,
    device: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        if let Some(device) = &self.device {
            metadata.insert(DEVICE_METADATA, device.clone());
        }
        Ok(request)
    }
}

/// Whom to call, and as whom.
#[derive(Clone)]
pub struct UnaryConfig {
    /// `https://host:port`, or `http://host:port` without encryption.
    pub endpoint: String,
    /// The bearer token.
    pub token: String,
    /// The calling device; `None` for an integrator's backend.
    pub device_id: Option<String>,
    /// Sockets.
    pub connector: Arc<dyn Connector>,
    /// Whom to trust on an `https://` endpoint.
    pub tls: Tls,
}

impl UnaryConfig {
    /// Over the machine's network.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            token: token.into(),
            device_id: None,
            connector: Arc::new(TcpConnector),
            tls: Tls::default(),
        }
    }
}

/// The unary services over one connection. Cheap to clone.
#[derive(Clone)]
pub struct Unary {
    channel: Channel,
    credentials: Credentials,
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident -> $client:ident;)*) => {
        impl Unary {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(&self) -> $client<AuthorizedChannel> {
                    $client::with_interceptor(self.channel.clone(), self.credentials.clone())
                        .max_decoding_message_size(ANSWER_BYTES_MAX)
                }
            )*
        }
    };
}

services! {
    /// Sends, edits, history.
    messages -> MessageServiceClient;
    /// Conversations and members.
    conversations -> ConversationServiceClient;
    /// Receipts and unread.
    receipts -> ReceiptServiceClient;
    /// Presence and typing.
    presence -> PresenceServiceClient;
    /// Users and blocks.
    users -> UserServiceClient;
    /// The caller's devices.
    devices -> DeviceServiceClient;
    /// Users, for integrators.
    admin_users -> UserAdminServiceClient;
    /// Tokens, for integrators.
    admin_tokens -> TokenAdminServiceClient;
    /// Conversations, for integrators.
    admin_conversations -> ConversationAdminServiceClient;
    /// Messages, for integrators.
    admin_messages -> MessageAdminServiceClient;
}

impl Unary {
    /// Connects.
    ///
    /// # Errors
    /// Malformed endpoint or token, or nobody there; nothing was done.
    pub async fn connect(config: UnaryConfig) -> Result<Self, RequestError> {
        let endpoint = crate::transport::endpoint(&config.endpoint).map_err(not_sent)?;
        let channel = crate::transport::channel(&endpoint, config.connector, config.tls).await?;
        Self::over(channel, &config.token, config.device_id.as_deref())
    }

    pub(crate) fn over(channel: Channel, token: &str, device: Option<&str>) -> Result<Self, RequestError> {
        let mut authorization: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(not_sent)?;
        // Keeps the token out of debug output.
        authorization.set_sensitive(true);
        let device = device.map(str::parse).transpose().map_err(not_sent)?;
        let credentials = Credentials { authorization, device };
        Ok(Self { channel, credentials })
    }
}

fn not_sent(error: impl std::fmt::Display) -> RequestError {
    RequestError::NotSent(error.to_string())
}
