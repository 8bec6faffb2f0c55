//! How commands reach a server, and as whom.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use stonechat_client::{
    AccessToken, Client, ClientConfig, DisconnectReason, Event, Events, FileStore, StaticToken, Tls, TlsError,
    TokenError, TokenProvider, Unary, UnaryConfig, v1,
};
use stonechat_host::Host;

use super::failure::Failure;
use super::text;
use crate::auth::{AuthOptions, Authenticator, Secret};
use crate::config::{Config, ConfigFlags};
use crate::domain::UserId;
use crate::storage::memory::directory::MemoryDirectory;

/// Life of tokens minted for the command itself: it renews them.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
/// Every admin scope.
pub(super) const ADMIN_SCOPES: [&str; 4] = ["admin.users", "admin.tokens", "admin.conversations", "admin.messages"];
/// Name under which this command acts as an integrator.
const ADMIN_SUBJECT: &str = "stonechat-cli";

/// Which server, and with which token.
#[derive(Debug, Clone, Args)]
pub(super) struct ServerFlags {
    /// Server to talk to, http:// or https:// [default: the listen address of the settings, http://127.0.0.1:7400]
    #[arg(long, global = true, value_name = "URL", env = "STONECHAT_SERVER")]
    server: Option<String>,
    /// Token to use; without one it is minted with the secret in the data folder
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "STONECHAT_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// Data folder of the server, to mint a token [default: ./stonechat-data]
    #[arg(long, global = true, value_name = "FOLDER", alias = "data")]
    data_folder: Option<String>,
    /// Authorities to trust on https:// [default: those that the machine trusts]
    #[arg(long, global = true, value_name = "FILE", env = "STONECHAT_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Certificate to appear with where a server asks for one
    #[arg(long, global = true, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// Private key of that certificate
    #[arg(long, global = true, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// TOML file with the server's settings
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Which server, and as which user and device.
#[derive(Debug, Clone, Args)]
pub(super) struct UserFlags {
    #[command(flatten)]
    server: ServerFlags,
    /// User to act as; a token given says it by itself
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// Device to act as [default: one per command]
    #[arg(long, value_name = "ID")]
    device: Option<String>,
}

impl ServerFlags {
    fn settings(&self) -> Result<Config, Failure> {
        let flags = ConfigFlags {
            config: self.config.clone(),
            data_folder: self.data_folder.clone(),
            ..ConfigFlags::default()
        };
        Ok(Config::load(&flags)?)
    }

    fn endpoint(&self, settings: &Config) -> String {
        self.server.clone().unwrap_or_else(|| endpoint_of(settings))
    }

    /// Where the admin services are.
    fn admin_endpoint(&self, settings: &Config) -> String {
        self.server.clone().unwrap_or_else(|| admin_endpoint_of(settings))
    }

    fn tls(&self) -> Result<Tls, Failure> {
        let tls = match &self.ca_file {
            Some(path) => Tls::trusting(&read(path)?).map_err(|error| unusable(path, &error))?,
            None => Tls::default(),
        };
        match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => tls
                .appearing_as(&read(certificate)?, &read(key)?)
                .map_err(|error| unusable(certificate, &error)),
            _ => Ok(tls),
        }
    }

    /// The admin services.
    pub(super) async fn admin(&self) -> Result<Unary, Failure> {
        let settings = self.settings()?;
        let scopes = ADMIN_SCOPES.iter().map(ToString::to_string).collect();
        let tokens = self.tokens(&settings, Some(ADMIN_SUBJECT), scopes)?;
        let config = UnaryConfig {
            tls: self.tls()?,
            ..UnaryConfig::new(self.admin_endpoint(&settings), current(&tokens).await?)
        };
        Ok(Unary::connect(config).await?)
    }

    fn tokens(
        &self,
        settings: &Config,
        user: Option<&str>,
        scopes: BTreeSet<String>,
    ) -> Result<Arc<dyn TokenProvider>, Failure> {
        if let Some(token) = &self.token {
            return Ok(Arc::new(StaticToken(token.clone())));
        }
        let user = user.ok_or_else(|| Failure::usage("say who you are: --as USER, or --token TOKEN"))?;
        Ok(Arc::new(Mint {
            authenticator: authenticator(settings)?,
            user: UserId::parse(user)?,
            scopes,
        }))
    }
}

/// Where a server with these settings is reached from the same machine.
pub(super) fn endpoint_of(settings: &Config) -> String {
    local(settings.listen, settings.tls_certificate.is_some())
}

/// The same for its admin services.
pub(super) fn admin_endpoint_of(settings: &Config) -> String {
    match settings.operator_listen {
        Some(address) if settings.admin_on_operator => local(address, settings.operator_client_ca.is_some()),
        _ => endpoint_of(settings),
    }
}

