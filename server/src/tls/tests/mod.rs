//! Listeners with certificates that are good, bad, renewed and late; over pipes, with time that tests move.

mod forge;
mod nodes;
mod stores;

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use stonechat_host::{BoxedIo, Host, Listener, ManualClock, PipeListener, SeededRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::forge::{Authority, Identity, NOW_SECONDS, dns, uri};
use super::{ClientRule, HANDSHAKE_WITHIN, LOOK_EVERY, TlsError, TlsFiles, TlsListener};
use crate::telemetry::meters::{Handshake, Port, Reload, meters};

/// A listener that sends back what it gets, and the way to it.
struct Echo {
    dial: mpsc::Sender<DuplexStream>,
}

fn host() -> Host {
    Host {
        clock: Arc::new(ManualClock::new(NOW_SECONDS * 1_000)),
        random: Arc::new(SeededRandom::new(1)),
    }
}

async fn open(files: TlsFiles) -> Result<(TlsListener, mpsc::Sender<DuplexStream>), TlsError> {
    let (dial, pipes) = mpsc::channel(8);
    let pipes = Arc::new(PipeListener::new(pipes));
    Ok((TlsListener::open(pipes, Port::Public, files, host()).await?, dial))
}

async fn echo(mut io: BoxedIo) {
    let mut byte = [0];
    while let Ok(1) = io.read(&mut byte).await {
        if io.write_all(&byte).await.is_err() || io.flush().await.is_err() {
            return;
        }
    }
}

impl Echo {
    async fn start(files: TlsFiles) -> Self {
        let (listener, dial) = open(files).await.expect("good files");
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(echo(io));
            }
        });
        Self { dial }
    }

    async fn pipe(&self) -> DuplexStream {
        let (here, there) = tokio::io::duplex(64 * 1024);
        self.dial.send(there).await.expect("a listener");
        here
    }

    /// A connection that has carried a byte there and back: under TLS 1.3 a client hears of its refusal only then.
    async fn connect(&self, config: ClientConfig) -> io::Result<TlsStream<DuplexStream>> {
        let name = ServerName::try_from("chat.example.org").expect("a name");
        let pipe = self.pipe().await;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, pipe).await?;
        exchange(&mut stream).await?;
        Ok(stream)
    }
}

async fn exchange(stream: &mut TlsStream<DuplexStream>) -> io::Result<()> {
    stream.write_all(b"x").await?;
    stream.flush().await?;
    stream.read_u8().await.map(drop)
}

/// A client's settings; it verifies certificates by the same clock.
fn client(
    version: &'static SupportedProtocolVersion,
    roots: Arc<RootCertStore>,
    identity: Option<&Identity>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.der();
            builder.with_client_auth_cert(chain, key).expect("an identity")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

fn public(folder: &Path, identity: &Identity) -> TlsFiles {
    let (certificate, key) = identity.write(folder);
    TlsFiles {
        certificate,
        key,
        clients: None,
    }
}

fn server_of(authority: &Authority) -> Identity {
    authority.sign(vec![dns("chat.example.org")], 2100)
}

#[tokio::test(start_paused = true)]
async fn both_versions_are_spoken_and_http_2_is_agreed_on() {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new("one"));
    let echo = Echo::start(public(folder.path(), &server_of(&authority))).await;
    for version in [&TLS12, &TLS13] {
        let stream = echo.connect(client(version, authority.roots(), None)).await;
        let stream = stream.expect("a connection");
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(version.version));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    }
    let mut other = client(&TLS13, authority.roots(), None);
    other.alpn_protocols = vec![b"smtp".to_vec()];
    assert!(
        echo.connect(other).await.is_err(),
        "another protocol than HTTP is not agreed on"
    );
}

/// The listener of operators: who has no certificate, one of another authority, of another name or of another time is
/// refused; who has a good one is let in.
#[tokio::test(start_paused = true)]
async fn clients_are_let_in_by_authority_name_and_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (servers, clients, others) = (
        Authority::new("servers"),
        Authority::new("clients"),
        Authority::new("others"),
    );
    let authorities = folder.path().join("clients.pem");
    std::fs::write(&authorities, &clients.pem).expect("written");
    let names = ["ops.example.org", "spiffe://example.org/backend"].map(str::to_owned);
    let rule = ClientRule {
        authorities,
        names: names.into(),
    };
    let echo = Echo::start(TlsFiles {
        clients: Some(rule),
        ..public(folder.path(), &server_of(&servers))
    })
    .await;
    let ops = || vec![dns("other.example.org"), dns("ops.example.org")];
    let cases = [
        ("no certificate", None, false),
        ("another authority", Some(others.sign(ops(), 2100)), false),
        (
            "another name",
            Some(clients.sign(vec![dns("dev.example.org")], 2100)),
            false,
        ),
        (
            "a wildcard",
            Some(clients.sign(vec![dns("*.example.org")], 2100)),
            false,
        ),
        ("no name", Some(clients.sign(Vec::new(), 2100)), false),
        ("expired", Some(clients.sign(ops(), 2025)), false),
        ("good", Some(clients.sign(ops(), 2100)), true),
        ("good until the end of this year", Some(clients.sign(ops(), 2027)), true),
        (
            "good by URI",
            Some(clients.sign(vec![uri("spiffe://example.org/backend")], 2100)),
            true,
        ),
    ];
    for (case, identity, is_good) in cases {
        for version in [&TLS12, &TLS13] {
            let connected = echo.connect(client(version, servers.roots(), identity.as_ref())).await;
            assert_eq!(connected.is_ok(), is_good, "{case}, {version:?}: {:?}", connected.err());
        }
    }
}

