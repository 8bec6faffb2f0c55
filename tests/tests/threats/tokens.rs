//! kid injection, key sets from an address, expiry and revocation, on the real binary.

use std::time::Duration;

use stonechat_proto::admin::v1 as admin;
use stonechat_proto::v1;
use stonechat_proto::v1::CloseReason;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::harness::{Acks, Bench, Claims, Exit, Hello, PATIENCE, ServerProcess};

use crate::issuer::Issuer;

/// Revocation takes no longer (contract).
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

/// Newer than anything that happened in this second.
fn later(claims: Claims) -> Claims {
    let iat = claims.iat.map(|iat| iat + 1);
    Claims { iat, ..claims }
}

fn hello(bench: &Bench, claims: &Claims) -> Hello {
    Hello {
        token: bench.token(claims),
        ..bench.hello("alice", "phone")
    }
}

async fn is_refused(bench: &Bench, hello: Hello) {
    let mut session = bench.open_with("alice", hello, Acks::Never).await;
    assert_eq!(session.end(PATIENCE).await, Some(CloseReason::Credentials));
    assert!(session.observed().welcome.is_none());
}

async fn revoke(bench: &Bench, device: &str) {
    let mut users = admin::user_admin_service_client::UserAdminServiceClient::new(bench.admin());
    let request = admin::RevokeTokensRequest {
        user_id: "alice".to_owned(),
        device_id: device.to_owned(),
    };
    let answer = users.revoke_tokens(request).await.expect("an answer").into_inner();
    let revoked = matches!(answer.outcome, Some(admin::revoke_tokens_response::Outcome::Revoked(_)));
    assert!(revoked, "{answer:?}");
}

/// Revocation of a user: streams end within 5 s with the reason, the tokens of before stay void over a kill of the process,
/// and tokens of later work.
#[tokio::test]
async fn revoked_tokens_end_streams_and_stay_void_after_a_kill() {
    let mut bench = Bench::start(&[]).await;
    bench.users(&["alice", "bob"]).await;
    let old = hello(&bench, &Claims::user("alice"));
    let mut phone = bench.open_with("alice", old.clone(), Acks::Each).await;
    let mut tablet = bench.open("alice", "tablet").await;
    let mut bob = bench.open("bob", "phone").await;
    phone.welcome(PATIENCE).await;
    revoke(&bench, "").await;
    assert_eq!(phone.end(REVOKED_WITHIN).await, Some(CloseReason::Credentials));
    assert_eq!(tablet.end(REVOKED_WITHIN).await, Some(CloseReason::Credentials));
    is_refused(&bench, old.clone()).await;
    let new = hello(&bench, &later(Claims::user("alice")));
    bench
        .open_with("alice", new.clone(), Acks::Each)
        .await
        .welcome(PATIENCE)
        .await;
    bob.ping(PATIENCE).await;
    bench.server.kill_and_restart().await;
    is_refused(&bench, old).await;
    bench.open_with("alice", new, Acks::Each).await.welcome(PATIENCE).await;
}

/// Revocation of a device: the others go on, and the device comes back with a token of later only.
#[tokio::test]
async fn a_revoked_device_is_out_and_the_others_are_not() {
    let mut bench = Bench::start(&[]).await;
    bench.users(&["alice"]).await;
    let bound = |claims: Claims| Claims {
        dev: Some("phone".to_owned()),
        ..claims
    };
    let old = hello(&bench, &bound(Claims::user("alice")));
    let unbound = hello(&bench, &Claims::user("alice"));
    let mut phone = bench.open_with("alice", old.clone(), Acks::Each).await;
    let mut tablet = bench.open("alice", "tablet").await;
    phone.welcome(PATIENCE).await;
    revoke(&bench, "phone").await;
    assert_eq!(phone.end(REVOKED_WITHIN).await, Some(CloseReason::Credentials));
    is_refused(&bench, old.clone()).await;
    is_refused(&bench, unbound).await;
    tablet.ping(PATIENCE).await;
    bench.server.kill_and_restart().await;
    is_refused(&bench, old).await;
    let new = hello(&bench, &bound(later(Claims::user("alice"))));
    bench.open_with("alice", new, Acks::Each).await.welcome(PATIENCE).await;
}

/// Deactivation voids the tokens of before for good: coming back takes a new one.
#[tokio::test]
async fn who_is_brought_back_needs_a_new_token() {
    let bench = Bench::start(&[]).await;
    bench.users(&["alice"]).await;
    let old = hello(&bench, &Claims::user("alice"));
    let mut phone = bench.open_with("alice", old.clone(), Acks::Each).await;
    phone.welcome(PATIENCE).await;
    let mut users = admin::user_admin_service_client::UserAdminServiceClient::new(bench.admin());
    for deactivated in [true, false] {
        let request = admin::SetUserDeactivatedRequest {
            user_id: "alice".to_owned(),
            deactivated,
        };
        users.set_user_deactivated(request).await.expect("an answer");
        is_refused(&bench, old.clone()).await;
    }
    assert_eq!(phone.end(REVOKED_WITHIN).await, Some(CloseReason::Credentials));
    let new = hello(&bench, &later(Claims::user("alice")));
    bench.open_with("alice", new, Acks::Each).await.welcome(PATIENCE).await;
}

