//! Keys from an address: rotated, out of reach, asked for by strangers, and answers of a provider gone bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::RootCertStore;
use stonechat_host::{Host, TcpConnector};

use super::forge::{Signer, good, key_set};
use super::provider::{Answer, Certificate, Provider, certificate, eventually, hurried_timing, server_timing};
use super::{Edge, refusal, unauthenticated};
use crate::auth::jwks::{Roots, Timing};
use crate::auth::{Authenticator, Jwks, JwksUrl, KeyError};
use crate::domain::Reason;

impl Edge {
    pub(super) async fn with_url(&self, timing: Timing, url: http::Uri) -> Result<Authenticator, KeyError> {
        self.with_url_and_roots(timing, url, Roots::Machine).await
    }

    async fn with_url_and_roots(
        &self,
        timing: Timing,
        url: http::Uri,
        roots: Roots,
    ) -> Result<Authenticator, KeyError> {
        let keys = JwksUrl::start_at_pace(timing, url, Arc::new(TcpConnector), Host::system(), roots).await?;
        let (options, directory) = (self.options.clone(), Arc::clone(&self.directory));
        Ok(Authenticator::with_key_set(
            Jwks::Url(keys),
            options,
            directory,
            self.host(),
        ))
    }
}

async fn start(timing: Timing, provider: &Provider) -> Authenticator {
    Edge::new().with_url(timing, provider.plain_url()).await.unwrap()
}

async fn accepts(authenticator: &Authenticator, signer: &Signer) -> bool {
    authenticator.verify(&signer.sign(&good())).await.is_ok()
}

/// Checks tokens without a pause, and counts the answers.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<usize>>,
    done: Arc<AtomicUsize>,
}

impl Load {
    fn start(authenticator: &Arc<Authenticator>, tokens: &Arc<std::sync::Mutex<String>>) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let worker = |_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            let (authenticator, tokens) = (Arc::clone(authenticator), Arc::clone(tokens));
            tokio::spawn(async move {
                let mut refused = 0;
                while !stop.load(Ordering::SeqCst) {
                    let token = tokens.lock().unwrap().clone();
                    refused += usize::from(authenticator.verify(&token).await.is_err());
                    done.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
                refused
            })
        };
        let tasks = (0..8).map(worker).collect();
        Self { stop, tasks, done }
    }

    async fn more(&self, count: usize) {
        let wanted = self.done.load(Ordering::SeqCst) + count;
        eventually(async || self.done.load(Ordering::SeqCst) >= wanted).await;
    }

    /// How many were refused.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let mut refused = 0;
        for task in self.tasks {
            refused += task.await.unwrap();
        }
        refused
    }
}

/// JWKS rotation: as providers do it, with a time in which the old key and the new one are both there.
#[tokio::test]
async fn keys_rotate_under_load_without_a_false_rejection() {
    let signers = [
        Signer::ed25519("2026-01"),
        Signer::es256("2026-02"),
        Signer::ed25519("2026-03"),
    ];
    let provider = Provider::start(Answer::keys(&[&signers[0]])).await;
    let authenticator = Arc::new(start(hurried_timing(), &provider).await);
    let token = Arc::new(std::sync::Mutex::new(signers[0].sign(&good())));
    let load = Load::start(&authenticator, &token);
    for pair in signers.windows(2) {
        provider.answers(Answer::keys(&[&pair[0], &pair[1]]));
        // The answer to the second one was taken in before the third was asked for.
        provider.more_requests(3).await;
        *token.lock().unwrap() = pair[1].sign(&good());
        load.more(100).await;
        provider.answers(Answer::keys(&[&pair[1]]));
        provider.more_requests(3).await;
        assert!(
            !accepts(&authenticator, &pair[0]).await,
            "a key that was taken back counts no more"
        );
    }
    load.more(100).await;
    assert_eq!(load.end().await, 0);
}

/// A provider that signs with a key the moment it is published: who comes with it waits for the one fetch.
#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let (old, new) = (Signer::ed25519("2026-01"), Signer::es256("2026-02"));
    let provider = Provider::start(Answer::keys(&[&old])).await;
    let authenticator = Arc::new(start(server_timing(), &provider).await);
    let token = Arc::new(std::sync::Mutex::new(old.sign(&good())));
    let load = Load::start(&authenticator, &token);
    load.more(50).await;
    provider.answers(Answer::keys(&[&old, &new]));
    *token.lock().unwrap() = new.sign(&good());
    load.more(100).await;
    assert_eq!(load.end().await, 0);
    assert_eq!(provider.requests(), 2);
}

