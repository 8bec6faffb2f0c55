//! The table of tokens: each forgery and each limit of a claim, by name.

use base64::Engine;
use serde_json::json;

use super::forge::{Signer, claims, good, hs256, hs256_raw, key_set, raw, with, without};
use super::provider::{Answer, Provider, server_timing};
use super::{Edge, NOW_SECONDS, SECRET, unauthenticated};
use crate::auth::authenticator::cause;
use crate::auth::{Authenticator, TOKEN_BYTES_MAX};
use crate::telemetry::meters::AuthFailure;

/// What must come of a token.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Accept,
    /// Refused for this reason.
    Reject(&'static str),
}
use Outcome::{Accept, Reject};

const ALGORITHM: &str = "not signed as its key demands";
const SIGNATURE: &str = "signature is wrong";
const MALFORMED: &str = "malformed";
const LACKS: &str = "lacks exp, aud, iss or sub";
const EXPIRED: &str = "expired";
const EARLY: &str = "not good yet";
const UNKNOWN: &str = "unknown key";

type Case = (&'static str, String, Outcome);

/// Claims, the same for every kind of key.
fn claim_cases(sign: impl Fn(&serde_json::Value) -> String) -> Vec<Case> {
    let exp = |seconds: i64| sign(&with("exp", NOW_SECONDS + seconds));
    let nbf = |seconds: i64| sign(&with("nbf", NOW_SECONDS + seconds));
    vec![
        ("good", sign(&good()), Accept),
        ("no aud", sign(&without("aud")), Reject(LACKS)),
        ("wrong aud", sign(&with("aud", "others")), Reject("another audience")),
        ("empty aud", sign(&with("aud", json!([]))), Reject("another audience")),
        (
            "aud among others",
            sign(&with("aud", json!(["others", "apps"]))),
            Accept,
        ),
        ("no iss", sign(&without("iss")), Reject(LACKS)),
        ("wrong iss", sign(&with("iss", "evil")), Reject("another issuer")),
        ("iss is a number", sign(&with("iss", 7)), Reject(LACKS)),
        ("no sub", sign(&without("sub")), Reject(MALFORMED)),
        ("sub is null", sign(&with("sub", json!(null))), Reject(MALFORMED)),
        (
            "sub is no user id",
            sign(&with("sub", "../ann")),
            Reject("not a user id"),
        ),
        ("no exp", sign(&without("exp")), Reject(MALFORMED)),
        ("exp is text", sign(&with("exp", "never")), Reject(MALFORMED)),
        ("exp -61 s", exp(-61), Reject(EXPIRED)),
        ("exp -30 s", exp(-30), Reject(EXPIRED)),
        ("exp at the leeway", exp(-5), Reject(EXPIRED)),
        ("exp within the leeway", exp(-4), Accept),
        ("exp in the year 9999", sign(&with("exp", 253_402_300_799.5)), Accept),
        ("exp beyond all years", sign(&with("exp", 1e300)), Reject(LACKS)),
        ("exp before all years", sign(&with("exp", -1e300)), Reject(LACKS)),
        ("nbf in the future", nbf(60), Reject(EARLY)),
        ("nbf above the leeway", nbf(6), Reject(EARLY)),
        ("nbf within the leeway", nbf(5), Accept),
        ("nbf is text", sign(&with("nbf", "soon")), Reject(MALFORMED)),
        (
            "dev is no device id",
            sign(&with("dev", "a b")),
            Reject("not a device id"),
        ),
        ("dev is a list", sign(&with("dev", json!(["phone"]))), Reject(MALFORMED)),
    ]
}

/// The payload of a good token changed, its signature kept.
fn tampered(token: &str) -> String {
    let payload = with("sub", "admin");
    let forged = raw(&json!({}), &payload, "");
    let parts: Vec<&str> = token.split('.').collect();
    let middle = forged.split('.').nth(1).unwrap();
    format!("{}.{middle}.{}", parts[0], parts[2])
}

fn header_cases(sign: impl Fn(&serde_json::Value) -> String, kid: Option<&str>) -> Vec<Case> {
    let of = |alg: &str| json!({ "alg": alg, "typ": "JWT", "kid": kid });
    let none = raw(&of("none"), &good(), "");
    let token = sign(&good());
    let cut = token.rsplit_once('.').unwrap().0.to_owned();
    vec![
        ("none", none.clone(), Reject(MALFORMED)),
        (
            "none without its dot",
            none.trim_end_matches('.').to_owned(),
            Reject(MALFORMED),
        ),
        ("NonE", raw(&of("NonE"), &good(), ""), Reject(MALFORMED)),
        ("no alg", raw(&json!({ "typ": "JWT" }), &good(), ""), Reject(MALFORMED)),
        ("tampered", tampered(&token), Reject(SIGNATURE)),
        ("signature left out", format!("{cut}."), Reject(SIGNATURE)),
        ("cut", cut, Reject(MALFORMED)),
        ("a part too many", format!("{token}.x"), Reject(MALFORMED)),
        ("empty", String::new(), Reject(MALFORMED)),
        ("dots", "...".to_owned(), Reject(MALFORMED)),
        ("not ascii", "ключ.ключ.ключ".to_owned(), Reject(MALFORMED)),
        ("too long", "x".repeat(TOKEN_BYTES_MAX + 1), Reject("longer than 7 KiB")),
        (
            "1 MB kid",
            hs256(&SECRET, Some(&"k".repeat(1_000_000)), &good()),
            Reject("longer than 7 KiB"),
        ),
        (
            "5 KB kid",
            hs256(&SECRET, Some(&"k".repeat(5_000)), &good()),
            Reject("key id is too long"),
        ),
    ]
}

/// How a rejection is counted, so that operators tell an attack from a clock that is wrong.
fn counted(reason: &str) -> AuthFailure {
    match reason {
        ALGORITHM | SIGNATURE => AuthFailure::Signature,
        EXPIRED | EARLY => AuthFailure::Time,
        UNKNOWN => AuthFailure::UnknownKey,
        LACKS | "another audience" | "another issuer" => AuthFailure::Claims,
        _ => AuthFailure::Malformed,
    }
}

async fn check(authenticator: &Authenticator, cases: Vec<Case>) {
    for (name, token, outcome) in cases {
        let result = authenticator.verify(&token).await;
        match outcome {
            Accept => assert!(result.is_ok(), "{name}: {result:?}"),
            Reject(reason) => {
                let message = unauthenticated(result);
                assert!(message.contains(reason), "{name}: {message}");
                assert_eq!(cause(&message), counted(reason), "{name}: {message}");
                let leaked = token.split('.').any(|part| part.len() > 8 && message.contains(part));
                assert!(!leaked, "{name}: {message}");
            }
        }
    }
}

#[tokio::test]
async fn tokens_of_the_own_secret() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    let sign = |claims: &serde_json::Value| hs256(&SECRET, None, claims);
    check(&authenticator, claim_cases(sign)).await;
    check(&authenticator, header_cases(sign, None)).await;
    let critical = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
    check(
        &authenticator,
        vec![
            ("other secret", hs256(&[1; 32], None, &good()), Reject(SIGNATURE)),
            ("empty secret", hs256(&[], None, &good()), Reject(SIGNATURE)),
            (
                "critical extension",
                hs256_raw(&critical, &SECRET, &good()),
                Reject("extension"),
            ),
            (
                "HS512",
                hs256_raw(&json!({ "alg": "HS512" }), &SECRET, &good()),
                Reject(ALGORITHM),
            ),
            ("EdDSA", Signer::ed25519("ed").sign(&good()), Reject(ALGORITHM)),
        ],
    )
    .await;
}