/// JWT expiry: the stream ends at expiry and the leeway, unless a new token comes; also when the stream is busy.
#[tokio::test]
async fn a_busy_stream_ends_at_expiry_and_a_renewed_one_does_not() {
    let mut bench = Bench::start(&["--session-frames-per-second", "100000"]).await;
    let room = bench.direct("alice", "bob").await;
    let short = Claims::user("alice").expiring_in(3);
    let mut ends = bench.open_with("alice", hello(&bench, &short), Acks::Each).await;
    let renewing = Hello {
        device_id: "tablet".to_owned(),
        ..hello(&bench, &short)
    };
    let mut stays = bench.open_with("alice", renewing, Acks::Each).await;
    stays.welcome(PATIENCE).await;
    let expires = ends.welcome(PATIENCE).await.token_expires_ms;
    assert_eq!(expires, short.exp.map_or(0, |exp| exp * 1_000));
    let token = bench.token(&Claims::user("alice"));
    let answer = stays
        .request(Asked::Reauthenticate(v1::Reauthenticate { token }), PATIENCE)
        .await;
    assert!(matches!(answer, Seen::Done(_)), "{answer:?}");
    let mut number = 0;
    while ends.observed().ended.is_none() {
        let id = format!("busy-{number}");
        ends.ask(stonechat_tests::harness::send_frame(&room, &id, "still here"))
            .await;
        ends.until("an answer or the end", PATIENCE, |seen| {
            seen.ended.is_some() || seen.answers.len() > number
        })
        .await;
        number += 1;
    }
    assert_eq!(ends.end(PATIENCE).await, Some(CloseReason::Expired));
    stays.ping(PATIENCE).await;
    println!("{number} sends on a stream whose token ran out");
}

/// kid injection on a server with a key set: what a kid names is looked up in memory and nowhere else.
#[tokio::test]
async fn a_kid_is_a_name_and_nothing_else() {
    let issuer = Issuer::start().await;
    let bench = Bench::start(&["--jwks-url", &issuer.url()]).await;
    let good = issuer.sign("key-1", &Claims::user("alice"));
    let with = |token: String| Hello {
        token,
        ..Hello {
            device_id: "phone".to_owned(),
            protocol_min: 1,
            protocol_max: 1,
            ..Hello::default()
        }
    };
    bench
        .open_with("alice", with(good.clone()), Acks::Each)
        .await
        .welcome(PATIENCE)
        .await;
    let asked = issuer.requests();
    let long = "k".repeat(1_000_000);
    let fits = "k".repeat(4_000);
    for kid in [
        "../../../../../../etc/passwd",
        "/proc/self/environ",
        "' OR 1=1 --",
        "key-1' --",
        "key-1\0",
        "KEY-1",
        " key-1",
        "",
        "http://127.0.0.1:1/keys",
        "${jndi:ldap://127.0.0.1/a}",
        &fits,
        &long,
    ] {
        let token = issuer.sign(kid, &Claims::user("alice"));
        // A megabyte is above the frame limit, and ends as such.
        let mut session = bench.open_with("alice", with(token), Acks::Never).await;
        let reason = session.end(PATIENCE).await;
        let expected = if kid.len() > 60_000 {
            CloseReason::ProtocolError
        } else {
            CloseReason::Credentials
        };
        assert_eq!(reason, Some(expected), "{kid:.40}");
    }
    assert_eq!(
        issuer.requests(),
        asked + 1,
        "one fetch for all the names that are not there"
    );
    bench
        .open_with("alice", with(good), Acks::Each)
        .await
        .welcome(PATIENCE)
        .await;
}

/// JWKS outage on the real binary: it serves on without the provider, does not start without it, and says so.
#[tokio::test]
async fn a_server_outlives_its_provider_and_does_not_start_without_it() {
    let issuer = Issuer::start().await;
    let url = issuer.url();
    let mut bench = Bench::start(&["--jwks-url", &url]).await;
    let good = issuer.sign("key-1", &Claims::user("alice"));
    let hello = Hello {
        token: good,
        ..bench_hello()
    };
    bench
        .open_with("alice", hello.clone(), Acks::Each)
        .await
        .welcome(PATIENCE)
        .await;
    drop(issuer);
    bench
        .open_with("alice", hello, Acks::Each)
        .await
        .welcome(PATIENCE)
        .await;
    bench.server.signal("TERM").await;
    assert_eq!(bench.server.wait().await, Exit::Code(0));
    let mut without = ServerProcess::prepare(&["--jwks-url", &url]);
    without.spawn(None);
    assert!(!without.ready_or_gone().await, "it serves without a key");
    let log = without.log_tail();
    assert!(log.contains("could not be fetched") && log.contains(&url), "{log}");
    let mut both = ServerProcess::prepare(&["--jwks-url", &url, "--jwks-file", "/nowhere"]);
    both.spawn(None);
    assert!(!both.ready_or_gone().await);
    assert!(both.log_tail().contains("both set"), "{}", both.log_tail());
}

fn bench_hello() -> Hello {
    Hello {
        device_id: "phone".to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        ..Hello::default()
    }
}
