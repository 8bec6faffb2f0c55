//! Lines to the servers, encrypted: only who has a certificate of the authority, and of the name or address, gets the password
//! and the messages (I11).

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use stonechat_host::Host;

use super::keyspaces::{open, options};
use crate::storage::contract::services::{CQL_AUTHORITY, service};
use crate::storage::cql::{BUCKET_SEQS, CqlOptions, CqlStore};
use crate::tls::Trust;

/// What the certificate of the tests' servers has besides its addresses.
const NAME: &str = "spiffe://cql.test/node";

async fn trusting(options: &CqlOptions, authority: &Path, names: &[&str]) -> CqlOptions {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let trust = Trust::read(authority, &names, None, &Host::system()).await;
    CqlOptions {
        trust: Some(trust.expect("an authority")),
        ..options.clone()
    }
}

async fn refusal(options: CqlOptions) -> String {
    let opened = CqlStore::open(options, &Host::system()).await;
    opened.err().expect("refused").to_string()
}

#[tokio::test]
async fn i11_only_certified_servers_are_spoken_to() {
    let (Some(options), Some(authority)) = (options(BUCKET_SEQS).await, service(CQL_AUTHORITY)) else {
        return;
    };
    let authority = Path::new(&authority);
    // Opening appends for real, and reads back.
    let _keeps_the_keyspace = open(&trusting(&options, authority, &[]).await).await;
    drop(open(&trusting(&options, authority, &["other.test", NAME]).await).await);

    let misnamed = refusal(trusting(&options, authority, &["other.test"]).await).await;
    assert!(misnamed.contains("certificate"), "{misnamed}");

    let folder = tempfile::tempdir().expect("a temporary folder");
    let strange = folder.path().join("authority.pem");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::default().self_signed(&key).expect("a certificate");
    std::fs::write(&strange, certificate.pem()).expect("written");
    let unsigned = refusal(trusting(&options, &strange, &[NAME]).await).await;
    assert!(unsigned.contains("certificate"), "{unsigned}");
}