/// kid injection, unknown kid: 10,000 of them, one fetch, and the keys there are serve on.
#[tokio::test]
async fn ten_thousand_unknown_key_ids_are_one_fetch() {
    let signer = Signer::ed25519("ed");
    let provider = Provider::start(Answer::keys(&[&signer])).await;
    let authenticator = start(server_timing(), &provider).await;
    assert_eq!(provider.requests(), 1);
    let strange = [
        "../../../etc/passwd",
        "' OR 1=1 --",
        "\0",
        "{\"kid\":1}",
        "http://127.0.0.1/keys",
    ];
    let strange = strange.into_iter().map(str::to_owned);
    let unknown = strange.chain((0..10_000).map(|number| format!("random-{number}")));
    let unknown: Vec<String> = unknown.collect();
    let refused = async |kid: &String| {
        let token = signer.sign_as(Some(kid), &good());
        refusal(authenticator.verify(&token).await)
    };
    // Half of them at once, the others one after the other.
    let (together, apart) = unknown.split_at(unknown.len() / 2);
    for refusal in futures_util::future::join_all(together.iter().map(&refused)).await {
        let crowded = matches!(refusal.reason, Reason::Unavailable { .. });
        assert!(crowded || refusal.reason == Reason::Unauthenticated, "{refusal:?}");
    }
    for kid in apart {
        let refusal = refused(kid).await;
        assert!(refusal.message.contains("signed with an unknown key"), "{refusal:?}");
    }
    assert_eq!(provider.requests(), 2);
    assert!(accepts(&authenticator, &signer).await);
    // No id, and no key that it could be: nothing to fetch.
    provider.answers(Answer::keys(&[&signer, &Signer::ed25519("other")]));
    assert!(accepts(&authenticator, &signer).await);
    assert_eq!(provider.requests(), 2);
    let heads = provider.heads();
    assert!(
        heads
            .lines()
            .filter(|line| line.starts_with("GET "))
            .all(|line| line == "GET /keys?tenant=1 HTTP/1.1")
    );
    assert!(!heads.contains("random-"), "{heads}");
}

/// I9: while a fetch hangs, a bounded number of tokens with unknown keys waits for it; more are told at once when to come back,
/// and tokens with known keys are not held up.
#[tokio::test]
async fn i9_those_who_wait_for_a_key_are_bounded() {
    let signer = Signer::ed25519("ed");
    let provider = Provider::start(Answer::keys(&[&signer])).await;
    let authenticator = Arc::new(start(server_timing(), &provider).await);
    provider.answers(Answer::Silence);
    let strange: Vec<String> = (0..300)
        .map(|number| signer.sign_as(Some(&format!("strange-{number}")), &good()))
        .collect();
    let mut all: Vec<_> = strange
        .iter()
        .map(|token| Box::pin(authenticator.verify(token)))
        .collect();
    let mut refused = 0;
    for verifying in &mut all {
        if let std::task::Poll::Ready(answer) = futures_util::poll!(verifying) {
            let refusal = refusal(answer);
            let Reason::Unavailable { retry_after_ms } = refusal.reason else {
                panic!("{refusal:?}");
            };
            assert!(retry_after_ms > 0);
            refused += 1;
        }
    }
    assert_eq!(refused, 300 - 128);
    let started = stonechat_host::monotonic();
    assert!(accepts(&authenticator, &signer).await);
    assert!(started.elapsed() < Duration::from_secs(1));
    // A place comes back when who held it gives up.
    drop(all);
    let mut next = Box::pin(authenticator.verify(&strange[0]));
    assert!(futures_util::poll!(&mut next).is_pending());
}

/// JWKS outage: the last good keys serve on; not for ever; and all is well when the provider is back.
#[tokio::test]
async fn an_outage_is_outlived_within_bounds() {
    let signer = Signer::es256("es");
    let provider = Provider::start(Answer::keys(&[&signer])).await;
    let patient = start(hurried_timing(), &provider).await;
    let strict = Timing {
        good_for: Duration::from_millis(200),
        ..hurried_timing()
    };
    let strict = start(strict, &provider).await;
    let bad = [
        Answer::Closed,
        Answer::Head("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".into()),
        Answer::Head("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"keys\":".into()),
        Answer::Head("no HTTP at all\r\n\r\n".into()),
        Answer::Text("{\"keys\":[]}".into(), ""),
        Answer::Text("<html>maintenance</html>".into(), ""),
        Answer::Text(" ".repeat(256 * 1024 + 1), ""),
        Answer::Endless,
        Answer::Silence,
    ];
    for answer in bad {
        provider.answers(answer.clone());
        provider.more_requests(4).await;
        assert!(accepts(&patient, &signer).await, "{answer:?}");
    }
    let refused = refusal(strict.verify(&signer.sign(&good())).await);
    assert!(matches!(refused.reason, Reason::Unavailable { .. }), "{refused:?}");
    provider.answers(Answer::keys(&[&signer]));
    eventually(async || accepts(&strict, &signer).await).await;
}

