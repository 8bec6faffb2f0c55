//! An identity provider on a port of this machine: a real HTTP server whose answers a test chooses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use stonechat_host::{BoxedIo, Listener, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::forge::{Signer, key_set};
use crate::auth::jwks::Timing;
use crate::tests::comes_true;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the provider answers.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// 200 with this body, and these more header lines.
    Text(String, &'static str),
    /// Another head, without a body.
    Head(String),
    /// 200, and a body that never ends.
    Endless,
    /// Nothing, on an open connection.
    Silence,
    /// The connection is closed.
    Closed,
}

impl Answer {
    pub(super) fn keys(signers: &[&Signer]) -> Self {
        Self::Text(key_set(signers), "")
    }
}

struct Shared {
    answer: Mutex<Answer>,
    requests: AtomicUsize,
    heads: Mutex<String>,
}

/// The provider; it ends with this.
pub(super) struct Provider {
    shared: Arc<Shared>,
    address: String,
    task: tokio::task::JoinHandle<()>,
}

/// Who signed a provider's certificate, and the certificate.
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    acceptor: TlsAcceptor,
}

/// A certificate for this name, signed by itself.
pub(super) fn certificate(name: &str) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let der: CertificateDer<'static> = params.self_signed(&key).unwrap().into();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Certificate { der, acceptor }
}

impl Provider {
    pub(super) async fn start(answer: Answer) -> Self {
        Self::start_with(answer, None).await
    }

    pub(super) async fn start_with(answer: Answer, certificate: Option<&Certificate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            requests: AtomicUsize::new(0),
            heads: Mutex::default(),
        });
        let acceptor = certificate.map(|certificate| certificate.acceptor.clone());
        let task = tokio::spawn(serve(listener, Arc::clone(&shared), acceptor));
        Self { shared, address, task }
    }

    pub(super) fn url(&self, scheme: &str, host: &str) -> http::Uri {
        let port = self.address.rsplit(':').next().unwrap();
        format!("{scheme}://{host}:{port}/keys?tenant=1").parse().unwrap()
    }

    pub(super) fn plain_url(&self) -> http::Uri {
        self.url("http", "127.0.0.1")
    }

    pub(super) fn answers(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    pub(super) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far.
    pub(super) fn heads(&self) -> String {
        self.shared.heads.lock().unwrap().clone()
    }

    /// Waits until there were this many more requests.
    pub(super) async fn more_requests(&self, count: usize) {
        let wanted = self.requests() + count;
        eventually(async || self.requests() >= wanted).await;
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until a condition holds.
pub(super) async fn eventually(holds: impl AsyncFnMut() -> bool) {
    comes_true("what the test waits for", PATIENCE, holds).await;
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, acceptor: Option<TlsAcceptor>) {
    loop {
        let (io, _) = listener.accept().await.unwrap();
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                None => answer(io, &shared).await,
                Some(acceptor) => match acceptor.accept(io).await {
                    Ok(io) => answer(Box::new(io), &shared).await,
                    // Who does not believe the certificate hangs up.
                    Err(_) => None,
                },
            }
        });
    }
}

/// One request; `None` when the client went away.
async fn answer(mut io: BoxedIo, shared: &Shared) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    shared.heads.lock().unwrap().push_str(&String::from_utf8_lossy(&head));
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let answer = shared.answer.lock().unwrap().clone();
    match answer {
        Answer::Text(text, more) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{more}\r\n", text.len());
            io.write_all((head + &text).as_bytes()).await.ok()?;
        }
        Answer::Head(head) => io.write_all(head.as_bytes()).await.ok()?,
        Answer::Endless => {
            io.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await
                .ok()?;
            let chunk = [b"1000\r\n", &[b' '; 0x1000][..], b"\r\n"].concat();
            loop {
                io.write_all(&chunk).await.ok()?;
            }
        }
        Answer::Silence => std::future::pending().await,
        Answer::Closed => {}
    }
    io.shutdown().await.ok()
}

/// The server's times, but for a start that gives up at once.
pub(super) fn server_timing() -> Timing {
    Timing {
        refresh: Duration::from_mins(5),
        refresh_min: Duration::from_mins(1),
        refresh_max: Duration::from_hours(1),
        unknown_every: Duration::from_secs(30),
        retry: Duration::from_secs(30),
        good_for: Duration::from_hours(24),
        fetch_within: Duration::from_secs(5),
        start_within: Duration::ZERO,
        start_retry: Duration::from_secs(1),
    }
}

/// A provider whose keys are fetched all the time.
pub(super) fn hurried_timing() -> Timing {
    Timing {
        refresh: Duration::from_millis(20),
        refresh_min: Duration::from_millis(1),
        retry: Duration::from_millis(20),
        fetch_within: Duration::from_millis(500),
        ..server_timing()
    }
}