fn local(mut address: SocketAddr, is_encrypted: bool) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if is_encrypted { "https" } else { "http" };
    format!("{scheme}://{address}")
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn unusable(path: &Path, error: &TlsError) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

/// Issues tokens with the secret of a data folder. It never makes a secret: there is none before the first start.
pub(super) fn authenticator(settings: &Config) -> Result<Authenticator, Failure> {
    if settings.jwks_file.is_some() || settings.jwks_url.is_some() {
        return Err(Failure::usage(
            "an identity provider issues the tokens of this server: give one with --token",
        ));
    }
    let secret = Secret::load(&settings.data_folder)
        .map_err(|error| Failure::refused(format!("no token: {error}; start the server once, or give --token")))?;
    let options = AuthOptions {
        issuer: settings.issuer.clone(),
        audience: settings.audience.clone(),
        require_known_users: false,
    };
    // Issuing asks no directory.
    let directory = Arc::new(MemoryDirectory::new());
    Ok(Authenticator::with_secret(secret, options, directory, Host::system()))
}

/// Mints tokens for one user.
struct Mint {
    authenticator: Authenticator,
    user: UserId,
    scopes: BTreeSet<String>,
}

#[async_trait]
impl TokenProvider for Mint {
    async fn token(&self, _renew: bool) -> Result<AccessToken, TokenError> {
        let issued = self.authenticator.issue(&self.user, None, &self.scopes, TOKEN_LIFE);
        let issued = issued.map_err(|refusal| TokenError {
            message: refusal.message,
            permanent: true,
        })?;
        Ok(AccessToken {
            text: issued.token.expose().clone(),
            expires_ms: Some(issued.expires.0),
        })
    }
}

async fn current(tokens: &Arc<dyn TokenProvider>) -> Result<String, Failure> {
    let token = tokens
        .token(false)
        .await
        .map_err(|error| Failure::refused(error.to_string()))?;
    Ok(token.text)
}

impl UserFlags {
    /// The unary services as the user; `device` is the command's own.
    pub(super) async fn unary(&self, device: &str) -> Result<Unary, Failure> {
        let settings = self.server.settings()?;
        let tokens = self.server.tokens(&settings, self.user.as_deref(), BTreeSet::new())?;
        let config = UnaryConfig {
            device_id: Some(self.device.as_deref().unwrap_or(device).to_owned()),
            tls: self.server.tls()?,
            ..UnaryConfig::new(self.server.endpoint(&settings), current(&tokens).await?)
        };
        Ok(Unary::connect(config).await?)
    }

    /// A session as the user, after its welcome.
    pub(super) async fn session(&self, options: SessionOptions<'_>) -> Result<Session, Failure> {
        let settings = self.server.settings()?;
        let tokens = self.server.tokens(&settings, self.user.as_deref(), BTreeSet::new())?;
        let device = self.device.as_deref().unwrap_or(options.device);
        let mut config = ClientConfig::new(self.server.endpoint(&settings), tokens, device);
        config.tls = self.server.tls()?;
        config.initial_backlog = options.backlog;
        config.keeps_list = false;
        config.client_name = concat!("stonechat-cli/", env!("CARGO_PKG_VERSION")).to_owned();
        if let Some(path) = options.state {
            config.store = Arc::new(FileStore::open(path).map_err(|error| Failure::refused(error.to_string()))?);
        }
        let (client, mut events) = Client::connect(config).await?;
        let welcome = welcome(&mut events).await?;
        Ok(Session {
            client,
            events,
            user: welcome.user_id,
            device: device.to_owned(),
        })
    }
}

/// What a command wants of its session.
pub(super) struct SessionOptions<'a> {
    /// The command's own device.
    pub(super) device: &'a str,
    /// What to deliver at first.
    pub(super) backlog: v1::InitialBacklog,
    /// File that keeps the outbox and positions; none for a session that keeps nothing.
    pub(super) state: Option<&'a PathBuf>,
}

/// A session after its welcome.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) events: Events,
    pub(super) user: String,
    pub(super) device: String,
}

/// The first try decides: a person at the terminal wants to know that nobody is there.
async fn welcome(events: &mut Events) -> Result<v1::Welcome, Failure> {
    while let Some(event) = events.next().await {
        match event {
            Event::Connected(welcome) => return Ok(*welcome),
            Event::Disconnected { reason, .. } => return Err(no_session(&reason)),
            _ => {}
        }
    }
    Err(Failure::refused("the client ended"))
}

/// No session at the start: nothing was done.
pub(super) fn no_session(reason: &DisconnectReason) -> Failure {
    let text = text::disconnect(reason);
    if text.contains("cannot connect") {
        return Failure::refused(format!(
            "{text}; start a server with `stonechat serve` or `stonechat demo`"
        ));
    }
    Failure::refused(text)
}