/// A public key, known to all, used as if it were a shared secret: the validation must not follow the header.
fn confusion_cases(signer: &Signer, key_set: &[u8]) -> Vec<Case> {
    let with = |secret: &[u8]| hs256(secret, Some(signer.kid), &good());
    let encoded = base64::engine::general_purpose::STANDARD.encode(&signer.public_der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n");
    vec![
        (
            "HS256 with the public key as PEM",
            with(pem.as_bytes()),
            Reject(ALGORITHM),
        ),
        ("HS256 with the public key", with(&signer.public_der), Reject(ALGORITHM)),
        ("HS256 with the key set", with(key_set), Reject(ALGORITHM)),
        ("HS256 with nothing", with(&[]), Reject(ALGORITHM)),
    ]
}

fn key_id_cases(signer: &Signer) -> Vec<Case> {
    let named = |kid: &str| signer.sign_as(Some(kid), &good());
    vec![
        (
            "no kid among several keys",
            signer.sign_as(None, &good()),
            Reject(UNKNOWN),
        ),
        ("unknown kid", named("other"), Reject(UNKNOWN)),
        ("kid walks the file system", named("../../../dev/null"), Reject(UNKNOWN)),
        ("kid asks a database", named("' OR 1=1 --"), Reject(UNKNOWN)),
        ("empty kid", named(""), Reject(UNKNOWN)),
    ]
}

fn forger_cases(forger: &Signer, ed: &Signer, es: &Signer) -> Vec<Case> {
    let brings = |field: &str| header_with_key(forger, field);
    let both_listed = es.sign_as(Some(ed.kid), &good());
    vec![
        ("another key under a known kid", forger.sign(&good()), Reject(SIGNATURE)),
        (
            "both algorithms are listed, each for its own key",
            both_listed,
            Reject(ALGORITHM),
        ),
        (
            "the other way round",
            ed.sign_as(Some(forger.kid), &good()),
            Reject(ALGORITHM),
        ),
        ("key in the header", brings("jwk"), Reject(SIGNATURE)),
        ("address of a key in the header", brings("jku"), Reject(SIGNATURE)),
        ("address of a chain in the header", brings("x5u"), Reject(SIGNATURE)),
    ]
}

#[tokio::test]
async fn tokens_of_a_key_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let signers = [Signer::ed25519("ed"), Signer::es256("es"), Signer::rs256("rs")];
    let text = key_set(&signers.each_ref());
    std::fs::write(&path, &text).unwrap();
    check_key_set(&Edge::new().with_key_set(&path).await, &signers, &text).await;
}

