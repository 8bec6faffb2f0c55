//! Lines to stores that ask who comes: what this process shows them, and files that cannot be shown.

use super::*;
use crate::tls::{TlsPair, Trust};

/// A store on whose list is who has this name.
const OURS: &str = "chat.example.org";

/// A folder with the authority, and the pair of a client that it signed.
struct Files {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().expect("a folder"),
            authority: Authority::new("stores"),
        };
        std::fs::write(files.path("authority.pem"), &files.authority.pem).expect("written");
        files
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn pair(&self, name: &str) -> TlsPair {
        let folder = self.path(name);
        std::fs::create_dir(&folder).expect("made");
        let files = public(&folder, &self.authority.sign(vec![dns(name)], 2100));
        TlsPair {
            certificate: files.certificate,
            key: files.key,
        }
    }

    async fn trust(&self, pair: Option<&TlsPair>) -> Result<Trust, TlsError> {
        Trust::read(
            &self.path("authority.pem"),
            &["store.example.org".to_owned()],
            pair,
            &host(),
        )
        .await
    }

    /// A store that asks everybody.
    async fn store(&self) -> Echo {
        let folder = self.path("store");
        std::fs::create_dir(&folder).expect("made");
        let store = self.authority.sign(vec![dns("store.example.org")], 2100);
        Echo::start(TlsFiles {
            clients: Some(ClientRule {
                authorities: self.path("authority.pem"),
                names: [OURS.to_owned()].into(),
            }),
            ..public(&folder, &store)
        })
        .await
    }
}

/// Whether the store answers.
async fn answers(store: &Echo, trust: &Trust) -> bool {
    let name = ServerName::try_from("10.0.0.9").expect("an address");
    let connecting = TlsConnector::from(trust.config()).connect(name, store.pipe().await);
    let Ok(mut io) = connecting.await else { return false };
    let said = io.write_all(b"x").await.is_ok() && io.flush().await.is_ok();
    said && io.read_u8().await.is_ok()
}

/// I11: a store that asks who comes lets in who shows the certificate of its settings, and nobody without one or with another.
#[tokio::test(start_paused = true)]
async fn i11_a_store_that_asks_is_shown_a_certificate() {
    let files = Files::new();
    let store = files.store().await;
    let (ours, other) = (files.pair(OURS), files.pair("web.example.org"));
    let with_ours = files.trust(Some(&ours)).await.expect("good files");
    assert!(answers(&store, &with_ours).await);
    assert!(
        with_ours
            .shown()
            .is_some_and(|shown| !shown.certificate.is_empty() && !shown.key.is_empty())
    );
    assert!(!answers(&store, &files.trust(Some(&other)).await.expect("good files")).await);
    assert!(!answers(&store, &files.trust(None).await.expect("good files")).await);
}

/// Files that cannot be shown are found when they are read, by name.
#[tokio::test]
async fn what_cannot_be_shown_is_refused_by_name() {
    let files = Files::new();
    let (one, other) = (files.pair("one"), files.pair("other"));
    let refused = async |pair: TlsPair| files.trust(Some(&pair)).await.expect_err("refused").to_string();
    let apart = TlsPair {
        key: other.key.clone(),
        ..one.clone()
    };
    let told = refused(apart).await;
    assert!(told.contains("other") && told.contains("not usable"), "{told}");
    let swapped = TlsPair {
        certificate: one.key.clone(),
        key: one.certificate.clone(),
    };
    let told = refused(swapped).await;
    assert!(told.contains("certificate"), "{told}");
    let away = TlsPair {
        certificate: files.path("nowhere.pem"),
        ..one
    };
    let told = refused(away).await;
    assert!(told.contains("nowhere.pem cannot be read"), "{told}");
}
