//! Whom this process believes as a client of its stores: authorities of the operator's own, instead of the public ones.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use stonechat_host::Host;

use super::TlsError;
use super::connector::NamedServers;
use super::files::{HostTime, read, roots};

/// Authorities that vouch for the servers of a store, as they were when the file was read.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    pem: Arc<[u8]>,
}

impl Trust {
    /// Reads a PEM file. A server's certificate must be signed by one of its authorities, and have one of `names` (DNS names or
    /// URIs); without names it must have the address that was asked for.
    ///
    /// # Errors
    /// The file cannot be read, or holds no authority.
    pub async fn read(path: &Path, names: &[String], host: &Host) -> Result<Self, TlsError> {
        let pem = read(path).await?;
        let config = client_config(roots(path, &pem)?, names, host).map_err(|error| TlsError::unusable(path, error))?;
        Ok(Self {
            config: Arc::new(config),
            pem: pem.into(),
        })
    }

    /// For clients that take such settings.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The file, for clients that make their own; names are not in it.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

fn client_config(roots: RootCertStore, names: &[String], host: &Host) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let time = Arc::new(HostTime(Arc::clone(&host.clock)));
    let builder = ClientConfig::builder_with_details(provider, time).with_safe_default_protocol_versions()?;
    let names: BTreeSet<String> = names.iter().cloned().collect();
    if names.is_empty() {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let named = Arc::new(NamedServers::new(roots, algorithms, names));
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(named)
        .with_no_client_auth())
}
