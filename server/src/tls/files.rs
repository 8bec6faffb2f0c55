//! From PEM files to a server's settings, and what tells that the files changed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use stonechat_host::{Clock, FileStamp, Host};
use tokio::io::AsyncReadExt;

use super::clients::NamedClients;
use super::{ClientRule, FILE_BYTES_MAX, TlsError, TlsFiles};

/// What HTTP clients may ask for, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Certificates are good or not by the node's clock.
pub(super) struct HostTime(pub(super) Arc<dyn Clock>);

impl std::fmt::Debug for HostTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostTime")
    }
}

impl TimeProvider for HostTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since = u64::try_from(self.0.unix_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(since)))
    }
}

/// The stamps of all files; a file that is not there has none.
pub(super) async fn stamps(files: &TlsFiles) -> Vec<Option<FileStamp>> {
    let mut stamps = Vec::new();
    let authorities = files.clients.as_ref().map(|clients| &clients.authorities);
    for path in [&files.certificate, &files.key].into_iter().chain(authorities) {
        stamps.push(tokio::fs::metadata(path).await.ok().as_ref().map(FileStamp::from));
    }
    stamps
}

/// Settings made of files.
pub(super) struct Made {
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate expires, seconds since the Unix epoch.
    pub(super) expires: i64,
}

/// Reads the files.
pub(super) async fn make(files: &TlsFiles, host: &Host) -> Result<Made, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates(&files.certificate).await?;
    let expires = expiry(&chain).map_err(|why| TlsError::unusable(&files.certificate, why))?;
    let key = private_key(&files.key).await?;
    let pair = CertifiedKey::from_der(chain, key, &provider);
    let pair = pair.map_err(|error| TlsError::unusable(&files.key, format!("not usable: {error}")))?;
    let time = Arc::new(HostTime(Arc::clone(&host.clock)));
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), time);
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]);
    let builder = builder.map_err(|error| TlsError::unusable(&files.certificate, error))?;
    let resolver = Arc::new(SingleCertAndKey::from(pair));
    let mut config = match &files.clients {
        None => builder.with_no_client_auth().with_cert_resolver(resolver),
        Some(rule) => {
            let verifier = Arc::new(verifier(rule, provider).await?);
            builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver)
        }
    };
    if files.clients.is_some() {
        // A resumed session would not be checked again: not against new authorities, not by the time.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Made {
        config: Arc::new(config),
        expires,
    })
}

async fn verifier(rule: &ClientRule, provider: Arc<CryptoProvider>) -> Result<NamedClients, TlsError> {
    let roots = authorities(&rule.authorities).await?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| TlsError::unusable(&rule.authorities, error))?;
    Ok(NamedClients::new(verifier, rule.names.clone()))
}

/// Authorities that may vouch for somebody.
pub(super) async fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    roots(path, &read(path).await?)
}

/// The same of what a file holds.
pub(super) fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in(path, pem)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::unusable(path, format!("not an authority: {error}")))?;
    }
    Ok(roots)
}

pub(super) async fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    private_key_in(path, &read(path).await?)
}

/// The same of what a file holds.
pub(super) fn private_key_in(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| TlsError::unusable(path, format!("no private key: {error}")))
}

pub(super) async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates_in(path, &read(path).await?)
}

/// The same of what a file holds.
pub(super) fn certificates_in(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| TlsError::unusable(path, format!("no certificates: {error}")))?;
    if found.is_empty() {
        return Err(TlsError::unusable(path, "holds no certificate"));
    }
    Ok(found)
}

fn expiry(chain: &[CertificateDer<'_>]) -> Result<i64, String> {
    let first = chain.first().ok_or("holds no certificate")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|error| error.to_string())?;
    Ok(parsed.validity().not_after.timestamp())
}

pub(super) async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    let taken = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).await;
    taken.map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::unusable(path, "is longer than 1 MiB"));
    }
    Ok(bytes)
}
