//! Tokens that were good until something happened, and tokens issued here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::forge::{Signer, claims, hs256, key_set, with};
use super::{Edge, NOW, NOW_SECONDS, SECRET, device, refusal, unauthenticated, user};
use crate::auth::{Authenticator, TOKEN_TTL_MAX};
use crate::domain::{Reason, UnixMillis};
use crate::storage::embedded::directory::{Patience, SqliteDirectory};

const HOUR: Duration = Duration::from_hours(1);

fn issue(authenticator: &Authenticator, scopes: &[&str]) -> String {
    let scopes: BTreeSet<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let issued = authenticator.issue(&user("ann"), Some(&device("phone")), &scopes, HOUR);
    issued.unwrap().token.expose().clone()
}

#[tokio::test]
async fn issued_token_is_accepted_for_its_life() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    let scopes = ["admin.tokens", "admin.users"];
    let principal = authenticator.verify(&issue(&authenticator, &scopes)).await.unwrap();
    assert_eq!(principal.user, user("ann"));
    assert_eq!(principal.device, Some(device("phone")));
    assert_eq!(principal.scopes, scopes.map(str::to_owned).into());
    assert_eq!(
        (principal.issued, principal.expires),
        (NOW, UnixMillis(NOW.0 + 3_600_000))
    );
}

/// A signature that was found good is not checked again; what the token says is.
#[tokio::test]
async fn a_token_that_is_known_still_expires_and_no_other_passes_for_it() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    let token = issue(&authenticator, &[]);
    for _ in 0..2 {
        assert_eq!(authenticator.verify(&token).await.unwrap().user, user("ann"));
    }
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{first}{}", &signature[1..]);
    assert!(authenticator.verify(&forged).await.is_err());
    edge.clock.set(NOW.0 + 3_606_000);
    assert_eq!(
        unauthenticated(authenticator.verify(&token).await),
        "the token has expired"
    );
}

#[tokio::test]
async fn what_cannot_be_issued_is_refused() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    let none = BTreeSet::new();
    for ttl in [Duration::ZERO, TOKEN_TTL_MAX + Duration::from_secs(1)] {
        let refused = refusal(authenticator.issue(&user("ann"), None, &none, ttl));
        assert_eq!(
            refused.reason,
            Reason::Invalid {
                field: "ttl_seconds".into()
            }
        );
    }
    assert!(authenticator.issue(&user("ann"), None, &none, TOKEN_TTL_MAX).is_ok());
    for scope in ["users", "admin.users admin.tokens", "admin.\u{202e}", ""] {
        let scopes = BTreeSet::from([scope.to_owned()]);
        let refused = refusal(authenticator.issue(&user("ann"), None, &scopes, HOUR));
        assert_eq!(refused.reason, Reason::Invalid { field: "scopes".into() }, "{scope}");
    }
}

#[tokio::test]
async fn key_set_issues_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, key_set(&[&Signer::ed25519("ed")])).unwrap();
    let authenticator = Edge::new().with_key_set(&path).await;
    let refused = refusal(authenticator.issue(&user("ann"), None, &BTreeSet::new(), HOUR));
    assert_eq!(refused.reason, Reason::Forbidden);
}

/// Coming back revives no old token: only what was issued afterwards counts.
#[tokio::test]
async fn deactivated_user_is_refused_and_comes_back_with_a_new_token() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    edge.directory.ensure_user(&user("ann"), NOW).await.unwrap();
    for (step, scopes) in [&[][..], &["admin.users"][..]].into_iter().enumerate() {
        let now = UnixMillis(NOW.0 + 10 * i64::try_from(step).unwrap());
        edge.clock.set(now.0);
        let token = issue(&authenticator, scopes);
        assert!(authenticator.verify(&token).await.is_ok());
        edge.directory.set_deactivated(&user("ann"), true, now).await.unwrap();
        assert!(unauthenticated(authenticator.verify(&token).await).contains("deactivated"));
        // Nor does a token help that was issued meanwhile.
        edge.clock.set(now.0 + 1);
        let meanwhile = issue(&authenticator, scopes);
        assert!(unauthenticated(authenticator.verify(&meanwhile).await).contains("deactivated"));
        edge.directory.set_deactivated(&user("ann"), false, now).await.unwrap();
        assert!(unauthenticated(authenticator.verify(&token).await).contains("revoked after it was issued"));
        assert!(authenticator.verify(&meanwhile).await.is_ok());
    }
}

/// Revocation without deactivation: everything issued up to then is void for ever, what is issued later works.
#[tokio::test]
async fn revoked_tokens_of_a_user_are_refused_for_ever() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    for name in ["ann", "bob"] {
        edge.directory.ensure_user(&user(name), NOW).await.unwrap();
    }
    let old = issue(&authenticator, &[]);
    let timeless = hs256(&SECRET, None, &super::forge::without("iat"));
    let of_bob = hs256(&SECRET, None, &with("sub", "bob"));
    edge.directory.revoke_tokens(&user("ann"), NOW).await.unwrap();
    edge.clock.set(NOW.0 + 1);
    let new = issue(&authenticator, &[]);
    for (token, good) in [(&old, false), (&timeless, false), (&new, true), (&of_bob, true)] {
        assert_eq!(authenticator.verify(token).await.is_ok(), good);
    }
    assert!(unauthenticated(authenticator.verify(&old).await).contains("revoked"));
}

