//! An identity provider of its own key, which publishes it over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use stonechat_host::{Listener, TcpListener};
use stonechat_tests::harness::{Claims, base64};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The provider; it ends with this.
pub(crate) struct Issuer {
    key: Ed25519KeyPair,
    address: String,
    requests: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let key = Ed25519KeyPair::generate().expect("a key");
        let public = base64(key.public_key().as_ref());
        let set = json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "key-1", "x": public },
            { "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "key-2", "x": public },
        ]});
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let body = set.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            while let Ok((mut io, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = io.read_u8().await else { break };
                    head.push(byte);
                }
                counted.fetch_add(1, Ordering::SeqCst);
                // Who hung up needs no answer.
                let _ = io.write_all(answer.as_bytes()).await;
            }
        });
        Self {
            key,
            address,
            requests,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Signs claims under any key id.
    pub(crate) fn sign(&self, kid: &str, claims: &Claims) -> String {
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid }).to_string();
        let claims = serde_json::to_string(claims).expect("claims");
        let signed = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", base64(signature.as_ref()))
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
