//! What is healthy passes and leaves nothing to be done; what is broken fails, with advice.

mod services;

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use stonechat_host::{Host, Listener, TcpListener};

use super::{Check, PROBE_CONVERSATION, PROBE_USER, Status, examine};
use crate::config::{Config, Roles};
use crate::conversation::{Conversations, Limits};
use crate::domain::{Seq, UnixMillis, UserId};
use crate::node::{Grounds, Node, open_backends};

/// A folder with a store in it, and settings for it on a free port.
struct Bed {
    config: Config,
    folder: tempfile::TempDir,
}

async fn bed() -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        data_folder: folder.path().join("data"),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        connections_max: 10,
        ..Config::default()
    };
    drop(open_backends(&config, &Host::system()).await.unwrap());
    Bed { config, folder }
}

async fn look(config: &Config) -> Vec<Check> {
    examine(config, &Host::system()).await
}

/// The only check of that name that did not pass.
fn broken<'a>(checks: &'a [Check], name: &str, status: Status) -> &'a Check {
    let mut found = checks
        .iter()
        .filter(|check| check.name == name && check.status == status);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no {name} {status:?} in {checks:#?}"));
    assert!(!first.advice.is_empty() && found.next().is_none(), "{checks:#?}");
    first
}

fn worst(checks: &[Check]) -> Status {
    checks.iter().map(|check| check.status).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_folder_passes_and_a_server_starts_on_it_afterwards() {
    let Bed {
        config,
        folder: _folder,
    } = bed().await;
    for _ in 0..2 {
        let checks = look(&config).await;
        assert_ne!(worst(&checks), Status::Fail, "{checks:#?}");
        for name in [
            "settings",
            "token keys",
            "directory",
            "log",
            "markers",
            "fan-out mark",
            "bus",
        ] {
            assert!(checks.iter().any(|check| check.name == name), "{name}");
        }
    }
    let host = Host::system();
    let backends = open_backends(&config, &host).await.unwrap();
    assert_eq!(
        backends.log.head(PROBE_CONVERSATION).await.unwrap().unwrap().seq,
        Seq(3)
    );
    let rules = Conversations::new(backends.clone(), host.clone(), Limits::default());
    assert_eq!(rules.recover().await.unwrap(), 0, "nothing is to be fanned out");
    let user = UserId::parse(PROBE_USER).unwrap();
    assert!(backends.directory.users(&[user]).await.unwrap()[0].deactivated);
    drop((rules, backends));
    let node = Node::open(&config, host).await.unwrap();
    node.drain().await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_not_made() {
    let Bed { mut config, folder } = bed().await;
    config.data_folder = folder.path().join("elsewhere");
    let checks = look(&config).await;
    broken(&checks, "data folder", Status::Warn);
    assert!(!config.data_folder.exists() && worst(&checks) == Status::Warn);
}

#[tokio::test]
async fn a_read_only_folder_fails() {
    let Bed {
        config,
        folder: _folder,
    } = bed().await;
    fs::set_permissions(&config.data_folder, Permissions::from_mode(0o500)).unwrap();
    let checks = look(&config).await;
    let check = broken(&checks, "data folder", Status::Fail);
    assert!(check.advice.contains("chmod 700"), "{check:?}");
    assert!(checks.iter().all(|check| check.name != "log"), "it was not opened");
    fs::set_permissions(&config.data_folder, Permissions::from_mode(0o755)).unwrap();
    broken(&look(&config).await, "data folder", Status::Warn);
}

#[tokio::test]
async fn a_file_in_place_of_the_folder_and_a_foreign_folder_fail() {
    let Bed { mut config, folder } = bed().await;
    config.data_folder = folder.path().join("file");
    fs::write(&config.data_folder, "x").unwrap();
    broken(&look(&config).await, "data folder", Status::Fail);
    config.data_folder = folder.path().join("foreign");
    fs::create_dir(&config.data_folder).unwrap();
    fs::write(config.data_folder.join("letter.txt"), "x").unwrap();
    let checks = look(&config).await;
    assert!(broken(&checks, "stores", Status::Fail).found.contains("letter.txt"));
}

#[tokio::test]
async fn a_folder_in_use_fails_unless_a_server_of_these_settings_has_it() {
    let Bed {
        mut config,
        folder: _folder,
    } = bed().await;
    let host = Host::system();
    let grounds = Grounds::open(&config, &host).await.unwrap();
    let checks = look(&config).await;
    assert!(broken(&checks, "stores", Status::Fail).found.contains("in use"));
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    config.listen = listener.local_addr().unwrap();
    let node = Node::start(&config, host, grounds, listener).await.unwrap();
    let checks = look(&config).await;
    assert!(
        broken(&checks, "stores", Status::Warn)
            .found
            .contains("the server that runs")
    );
    assert_ne!(worst(&checks), Status::Fail, "{checks:#?}");
    node.drain().await;
}

#[tokio::test]
async fn a_port_that_something_else_has_fails() {
    let Bed {
        mut config,
        folder: _folder,
    } = bed().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.listen = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        while let Ok(taken) = listener.accept().await {
            drop(taken);
        }
    });
    broken(&look(&config).await, "port listen", Status::Fail);
    silent.abort();
    config.listen = "192.0.2.1:7400".parse().unwrap();
    broken(&look(&config).await, "port listen", Status::Fail);
}

