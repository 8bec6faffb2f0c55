//! The real services, healthy and not.

use std::sync::Arc;

use stonechat_host::{Host, ShiftedClock};

use super::super::{Check, Status, examine};
use super::{Bed, bed, broken, worst};
use crate::config::Config;
use crate::storage::contract::services::{CQL, Database, REDIS, REDIS_CLUSTER, service, unique};
use crate::storage::sql::PostgresDirectory;

/// Settings of a node on all services, with a database and a keyspace of its own.
struct OnServices {
    config: Config,
    database: Database,
    _folder: tempfile::TempDir,
}

async fn on_services() -> Option<OnServices> {
    let (cql, redis, database) = (service(CQL)?, service(REDIS)?, Database::create()?);
    let Bed { config, folder } = bed().await;
    let config = Config {
        cql: cql.split(',').map(str::to_owned).collect(),
        cql_keyspace: unique(),
        cql_replication: 1,
        postgres: Some(database.url()),
        redis: vec![redis],
        ..config
    };
    Some(OnServices {
        config,
        database,
        _folder: folder,
    })
}

fn found<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    let check = checks.iter().find(|check| check.name == name);
    check.unwrap_or_else(|| panic!("no {name} in {checks:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthy_services_pass_before_the_first_start_and_after_it() {
    let Some(on) = on_services().await else { return };
    let first = examine(&on.config, &Host::system()).await;
    assert_ne!(worst(&first), Status::Fail, "{first:#?}");
    let again = examine(&on.config, &Host::system()).await;
    assert_ne!(worst(&again), Status::Fail, "{again:#?}");
    for service in ["postgres", "cql"] {
        let schema = format!("schema of {service}");
        assert!(found(&first, &schema).found.contains("none yet"), "{first:#?}");
        assert!(found(&again, &schema).found.contains("the newest"), "{again:#?}");
    }
    for name in [
        "postgres",
        "clock of postgres",
        "rights in postgres",
        "connections of postgres",
        "redis",
        "clock of redis",
        "events over redis",
        "rights in redis",
        "scripts in redis",
        "cql",
        "clock of cql",
        "fitness of cql",
        "rights in cql",
    ] {
        let check = found(&again, name);
        assert!(check.advice.is_empty() || check.status == Status::Warn, "{check:?}");
    }
    let told = found(&again, "cql");
    assert!(
        told.found.contains("Cassandra") || told.found.contains("ScyllaDB"),
        "{told:?}"
    );
}

/// D14: a clock that is off by more than the setting allows fails at every service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d14_a_clock_that_is_off_fails() {
    let Some(on) = on_services().await else { return };
    let clock = Arc::new(ShiftedClock::default());
    clock.shift(2_000);
    let host = Host {
        clock,
        ..Host::system()
    };
    let checks = examine(&on.config, &host).await;
    for name in ["clock of postgres", "clock of redis", "clock of cql"] {
        let check = broken(&checks, name, Status::Fail);
        assert!(
            check.found.contains("ahead") && check.advice.contains("NTP"),
            "{check:?}"
        );
    }
}

/// A user who may connect and no more: the advice says which right is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_missing_fail_with_advice() {
    let Some(OnServices {
        mut config,
        database,
        _folder,
    }) = on_services().await
    else {
        return;
    };
    let guest = unique();
    assert!(database.run(&format!("create role {guest} login")));
    config.postgres = Some(database.url_of(&guest));
    let checks = examine(&config, &Host::system()).await;
    let rights = broken(&checks, "rights in postgres", Status::Fail);
    assert!(rights.advice.contains("GRANT CREATE"), "{rights:?}");
    // Who may make tables, but not use those that another user made.
    let owner = PostgresDirectory::open(&database.url(), 2).await.expect("opens");
    owner.close().await;
    assert!(database.run_inside(&format!("grant create on schema public to {guest}")));
    let checks = examine(&config, &Host::system()).await;
    let rights = broken(&checks, "rights in postgres", Status::Fail);
    assert!(
        rights.found.contains("users") && rights.advice.contains("GRANT ALL"),
        "{rights:?}"
    );
    assert!(database.run_inside(&format!("revoke create on schema public from {guest}")));
    assert!(database.run(&format!("drop role {guest}")));
}

/// D18: a data centre in which no server is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d18_a_data_centre_that_is_not_there_fails() {
    let Some(mut on) = on_services().await else { return };
    on.config.cql_datacenter = Some("nowhere".to_owned());
    let checks = examine(&on.config, &Host::system()).await;
    let told = broken(&checks, "cql", Status::Fail);
    assert!(told.found.contains("data centre nowhere"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_not_named_one_and_the_other_way_round_fail() {
    let (Some(single), Some(cluster)) = (service(REDIS), service(REDIS_CLUSTER)) else {
        return;
    };
    let nodes: Vec<String> = cluster.split(',').map(str::to_owned).collect();
    for (redis, redis_cluster, advice) in [
        (vec![single.clone()], true, "take redis_cluster away"),
        (nodes[..1].to_vec(), false, "redis_cluster = true"),
    ] {
        let Bed {
            config,
            folder: _folder,
        } = bed().await;
        let config = Config {
            redis,
            redis_cluster,
            ..config
        };
        let checks = examine(&config, &Host::system()).await;
        assert!(
            broken(&checks, "redis", Status::Fail).advice.contains(advice),
            "{checks:#?}"
        );
    }
    let Bed {
        config,
        folder: _folder,
    } = bed().await;
    let config = Config {
        redis: nodes,
        redis_cluster: true,
        ..config
    };
    let checks = examine(&config, &Host::system()).await;
    assert_ne!(worst(&checks), Status::Fail, "{checks:#?}");
    assert_eq!(found(&checks, "events over redis").status, Status::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_are_away_fail_without_passwords() {
    let Bed {
        config,
        folder: _folder,
    } = bed().await;
    let config = Config {
        cql: vec!["127.0.0.1:1".to_owned()],
        postgres: Some("postgres://ann:hunter2@127.0.0.1:1/none".to_owned()),
        redis: vec!["redis://:hunter2@127.0.0.1:1".to_owned()],
        ..config
    };
    let checks = examine(&config, &Host::system()).await;
    for name in ["postgres", "redis", "cql"] {
        broken(&checks, name, Status::Fail);
    }
    assert!(!format!("{checks:?}").contains("hunter2"), "{checks:#?}");
}
