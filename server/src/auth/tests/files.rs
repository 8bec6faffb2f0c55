//! Files with keys: made, read, refused, rotated.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use stonechat_host::SystemRandom;

use super::forge::{Signer, base64url, good, hs256, key_set};
use super::{Edge, SECRET, unauthenticated};
use crate::auth::{JwksFile, KeyError, Secret};

const SECRET_FILE: &str = "secret.hs256";

fn load(folder: &Path) -> Result<Secret, KeyError> {
    Secret::load_or_create(folder, &SystemRandom)
}

#[test]
fn secret_is_made_once_and_only_its_owner_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    // Left by a crash while it was made.
    fs::write(folder.path().join("secret.new"), "half").unwrap();
    let made = load(folder.path()).unwrap();
    assert_ne!(made.bytes(), [0; 32]);
    let path = folder.path().join(SECRET_FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(load(folder.path()).unwrap().bytes(), made.bytes());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(load(other.path()).unwrap().bytes(), made.bytes());
}

#[test]
fn secret_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    load(folder.path()).unwrap();
    let path = folder.path().join(SECRET_FILE);
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o777] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let refused = load(folder.path()).unwrap_err();
        assert!(
            matches!(refused, KeyError::Exposed { mode: found, .. } if found == mode),
            "{refused}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    assert!(load(folder.path()).is_ok());
}

#[test]
fn malformed_secret_is_refused_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SECRET_FILE);
    let digits = "5e".repeat(32);
    let malformed = [
        String::new(),
        digits[..62].to_owned(),
        format!("{digits}5e"),
        format!("{}zz", &digits[..62]),
        format!("{}é", &digits[..62]),
        format!("{digits}\n\n\nmore"),
    ];
    for text in malformed {
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let refused = load(folder.path()).unwrap_err();
        assert!(matches!(refused, KeyError::Malformed { .. }), "{text:?}: {refused}");
        assert!(!refused.to_string().contains("5e5e"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is never overwritten");
    }
    fs::write(&path, &digits).unwrap();
    assert_eq!(load(folder.path()).unwrap().bytes(), [0x5e; 32]);
}

#[test]
fn secret_without_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = load(&folder.path().join("missing")).unwrap_err();
    assert!(matches!(refused, KeyError::File { .. }), "{refused}");
}

#[tokio::test]
async fn unusable_key_sets_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (one, other) = (Signer::ed25519("same").jwk(), Signer::es256("same").jwk());
    let mut nameless = one.clone();
    nameless.as_object_mut().unwrap().remove("kid");
    let mut long = one.clone();
    long["kid"] = "k".repeat(129).into();
    let mut broken = one.clone();
    broken["x"] = "not base64url!".into();
    let mut for_encryption = one.clone();
    for_encryption["use"] = "enc".into();
    let mut other_algorithm = Signer::rs256("rs").jwk();
    other_algorithm["alg"] = "RS512".into();
    let shared = json!({ "kty": "oct", "kid": "shared", "alg": "HS256", "k": base64url(&SECRET) });
    let many: Vec<_> = (0..65).map(|_| one.clone()).collect();
    let refused = [
        ("", "no key set"),
        ("[]", "no key set"),
        ("{\"keys\": 7}", "no key set"),
        (&json!({ "keys": [] }).to_string(), "no public key"),
        (&json!({ "keys": [shared] }).to_string(), "no public key"),
        (&json!({ "keys": [for_encryption] }).to_string(), "no public key"),
        (&json!({ "keys": [other_algorithm] }).to_string(), "no public key"),
        (&json!({ "keys": [one, other] }).to_string(), "the id of another key"),
        (
            &json!({ "keys": [nameless, other] }).to_string(),
            "must be the only one",
        ),
        (&json!({ "keys": [long] }).to_string(), "longer than 128 bytes"),
        (&json!({ "keys": [broken] }).to_string(), "not base64url"),
        (&json!({ "keys": many }).to_string(), "more than 64"),
        (&" ".repeat(256 * 1024 + 1), "longer than 256 KiB"),
    ];
    for (text, why) in refused {
        fs::write(&path, text).unwrap();
        let error = JwksFile::open(path.clone()).await.err().unwrap().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(JwksFile::open(path).await, Err(KeyError::File { .. })));
}

/// A shared secret in a public file is public: no token signed with it counts, whatever else the set holds.
#[tokio::test]
async fn shared_secret_in_a_key_set_is_worth_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let signer = Signer::ed25519("ed");
    let shared = json!({ "kty": "oct", "kid": "shared", "alg": "HS256", "k": base64url(&SECRET) });
    fs::write(&path, json!({ "keys": [shared, signer.jwk()] }).to_string()).unwrap();
    let authenticator = Edge::new().with_key_set(&path).await;
    let forged = authenticator.verify(&hs256(&SECRET, Some("shared"), &good())).await;
    assert!(unauthenticated(forged).contains("unknown key"));
    assert!(authenticator.verify(&signer.sign(&good())).await.is_ok());
    // One usable key: a token need not name it.
    assert!(authenticator.verify(&signer.sign_as(None, &good())).await.is_ok());
}

/// Replaces the file as providers' tools do, at a time that differs from the last one's.
fn replace(path: &Path, text: &str) {
    let aside = path.with_extension("aside");
    fs::write(&aside, text).unwrap();
    fs::rename(&aside, path).unwrap();
}

#[tokio::test]
async fn rotated_keys_are_seen_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (old, new) = (Signer::ed25519("2026-01"), Signer::es256("2026-02"));
    fs::write(&path, key_set(&[&old])).unwrap();
    let authenticator = Edge::new().with_key_set_looking_every(Duration::ZERO, &path).await;
    let accepts = async |signer: &Signer| authenticator.verify(&signer.sign(&good())).await.is_ok();
    assert!(accepts(&old).await && !accepts(&new).await);

    replace(&path, &key_set(&[&old, &new]));
    assert!(accepts(&old).await && accepts(&new).await);

    for broken in ["{\"keys\":", "{\"keys\":[]}"] {
        replace(&path, broken);
        assert!(accepts(&old).await && accepts(&new).await, "{broken}");
    }
    fs::remove_file(&path).unwrap();
    assert!(accepts(&old).await && accepts(&new).await);

    replace(&path, &key_set(&[&new]));
    assert!(!accepts(&old).await && accepts(&new).await);
}

/// Tokens with unknown key ids, however many, do not make the file be looked at before its time.
#[tokio::test]
async fn unknown_key_ids_do_not_drive_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (old, new) = (Signer::ed25519("2026-01"), Signer::ed25519("2026-02"));
    fs::write(&path, key_set(&[&old])).unwrap();
    let edge = Edge::new();
    let patient = edge.with_key_set_looking_every(Duration::from_hours(1), &path).await;
    let eager = edge.with_key_set_looking_every(Duration::ZERO, &path).await;
    replace(&path, &key_set(&[&old, &new]));
    for number in 0..100 {
        let token = new.sign_as(Some(&format!("random-{number}")), &good());
        assert!(patient.verify(&token).await.is_err());
    }
    assert!(patient.verify(&new.sign(&good())).await.is_err());
    assert!(eager.verify(&new.sign(&good())).await.is_ok());
}