/// The same table for keys from an address: where they come from makes no token better.
#[tokio::test]
async fn tokens_of_a_fetched_key_set() {
    let signers = [Signer::ed25519("ed"), Signer::es256("es"), Signer::rs256("rs")];
    let provider = Provider::start(Answer::keys(&signers.each_ref())).await;
    let authenticator = Edge::new()
        .with_url(server_timing(), provider.plain_url())
        .await
        .unwrap();
    check_key_set(&authenticator, &signers, &key_set(&signers.each_ref())).await;
    assert_eq!(provider.requests(), 2, "at the start, and for all the unknown ids");
}

async fn check_key_set(authenticator: &Authenticator, signers: &[Signer; 3], text: &str) {
    for signer in signers {
        let sign = |claims: &serde_json::Value| signer.sign(claims);
        check(authenticator, claim_cases(sign)).await;
        check(authenticator, header_cases(sign, Some(signer.kid))).await;
        check(authenticator, confusion_cases(signer, text.as_bytes())).await;
        check(authenticator, key_id_cases(signer)).await;
    }
    let [ed, es, rs] = signers;
    check(authenticator, forger_cases(&Signer::rs256(rs.kid), ed, es)).await;
}

/// A well-signed token of a forger that brings its own key, or says where to get it, under a known key's id.
fn header_with_key(forger: &Signer, field: &str) -> String {
    let address = || Some("http://127.0.0.1:1/keys.json".to_owned());
    forger.sign_with(&good(), |header| match field {
        "jwk" => header.jwk = Some(serde_json::from_value(forger.jwk()).unwrap()),
        "jku" => header.jku = address(),
        _ => header.x5u = address(),
    })
}

#[tokio::test]
async fn principal_says_what_the_token_proves() {
    let edge = Edge::new();
    let token = hs256(
        &SECRET,
        None,
        &claims(|claims| {
            claims["dev"] = json!("phone");
            claims["scope"] = json!("openid admin.users  admin.tokens profile");
            claims["iat"] = json!(1_699_999_990.25);
        }),
    );
    let principal = edge.with_secret().verify(&token).await.unwrap();
    assert_eq!(principal.user.as_str(), "ann");
    assert_eq!(principal.device.unwrap().as_str(), "phone");
    let scopes: Vec<_> = principal.scopes.iter().map(String::as_str).collect();
    assert_eq!(scopes, ["admin.tokens", "admin.users"]);
    assert_eq!(principal.issued.0, 1_699_999_990_250);
    assert_eq!(principal.expires.0, (NOW_SECONDS + 600) * 1_000);
    let plain = edge
        .with_secret()
        .verify(&hs256(&SECRET, None, &without("iat")))
        .await
        .unwrap();
    assert_eq!((plain.device, plain.scopes.len(), plain.issued.0), (None, 0, 0));
}

/// Only the host's clock counts: with it, a token lives and dies.
#[tokio::test]
async fn token_expires_by_the_hosts_clock() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    let token = hs256(&SECRET, None, &with("exp", NOW_SECONDS + 100));
    edge.clock.set((NOW_SECONDS + 105) * 1_000 - 1);
    assert!(authenticator.verify(&token).await.is_ok());
    edge.clock.set((NOW_SECONDS + 105) * 1_000);
    assert!(unauthenticated(authenticator.verify(&token).await).contains(EXPIRED));
    edge.clock.set(0);
    assert!(authenticator.verify(&token).await.is_ok());
}