/// No answer of the provider, and nothing in a token, sends us anywhere else.
#[tokio::test]
async fn nothing_leads_to_another_host() {
    let (signer, forger) = (Signer::rs256("rs"), Signer::rs256("rs"));
    let elsewhere = Provider::start(Answer::keys(&[&forger])).await;
    let provider = Provider::start(Answer::keys(&[&signer])).await;
    let authenticator = start(hurried_timing(), &provider).await;
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let head = format!(
            "HTTP/1.1 {status}\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            elsewhere.plain_url()
        );
        provider.answers(Answer::Head(head));
        provider.more_requests(2).await;
    }
    let address = elsewhere.plain_url().to_string();
    for kid in ["rs", "unknown"] {
        let brought = [
            forger.sign_with(&good(), |header| header.jku = Some(address.clone())),
            forger.sign_with(&good(), |header| header.x5u = Some(address.clone())),
            forger.sign_with(&good(), |header| {
                header.jwk = Some(serde_json::from_value(forger.jwk()).unwrap());
            }),
        ];
        for token in brought {
            unauthenticated(authenticator.verify(&token).await);
        }
        unauthenticated(authenticator.verify(&forger.sign_as(Some(kid), &good())).await);
    }
    assert_eq!(elsewhere.requests(), 0);
    assert!(accepts(&authenticator, &signer).await);
}

/// A node that never had a key does not start, and says why; one whose provider comes late waits for it.
#[tokio::test]
async fn a_start_waits_a_while_and_then_fails() {
    let signer = Signer::ed25519("ed");
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let cases = [
        (Answer::Closed, "no answer"),
        (Answer::Head(moved.into()), "redirects are not followed"),
        (
            Answer::Head("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into()),
            "404",
        ),
        (Answer::Text("{}".into(), ""), "no key set"),
        (Answer::Endless, "longer than 256 KiB"),
        (Answer::Silence, "no answer within"),
    ];
    let provider = Provider::start(Answer::Closed).await;
    let at_once = Timing {
        start_within: Duration::ZERO,
        ..hurried_timing()
    };
    for (answer, why) in cases {
        provider.answers(answer);
        let error = Edge::new().with_url(at_once, provider.plain_url()).await.err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains(why) && text.contains("127.0.0.1") && !text.contains("tenant"),
            "{text}"
        );
    }
    let nobody = "http://127.0.0.1:1/keys".parse().unwrap();
    let error = Edge::new().with_url(at_once, nobody).await.err().unwrap();
    assert!(error.to_string().contains("no connection"), "{error}");

    provider.answers(Answer::Closed);
    let waiting = Timing {
        start_within: Duration::from_secs(60),
        start_retry: Duration::from_millis(10),
        ..hurried_timing()
    };
    let (authenticator, ()) = tokio::join!(start(waiting, &provider), async {
        provider.more_requests(3).await;
        provider.answers(Answer::keys(&[&signer]));
    });
    assert!(accepts(&authenticator, &signer).await);
}

#[tokio::test]
async fn the_provider_says_how_long_its_keys_are_fresh() {
    let signer = Signer::ed25519("ed");
    let provider = Provider::start(Answer::Text(key_set(&[&signer]), "cache-control: max-age=0\r\n")).await;
    let timing = Timing {
        refresh_min: Duration::from_millis(10),
        ..server_timing()
    };
    let _fetching = start(timing, &provider).await;
    provider.more_requests(3).await;
}

/// The fetching ends with the authenticator.
#[tokio::test]
async fn nobody_fetches_for_nobody() {
    let provider = Provider::start(Answer::keys(&[&Signer::ed25519("ed")])).await;
    let authenticator = start(hurried_timing(), &provider).await;
    let other = Provider::start(Answer::keys(&[&Signer::ed25519("ed")])).await;
    let _clock = start(hurried_timing(), &other).await;
    provider.more_requests(1).await;
    drop(authenticator);
    other.more_requests(3).await;
    let after = provider.requests();
    other.more_requests(10).await;
    assert_eq!(provider.requests(), after);
}

async fn over_tls(provider: &Provider, host: &str, believed: &Certificate) -> Result<Authenticator, KeyError> {
    let mut roots = RootCertStore::empty();
    roots.add(believed.der.clone()).unwrap();
    let timing = server_timing();
    let url = provider.url("https", host);
    Edge::new().with_url_and_roots(timing, url, Roots::Only(roots)).await
}

/// Over https the provider must be who it says.
#[tokio::test]
async fn https_needs_the_certificate_of_the_host() {
    let signer = Signer::ed25519("ed");
    let (here, other) = (certificate("localhost"), certificate("id.example.org"));
    let provider = Provider::start_with(Answer::keys(&[&signer]), Some(&here)).await;
    assert!(accepts(&over_tls(&provider, "localhost", &here).await.unwrap(), &signer).await);
    let impostor = Provider::start_with(Answer::keys(&[&signer]), Some(&other)).await;
    let refused = [
        over_tls(&provider, "localhost", &other).await,
        over_tls(&impostor, "localhost", &other).await,
        over_tls(&provider, "127.0.0.1", &here).await,
    ];
    for error in refused {
        let text = error.err().unwrap().to_string();
        assert!(text.contains("no TLS connection"), "{text}");
    }
    assert_eq!((provider.requests(), impostor.requests()), (1, 0));
}
