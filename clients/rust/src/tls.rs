//! Encryption of `https://` endpoints: whom to trust, and as whom to appear.

use std::io;
use std::sync::{Arc, OnceLock};

use http::Uri;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use stonechat_host::BoxedIo;
use tokio_rustls::TlsConnector;

/// A certificate or key cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// Whom to trust on `https://` endpoints, and as whom to appear. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Settings>);

struct Settings {
    /// `None`: the authorities that the machine trusts.
    roots: Option<RootCertStore>,
    identity: Option<Identity>,
    /// Made at the first connection: reading the machine's authorities takes milliseconds.
    made: OnceLock<Result<Arc<rustls::ClientConfig>, TlsError>>,
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Default for Tls {
    /// Trusts the authorities that the machine trusts.
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Tls {
    fn new(roots: Option<RootCertStore>, identity: Option<Identity>) -> Self {
        Self(Arc::new(Settings {
            roots,
            identity,
            made: OnceLock::new(),
        }))
    }

    /// Trusts these authorities and no others, given as PEM.
    ///
    /// # Errors
    /// There is none, or one is malformed.
    pub fn trusting(authorities: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authorities)? {
            let added = roots.add(certificate);
            added.map_err(|error| TlsError(format!("not an authority: {error}")))?;
        }
        Ok(Self::new(Some(roots), None))
    }

    /// The same, appearing with a certificate where a server asks for one, given as PEM with what leads to its authority.
    ///
    /// # Errors
    /// Certificate or key are malformed.
    pub fn appearing_as(&self, certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key);
        let identity = Identity {
            chain: certificates(certificate)?,
            key: key.map_err(|error| TlsError(format!("no private key: {error}")))?,
        };
        let tls = Self::new(self.0.roots.clone(), Some(identity));
        tls.config().map(|_| tls.clone())
    }

    fn config(&self) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        self.0.made.get_or_init(|| make(&self.0)).clone()
    }

    /// Encrypts a connection to the host of an endpoint.
    pub(crate) async fn encrypt(&self, io: BoxedIo, endpoint: &Uri) -> io::Result<BoxedIo> {
        let config = self.config().map_err(io::Error::other)?;
        let host = endpoint.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let encrypted = TlsConnector::from(config).connect(name, io).await?;
        Ok(Box::new(encrypted))
    }
}

fn make(settings: &Settings) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let unusable = |error: rustls::Error| TlsError(format!("not usable: {error}"));
    let roots = match &settings.roots {
        Some(roots) => roots.clone(),
        None => of_machine()?,
    };
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key }) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn of_machine() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found
            .errors
            .first()
            .map_or_else(String::new, |error| format!(": {error}"));
        return Err(TlsError(format!("the machine trusts no authority{why}; name one")));
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| TlsError(format!("no certificates: {error}")))?;
    if found.is_empty() {
        return Err(TlsError("there is no certificate".to_owned()));
    }
    Ok(found)
}