/// A token for any device does not bring back the device that was removed.
#[tokio::test]
async fn a_removed_device_does_not_come_back_with_a_token_for_any() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    let (ann, phone) = (user("ann"), device("phone"));
    edge.directory.ensure_user(&ann, NOW).await.unwrap();
    let principal_of = async |issued: i64| {
        let token = hs256(&SECRET, None, &with("iat", NOW_SECONDS + issued));
        authenticator.verify(&token).await.unwrap()
    };
    let (old, new) = (principal_of(0).await, principal_of(1).await);
    assert!(authenticator.check_device(&old, &phone).await.is_ok());
    edge.directory.remove_device(&ann, &phone, NOW).await.unwrap();
    assert!(unauthenticated(authenticator.check_device(&old, &phone).await).contains("device was removed"));
    assert!(authenticator.check_device(&old, &device("tablet")).await.is_ok());
    assert!(authenticator.check_device(&new, &phone).await.is_ok());
    assert!(unauthenticated(authenticator.check_again(&old, Some(&phone)).await).contains("device was removed"));
    assert!(authenticator.check_again(&new, Some(&phone)).await.is_ok());
    edge.directory
        .revoke_tokens(&ann, UnixMillis(NOW.0 + 1_000))
        .await
        .unwrap();
    assert!(unauthenticated(authenticator.check_again(&new, Some(&phone)).await).contains("revoked"));
}

#[tokio::test]
async fn unknown_user_is_refused_only_where_users_must_be_known() {
    let mut edge = Edge::new();
    let plain = issue(&edge.with_secret(), &[]);
    let admin = issue(&edge.with_secret(), &["admin.users"]);
    assert!(edge.with_secret().verify(&plain).await.is_ok());
    edge.options.require_known_users = true;
    assert!(unauthenticated(edge.with_secret().verify(&plain).await).contains("not known"));
    assert!(
        edge.with_secret().verify(&admin).await.is_ok(),
        "a service need not be a user"
    );
    // A provider's own scopes make nobody a service.
    let openid = hs256(&SECRET, None, &with("scope", "openid email"));
    assert!(unauthenticated(edge.with_secret().verify(&openid).await).contains("not known"));
    edge.directory.ensure_user(&user("ann"), NOW).await.unwrap();
    assert!(edge.with_secret().verify(&plain).await.is_ok());
}

#[tokio::test]
async fn token_of_a_removed_device_is_refused_for_ever() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    edge.directory.ensure_user(&user("ann"), NOW).await.unwrap();
    edge.directory
        .touch_device(&user("ann"), &device("phone"), NOW)
        .await
        .unwrap();
    let old = issue(&authenticator, &[]);
    assert!(authenticator.verify(&old).await.is_ok());
    edge.directory
        .remove_device(&user("ann"), &device("phone"), NOW)
        .await
        .unwrap();
    // Issued in the same millisecond as the removal: not after it.
    assert!(unauthenticated(authenticator.verify(&old).await).contains("device was removed"));
    edge.clock.set(NOW.0 + 1);
    let new = issue(&authenticator, &[]);
    assert!(authenticator.verify(&new).await.is_ok());
    edge.directory
        .touch_device(&user("ann"), &device("phone"), NOW)
        .await
        .unwrap();
    assert!(unauthenticated(authenticator.verify(&old).await).contains("device was removed"));
    assert!(authenticator.verify(&new).await.is_ok());
}

/// Who cannot prove that a token was issued after the removal has none.
#[tokio::test]
async fn removed_device_needs_an_honest_time_of_issue() {
    let edge = Edge::new();
    edge.directory.ensure_user(&user("ann"), NOW).await.unwrap();
    edge.directory
        .remove_device(&user("ann"), &device("phone"), NOW)
        .await
        .unwrap();
    edge.clock.set(NOW.0 + 1_000);
    let verify = async |issued: Option<i64>, device: &str| {
        let token = claims(|claims| {
            claims["dev"] = device.into();
            claims["iat"] = issued.map(|seconds| NOW_SECONDS + seconds).into();
        });
        edge.with_secret().verify(&hs256(&SECRET, None, &token)).await
    };
    for issued in [None, Some(-1), Some(0), Some(500)] {
        assert!(
            unauthenticated(verify(issued, "phone").await).contains("device was removed"),
            "{issued:?}"
        );
        assert!(verify(issued, "tablet").await.is_ok(), "{issued:?}");
    }
    assert!(verify(Some(1), "phone").await.is_ok());
}

/// I11: a directory that does not answer lets nobody in, and says that it is the server's trouble.
#[tokio::test]
async fn silent_directory_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("directory.sqlite");
    let directory = Arc::new(SqliteDirectory::open(&path, Patience::default()).await.unwrap());
    let mut edge = Edge::new();
    edge.directory = Arc::<SqliteDirectory>::clone(&directory);
    let authenticator = edge.with_secret();
    let token = issue(&authenticator, &[]);
    assert!(authenticator.verify(&token).await.is_ok());
    directory.close().await;
    let refused = refusal(authenticator.verify(&token).await);
    assert!(matches!(refused.reason, Reason::Unavailable { .. }), "{refused:?}");
}

#[tokio::test]
async fn tokens_and_secrets_are_not_printed() {
    let edge = Edge::new();
    let authenticator = edge.with_secret();
    let issued = authenticator.issue(&user("ann"), None, &BTreeSet::new(), HOUR).unwrap();
    let printed = format!("{issued:?} {:?}", crate::auth::Secret::from_bytes(SECRET));
    assert!(!printed.contains(issued.token.expose().as_str()), "{printed}");
    assert!(!printed.contains("42"), "{printed}");
}
