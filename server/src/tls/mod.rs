//! Encryption of listeners: certificates from files that may change, client certificates by authority and name, and a
//! deadline for handshakes; and whom to believe on lines to other nodes and to stores. One provider of cryptography, aws-lc-rs; TLS 1.2 and 1.3.

mod clients;
mod connector;
mod files;
mod handshake;
mod listener;
mod trust;

#[cfg(test)]
mod tests;

pub use connector::NodeConnector;
pub use listener::TlsListener;
pub use trust::Trust;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stonechat_host::Host;

/// Time for a handshake: four round trips on the slowest line, and short enough that silent peers cost little.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How often the files are looked at: a renewed certificate is in use before anybody waits for it.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Bytes of one file: a chain of ten, or a bundle of authorities, many times over.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a listener is encrypted with, as PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, followed by what leads to its authority.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Whom it lets in; `None`: everybody.
    pub clients: Option<ClientRule>,
}

/// The certificate that this process shows as a client, and its private key, as PEM files.
#[derive(Debug, Clone)]
pub struct TlsPair {
    /// The certificate, followed by what leads to its authority.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Clients must have a certificate.
#[derive(Debug, Clone)]
pub struct ClientRule {
    /// The authorities that may have signed it, as a PEM file.
    pub authorities: PathBuf,
    /// Subject alternative names (DNS names or URIs) of which it must have one, spelled alike.
    pub names: BTreeSet<String>,
}

/// Certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Its content is not what it should be.
    #[error("{path}: {why}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong; never its content.
        why: String,
    },
}

/// Whether the files can be used as they are; when the certificate expires, seconds since the Unix epoch.
///
/// # Errors
/// They cannot be read, or do not belong together.
pub async fn examine(files: &TlsFiles, host: &Host) -> Result<i64, TlsError> {
    Ok(files::make(files, host).await?.expires)
}

impl TlsError {
    fn unusable(path: &Path, why: impl ToString) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}
