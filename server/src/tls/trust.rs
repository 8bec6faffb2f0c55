//! Whom this process believes as a client of its stores: authorities of the operator's own, instead of the public ones; and who it
//! is to them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use stonechat_host::Host;

use super::connector::NamedServers;
use super::files::{HostTime, certificates_in, private_key_in, read, roots};
use super::{TlsError, TlsPair};

/// Authorities that vouch for the servers of a store, as they were when the file was read.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    pem: Arc<[u8]>,
    shown: Option<Arc<Shown>>,
}

/// What is shown to servers, as the files had it.
#[derive(Clone)]
pub struct Shown {
    /// The certificate, PEM.
    pub certificate: Vec<u8>,
    /// Its private key, PEM.
    pub key: Vec<u8>,
}

impl Trust {
    /// Reads a PEM file. A server's certificate must be signed by one of its authorities, and have one of `names` (DNS names or
    /// URIs); without names it must have the address that was asked for. To servers that ask who this is, `pair` is shown.
    ///
    /// # Errors
    /// A file cannot be read, there is no authority in it, or certificate and key do not belong together.
    pub async fn read(path: &Path, names: &[String], pair: Option<&TlsPair>, host: &Host) -> Result<Self, TlsError> {
        let pem = read(path).await?;
        let builder = verifying(roots(path, &pem)?, names, host).map_err(|error| TlsError::unusable(path, error))?;
        let (config, shown) = match pair {
            None => (builder.with_no_client_auth(), None),
            Some(pair) => {
                let (config, shown) = showing(builder, pair).await?;
                (config, Some(Arc::new(shown)))
            }
        };
        Ok(Self {
            config: Arc::new(config),
            pem: pem.into(),
            shown,
        })
    }

    /// What is shown to servers, for clients that make settings of their own.
    #[must_use]
    pub fn shown(&self) -> Option<&Shown> {
        self.shown.as_deref()
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

type Verifying = ConfigBuilder<ClientConfig, WantsClientCert>;

fn verifying(roots: RootCertStore, names: &[String], host: &Host) -> Result<Verifying, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let time = Arc::new(HostTime(Arc::clone(&host.clock)));
    let builder = ClientConfig::builder_with_details(provider, time).with_safe_default_protocol_versions()?;
    let names: BTreeSet<String> = names.iter().cloned().collect();
    if names.is_empty() {
        return Ok(builder.with_root_certificates(roots));
    }
    let named = Arc::new(NamedServers::new(roots, algorithms, names));
    Ok(builder.dangerous().with_custom_certificate_verifier(named))
}

/// Settings with which the pair is shown: refused here when its halves do not belong together, not by each server.
async fn showing(builder: Verifying, pair: &TlsPair) -> Result<(ClientConfig, Shown), TlsError> {
    let shown = Shown {
        certificate: read(&pair.certificate).await?,
        key: read(&pair.key).await?,
    };
    let chain = certificates_in(&pair.certificate, &shown.certificate)?;
    let key = private_key_in(&pair.key, &shown.key)?;
    let config = builder.with_client_auth_cert(chain, key);
    let config = config.map_err(|error| TlsError::unusable(&pair.key, format!("not usable: {error}")))?;
    Ok((config, shown))
}
