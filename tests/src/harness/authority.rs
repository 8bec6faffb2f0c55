//! Certificates of nodes and services, made for one test.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// An authority that signs nodes and services, and the folder of what it signed.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// There is no room for a folder.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "nodes");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        fs::write(folder.path().join("authority.pem"), pem).expect("written");
        Self {
            issuer: Issuer::new(params, key),
            folder,
        }
    }

    /// Signs a node under a URI, and gives the flags with which it shows that to others and asks it of them.
    ///
    /// # Panics
    /// The folder cannot be written.
    #[must_use]
    pub fn flags(&self, file: &str, uri: &str, asks: &str) -> Vec<String> {
        let (pem, secret) = self.sign(file, SanType::URI(uri.try_into().expect("a name")));
        let flag = |name: &str, value: &Path| [format!("--node-{name}"), value.display().to_string()];
        [
            flag("certificate", &pem),
            flag("key", &secret),
            flag("ca", &self.file()),
            flag("names", Path::new(asks)),
        ]
        .concat()
    }

    /// Signs a service on loopback: the files of its certificate and key.
    ///
    /// # Panics
    /// The folder cannot be written.
    #[must_use]
    pub fn service(&self, file: &str) -> (PathBuf, PathBuf) {
        self.sign(file, SanType::IpAddress(Ipv4Addr::LOCALHOST.into()))
    }

    fn sign(&self, file: &str, name: SanType) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.subject_alt_names = vec![name];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (pem, secret) = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        fs::write(&pem, certificate.pem()).expect("written");
        fs::write(&secret, key.serialize_pem()).expect("written");
        (pem, secret)
    }

    /// Its own certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.path("authority.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
