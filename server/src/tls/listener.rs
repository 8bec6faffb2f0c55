//! A listener whose connections are encrypted, with certificates as the files have them now.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use rustls::ServerConfig;
use stonechat_host::{BoxedIo, FileStamp, Host, Listener};
use tokio::task::JoinHandle;

use super::files::{self, Made};
use super::handshake::Encrypted;
use super::{LOOK_EVERY, TlsError, TlsFiles};
use crate::telemetry::meters::{Port, Reload, meters};

/// Settings in use.
type Current = Arc<RwLock<Arc<ServerConfig>>>;

/// Encrypts what another listener accepts. Open connections keep the certificate they began with.
pub struct TlsListener {
    inner: Arc<dyn Listener>,
    current: Current,
    watching: JoinHandle<()>,
}

impl TlsListener {
    /// Reads the files, and looks at them again and again as long as it lives: when they changed and are good, later
    /// connections get the new ones; when they are not, the last good ones stay.
    ///
    /// # Errors
    /// They cannot be used.
    pub async fn open(inner: Arc<dyn Listener>, port: Port, files: TlsFiles, host: Host) -> Result<Self, TlsError> {
        let seen = files::stamps(&files).await;
        let made = files::make(&files, &host).await?;
        announce(port, &made, &files, &host);
        let current: Current = Arc::new(RwLock::new(made.config));
        let watching = tokio::spawn(watch(Arc::clone(&current), port, files, host, seen));
        Ok(Self {
            inner,
            current,
            watching,
        })
    }
}

#[async_trait]
impl Listener for TlsListener {
    async fn accept(&self) -> io::Result<(BoxedIo, SocketAddr)> {
        let (io, peer) = self.inner.accept().await?;
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        Ok((Box::new(Encrypted::begin(io, config)), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn watch(current: Current, port: Port, files: TlsFiles, host: Host, mut seen: Vec<Option<FileStamp>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let stamps = files::stamps(&files).await;
        if stamps == seen {
            continue;
        }
        seen = stamps;
        match files::make(&files, &host).await {
            Ok(made) => {
                announce(port, &made, &files, &host);
                *current.write().unwrap_or_else(PoisonError::into_inner) = made.config;
                meters().tls_reloads.inc(Reload::Used);
            }
            Err(error) => {
                meters().tls_reloads.inc(Reload::Failed);
                tracing::error!(%error, "changed certificate files cannot be used, the last good ones stay in use");
            }
        }
    }
}

fn announce(port: Port, made: &Made, files: &TlsFiles, host: &Host) {
    let certificate = files.certificate.display();
    if made.expires <= host.clock.unix_ms() / 1_000 {
        tracing::error!(%certificate, expired = made.expires, "the certificate has expired, clients will refuse it");
    } else {
        tracing::info!(%certificate, expires = made.expires, "certificate in use");
    }
    meters().tls_certificate_expires.of(port).set(made.expires);
}
