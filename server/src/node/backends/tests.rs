//! Settings that contradict each other, and nodes that all start at one moment.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::*;
use crate::storage::DirectoryError;
use crate::storage::contract::samples;
use crate::storage::contract::services::{CQL, Database, service, unique};
use crate::storage::turns::Turn;

fn refused(change: impl FnOnce(&mut Config)) -> bool {
    let mut config = Config::default();
    change(&mut config);
    matches!(check(&config), Err(StartError::Contradiction(_)))
}

/// What people wrote is nobody else's to read on that machine.
#[cfg(unix)]
#[test]
fn a_new_data_folder_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("made/for it");
    make_private(&folder).unwrap();
    make_private(&folder).unwrap();
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn stores_that_would_part_are_refused() {
    let address = || Some(std::net::SocketAddr::from(([127, 0, 0, 1], 7402)));
    let all = |config: &mut Config| {
        config.cql = vec!["a:9042".to_owned()];
        config.postgres = Some("postgres://a/b".to_owned());
        config.redis = vec!["redis://a".to_owned()];
        config.node_listen = address();
    };
    assert!(!refused(|_| {}) && !refused(all));
    assert!(refused(|config| config.cql = vec!["a:9042".to_owned()]));
    assert!(refused(|config| config.postgres = Some("postgres://a/b".to_owned())));
    assert!(refused(|config| config.node_listen = address()));
    assert!(refused(|config| {
        all(config);
        config.redis.clear();
    }));
    assert!(refused(|config| {
        all(config);
        config.node_listen = None;
        config.roles.core = false;
    }));
}

#[test]
fn encryption_that_would_not_happen_is_refused() {
    let file = || Some(std::path::PathBuf::from("/authority.pem"));
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        check_trust(&config).is_err()
    };
    assert!(!refused(&|_| {}) && refused(&|config| config.redis_ca = file()));
    let redis = |addresses: &[&str]| {
        refused(&|config| {
            config.redis = addresses.iter().map(|address| (*address).to_owned()).collect();
            config.redis_ca = file();
        })
    };
    assert!(!redis(&["rediss://a"]) && redis(&["rediss://a", "redis://b"]));
    assert!(refused(&|config| config.cql_ca = file()));
    assert!(refused(&|config| {
        config.cql = vec!["a:9042".to_owned()];
        config.cql_names = vec!["a".to_owned()];
    }));
    let shown = |change: &dyn Fn(&mut Config)| {
        refused(&|config| {
            config.cql = vec!["a:9042".to_owned()];
            config.cql_ca = file();
            config.cql_certificate = file();
            config.cql_key = file();
            change(config);
        })
    };
    assert!(!shown(&|_| {}));
    assert!(shown(&|config| config.cql_ca = None));
    assert!(shown(&|config| config.cql_key = None));
    assert!(shown(&|config| config.cql_certificate = None));
}

/// Nodes that start at one moment, and how often.
const NODES: u16 = 8;
const ROUNDS: usize = 3;

/// I1: of nodes that start together on an empty database and no keyspace all come up, and what one appends another one reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_one_moment_make_one_schema() {
    let Some(cql) = service(CQL) else { return };
    for _ in 0..ROUNDS {
        let Some(database) = Database::create() else { return };
        let keyspace = unique();
        let folder = tempfile::tempdir().unwrap();
        let config = |number: u16| Config {
            data_folder: folder.path().join(number.to_string()),
            cql: cql.split(',').map(str::to_owned).collect(),
            cql_keyspace: keyspace.clone(),
            cql_replication: 1,
            postgres: Some(database.url()),
            postgres_connections_max: 2,
            ..Config::default()
        };
        let starts = (0..NODES).map(|number| {
            let config = config(number);
            Box::pin(async move { open_backends(&config, &Host::system()).await })
        });
        let nodes: Vec<Backends> = join_all(starts).await.into_iter().collect::<Result<_, _>>().unwrap();
        for (number, node) in (0..NODES).zip(&nodes) {
            let appended = samples::append(&*node.log, samples::conversation(number), &[samples::message("m")]).await;
            appended.unwrap();
            let user = samples::user(&format!("u{number}"));
            node.directory
                .ensure_user(&user, crate::domain::UnixMillis(1))
                .await
                .unwrap();
        }
        for (number, node) in (0..NODES).zip(nodes.iter().rev()) {
            let head = node.log.head(samples::conversation(number)).await.unwrap();
            assert!(head.is_some_and(|head| head.seq.0 == 1));
            let user = samples::user(&format!("u{number}"));
            assert_eq!(node.directory.users(&[user]).await.unwrap().len(), 1);
        }
    }
}

/// Counts the turns that are taken.
struct Counted {
    turns: PostgresTurns,
    taken: AtomicU32,
}

#[async_trait]
impl Turns for Counted {
    async fn take(&self, what: &str) -> Result<Turn, DirectoryError> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.turns.take(what).await
    }
}

/// Who makes the schema does it in turn; who comes when it is there waits for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_there_is_waited_for_by_nobody() {
    let (Some(cql), Some(database)) = (service(CQL), Database::create()) else {
        return;
    };
    let config = Config {
        cql: cql.split(',').map(str::to_owned).collect(),
        cql_keyspace: unique(),
        cql_replication: 1,
        ..Config::default()
    };
    let counted = Counted {
        turns: PostgresTurns::of(&database.url()).unwrap(),
        taken: AtomicU32::new(0),
    };
    for _ in 0..3 {
        let options = cql_options(&config, &Host::system()).await.unwrap();
        let opened = CqlStore::open_among(options, &Host::system(), Some(&counted)).await;
        drop(opened.unwrap());
        assert_eq!(counted.taken.load(Ordering::Relaxed), 1, "turns of the first alone");
    }
}
