//! Connections to other nodes: encrypted, with a certificate of one's own, to whoever has one of the names on the list.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use stonechat_host::{BoxedIo, Connector, Host};

use super::clients::is_named;
use super::files::{HostTime, authorities, certificates, private_key};
use super::{ClientRule, HANDSHAKE_WITHIN, TlsError, TlsFiles};

/// Encrypts what another connector opens, both sides showing a certificate. Files are read for each connection, so that
/// renewed ones are in use at once: lines between nodes are few and long.
pub struct NodeConnector {
    inner: Arc<dyn Connector>,
    files: TlsFiles,
    peers: ClientRule,
    host: Host,
}

impl NodeConnector {
    /// Checks the files once.
    ///
    /// # Errors
    /// They cannot be used.
    pub async fn open(
        inner: Arc<dyn Connector>,
        files: TlsFiles,
        peers: ClientRule,
        host: Host,
    ) -> Result<Self, TlsError> {
        let connector = Self {
            inner,
            files,
            peers,
            host,
        };
        connector.config().await.map(|_| connector)
    }

    async fn config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = authorities(&self.peers.authorities).await?;
        let algorithms = provider.signature_verification_algorithms;
        let named = NamedServers::new(roots, algorithms, self.peers.names.clone());
        let time = Arc::new(HostTime(Arc::clone(&self.host.clock)));
        let unusable = |error| TlsError::unusable(&self.files.certificate, error);
        let builder = ClientConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let chain = certificates(&self.files.certificate).await?;
        let key: PrivateKeyDer<'static> = private_key(&self.files.key).await?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(named));
        let mut config = builder.with_client_auth_cert(chain, key).map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

#[async_trait]
impl Connector for NodeConnector {
    async fn connect(&self, authority: &str) -> io::Result<BoxedIo> {
        let config = self.config().await.map_err(io::Error::other)?;
        let io = self.inner.connect(authority).await?;
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let encrypting = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, io);
        let encrypted = tokio::time::timeout(HANDSHAKE_WITHIN, encrypting).await;
        Ok(Box::new(encrypted.map_err(io::Error::other)??))
    }
}

/// Asks the authorities first, then the list. Where a node runs says nothing about who it is, so its address is not looked at;
/// nor is a name only one that DNS knows: a URI is as good.
#[derive(Debug)]
pub(super) struct NamedServers {
    authorities: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
    names: BTreeSet<String>,
}

impl NamedServers {
    pub(super) fn new(
        authorities: RootCertStore,
        algorithms: WebPkiSupportedAlgorithms,
        names: BTreeSet<String>,
    ) -> Self {
        Self {
            authorities,
            algorithms,
            names,
        }
    }
}

impl ServerCertVerifier for NamedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let by = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.authorities, intermediates, now, by)?;
        if is_named(end_entity, &self.names) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::NotValidForName.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