/// A renewed certificate is taken for new connections, an open one goes on with the old.
#[tokio::test(start_paused = true)]
async fn changed_files_are_taken_without_dropping_anybody() {
    let folder = tempfile::tempdir().expect("a folder");
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let echo = Echo::start(public(folder.path(), &server_of(&before))).await;
    let mut open = echo
        .connect(client(&TLS13, before.roots(), None))
        .await
        .expect("a connection");
    server_of(&after).write(folder.path());
    tokio::time::sleep(LOOK_EVERY * 2).await;
    echo.connect(client(&TLS13, after.roots(), None))
        .await
        .expect("the new certificate");
    assert!(echo.connect(client(&TLS13, before.roots(), None)).await.is_err());
    exchange(&mut open).await.expect("the open connection lives");
}

/// What cannot be used changes nothing: half a pair, rubbish, a file that is gone.
#[tokio::test(start_paused = true)]
async fn the_last_good_pair_stays() {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new("one"));
    let good = server_of(&authority);
    let files = public(folder.path(), &good);
    let echo = Echo::start(files.clone()).await;
    let failed = meters().tls_reloads.of(Reload::Failed);
    let bad: [&dyn Fn(); 3] = [
        &|| std::fs::write(&files.key, server_of(&authority).key).expect("written"),
        &|| std::fs::write(&files.certificate, "rubbish").expect("written"),
        &|| std::fs::remove_file(&files.certificate).expect("removed"),
    ];
    for spoil in bad {
        let before = failed.get();
        good.write(folder.path());
        tokio::time::sleep(LOOK_EVERY * 2).await;
        spoil();
        tokio::time::sleep(LOOK_EVERY * 2).await;
        assert!(failed.get() > before, "operators see it");
        echo.connect(client(&TLS13, authority.roots(), None))
            .await
            .expect("the last good pair");
    }
    assert!(matches!(
        open(files.clone()).await.err(),
        Some(TlsError::Unreadable { .. })
    ));
    std::fs::write(&files.certificate, "rubbish").expect("written");
    assert!(matches!(open(files).await.err(), Some(TlsError::Unusable { .. })));
}

/// A peer that says nothing, or stops within its hello, is gone after 5 s; accepting others does not wait for it.
#[tokio::test(start_paused = true)]
async fn a_silent_handshake_is_ended() {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new("one"));
    let echo = Echo::start(public(folder.path(), &server_of(&authority))).await;
    let late = meters().tls_handshakes_failed.of(Handshake::Deadline);
    for said in [&b""[..], &[22, 3, 1, 2, 0, 1]] {
        let (started, before) = (stonechat_host::monotonic(), late.get());
        let mut silent = echo.pipe().await;
        silent.write_all(said).await.expect("written");
        echo.connect(client(&TLS13, authority.roots(), None))
            .await
            .expect("others go on");
        let mut byte = [0; 8];
        let closed = tokio::time::timeout(HANDSHAKE_WITHIN * 2, silent.read(&mut byte)).await;
        assert_eq!(closed.expect("it is not let wait").expect("closed"), 0);
        assert_eq!(started.elapsed(), HANDSHAKE_WITHIN);
        assert!(late.get() > before);
    }
}

/// A port whose certificate ends soon is seen, whatever the other ports have.
#[tokio::test(start_paused = true)]
async fn each_port_says_when_its_certificate_expires() {
    let authority = Authority::new("names");
    let mut listeners = Vec::new();
    for (port, good_until) in [(Port::Operator, 2027), (Port::Nodes, 2100)] {
        let folder = tempfile::tempdir().expect("a folder");
        let files = public(folder.path(), &authority.sign(vec![dns("a.example.org")], good_until));
        let (_dial, pipes) = mpsc::channel(1);
        let pipes = Arc::new(PipeListener::new(pipes));
        let listener = TlsListener::open(pipes, port, files, host()).await;
        listeners.push((listener.expect("good files"), folder));
    }
    let expires = |port| meters().tls_certificate_expires.of(port).get();
    let year = 365 * 86_400;
    assert!(expires(Port::Operator) < NOW_SECONDS + 2 * year, "the one of 2027");
    assert!(expires(Port::Nodes) > NOW_SECONDS + 70 * year, "the one of 2100");
}