/// Makes good settings wrong.
type Change = fn(&mut Config);

#[tokio::test]
async fn contradictory_settings_fail() {
    let address = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let file = || Some(PathBuf::from("/nowhere.pem"));
    let wrong: [(Change, &str); 10] = [
        (
            |config| config.cql_ca = Some(PathBuf::from("/nowhere.pem")),
            "needs cql:",
        ),
        (|config| config.cql_names = vec!["a".to_owned()], "needs cql_ca"),
        (
            |config| {
                config.redis = vec!["rediss://127.0.0.1:9".to_owned(), "redis://127.0.0.1:9".to_owned()];
                config.redis_ca = Some(PathBuf::from("/nowhere.pem"));
            },
            "needs addresses that begin with rediss://",
        ),
        (
            |config| config.cql = vec!["127.0.0.1:9".to_owned()],
            "cql without postgres",
        ),
        (|config| config.redis_cluster = true, "redis_cluster without redis"),
        (|config| config.cql_user = Some("me".to_owned()), "cql_password"),
        (
            |config| {
                config.roles = Roles {
                    gateway: true,
                    core: false,
                }
            },
            "roles without node_listen",
        ),
        (|config| config.admin_on_operator = true, "needs operator_listen"),
        (|config| config.node_names = vec!["a".to_owned()], "belong together"),
        (
            |config| {
                config.node_listen = Some(SocketAddr::from(([10, 0, 0, 7], 7402)));
                config.redis = vec!["redis://a".to_owned()];
                config.cql = vec!["a:9042".to_owned()];
                config.postgres = Some("postgres://a/b".to_owned());
            },
            "could write as anybody",
        ),
    ];
    for (change, said) in wrong {
        let mut config = Config::default();
        change(&mut config);
        let checks = super::settings::contradictions(&config);
        let check = broken(&checks, "settings", Status::Fail);
        assert!(check.found.contains(said), "{check:?}");
    }
    let mut config = Config {
        node_listen: address,
        ..Config::default()
    };
    let checks = super::settings::contradictions(&config);
    assert_eq!(checks.len(), 2, "neither redis nor cql: {checks:?}");
    config = Config {
        tls_certificate: file(),
        tls_key: file(),
        ..Config::default()
    };
    let checks = super::settings::certificates(&config, &Host::system()).await;
    assert!(
        broken(&checks, "certificate", Status::Fail)
            .found
            .contains("cannot be read")
    );
}

#[tokio::test]
async fn a_secret_that_others_may_read_fails() {
    let Bed {
        config,
        folder: _folder,
    } = bed().await;
    let path = config.data_folder.join("secret.hs256");
    fs::write(&path, "00".repeat(32)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    broken(&look(&config).await, "token keys", Status::Fail);
}

#[tokio::test]
async fn somebody_of_the_probes_name_is_left_alone() {
    let Bed {
        config,
        folder: _folder,
    } = bed().await;
    let user = UserId::parse(PROBE_USER).unwrap();
    let backends = open_backends(&config, &Host::system()).await.unwrap();
    backends
        .directory
        .upsert_user(&user, "Doc", UnixMillis(1))
        .await
        .unwrap();
    drop(backends);
    let checks = look(&config).await;
    broken(&checks, "directory", Status::Fail);
    let backends = open_backends(&config, &Host::system()).await.unwrap();
    assert!(!backends.directory.users(&[user]).await.unwrap()[0].deactivated);
    assert!(backends.log.head(PROBE_CONVERSATION).await.unwrap().is_none());
}

/// A certificate for a store that would not be shown, or could not.
#[test]
fn certificates_for_stores_that_nobody_would_see_fail() {
    let file = || Some(PathBuf::from("/nowhere.pem"));
    let half = Config {
        redis_certificate: file(),
        ..Config::default()
    };
    let in_the_open = Config {
        cql_certificate: file(),
        cql_key: file(),
        ..Config::default()
    };
    let wrong = [
        (half, "redis_certificate and redis_key belong together"),
        (in_the_open, "cql_certificate needs cql_ca"),
    ];
    for (config, said) in wrong {
        let checks = super::settings::contradictions(&config);
        let check = broken(&checks, "settings", Status::Fail);
        assert!(check.found.contains(said), "{check:?}");
    }
}

/// A pair for a store is examined as those of the own ports are.
#[tokio::test]
async fn a_certificate_for_a_store_that_cannot_be_read_fails() {
    let config = Config {
        redis_certificate: Some(PathBuf::from("/nowhere.pem")),
        redis_key: Some(PathBuf::from("/nowhere.key")),
        ..Config::default()
    };
    let checks = super::settings::certificates(&config, &Host::system()).await;
    let check = broken(&checks, "certificate", Status::Fail);
    assert!(check.found.contains("/nowhere.pem cannot be read"), "{check:?}");
}
