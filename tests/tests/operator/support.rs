//! Plain requests to a port, metrics as they are read, and certificates.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use stonechat_host::{Connector, TcpConnector};
use stonechat_tests::harness::{PATIENCE, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An address for operators, and the flag that sets it.
pub(crate) struct Port {
    pub(crate) authority: String,
}

impl Port {
    pub(crate) fn free() -> Self {
        Self {
            authority: format!("127.0.0.1:{}", free_port()),
        }
    }

    /// The whole answer to a GET.
    pub(crate) async fn get(&self, path: &str) -> String {
        get(&self.authority, path).await
    }

    /// The value of a metric with its labels, as Prometheus reads it.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        value(&self.get("/metrics").await, name)
    }

    /// Waits until a metric has a value: some are recorded after what they are about was seen.
    pub(crate) async fn until(&self, name: &str, wanted: f64) {
        let looks = async {
            while (self.metric(name).await - wanted).abs() > f64::EPSILON {
                tokio::task::yield_now().await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, looks).await;
        assert!(came.is_ok(), "{name} is {} and not {wanted}", self.metric(name).await);
    }
}

pub(crate) fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("{name} is not in\n{page}"));
    line.parse().expect("a number")
}

pub(crate) async fn get(authority: &str, path: &str) -> String {
    let mut stream = TcpConnector.connect(authority).await.expect("a port");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate and its key, as PEM.
    pub(crate) fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// Puts a text into a file.
pub(crate) fn put(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path
}
