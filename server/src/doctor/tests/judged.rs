//! What services tell of themselves, and what the doctor makes of it.

use super::*;

#[test]
fn d14_clocks_are_judged_by_what_is_certain() {
    let config = Config::default();
    let judge = |ahead_ms, unsure_ms| clock("x", ClockOffset { ahead_ms, unsure_ms }, &config).status;
    assert_eq!(judge(100, 3), Status::Ok);
    assert_eq!(judge(-150, 3), Status::Warn);
    assert_eq!(judge(150, 80), Status::Ok, "the way there took long");
    assert_eq!(judge(-600, 3), Status::Fail);
    let config = Config {
        clock_offset_max: Duration::ZERO,
        ..config
    };
    let far = ClockOffset {
        ahead_ms: 9_000,
        unsure_ms: 1,
    };
    assert_eq!(clock("x", far, &config).status, Status::Warn, "nobody judges it");
}

#[test]
fn a_schema_of_a_newer_release_fails_and_an_older_one_is_told() {
    assert_eq!(schema("x", None, 3).status, Status::Ok);
    assert_eq!(schema("x", Some(3), 3).status, Status::Ok);
    assert_eq!(schema("x", Some(2), 3).status, Status::Warn);
    assert_eq!(schema("x", Some(4), 3).status, Status::Fail);
}

fn good_cql() -> CqlFacts {
    CqlFacts {
        product: CqlProduct::Cassandra,
        version: "5.0.5".to_owned(),
        datacenter: "east".to_owned(),
        servers: 3,
        homes: vec!["east".to_owned()],
        misfits: Vec::new(),
        schema: Some(1),
        schema_known: 1,
        clock: ClockOffset::default(),
        not_read: None,
        not_made: None,
        not_written: None,
    }
}

/// I11: a user of CQL without a right is told which one, and what gives it.
#[test]
fn i11_a_right_that_is_missing_in_cql_is_named() {
    let config = Config {
        cql_user: Some("ada".to_owned()),
        ..Config::default()
    };
    let lacks =
        |right: &str| format!("User ada has no {right} permission on <table stonechat.log> or any of its parents");
    let judge = |facts: &CqlFacts| {
        let mut checks = cql(&config, facts);
        checks.retain(|check| check.name == "rights in cql");
        checks.remove(0)
    };
    assert_eq!(judge(&good_cql()).status, Status::Ok);
    let unread = CqlFacts {
        schema: None,
        not_read: Some(lacks("SELECT")),
        ..good_cql()
    };
    let unwritten = CqlFacts {
        not_written: Some(lacks("MODIFY")),
        ..good_cql()
    };
    let unmade = CqlFacts {
        not_made: Some(lacks("CREATE")),
        ..good_cql()
    };
    let cases = [
        (unread, "SELECT", Status::Fail),
        (unwritten, "MODIFY", Status::Fail),
        (unmade, "CREATE", Status::Warn),
    ];
    for (facts, right, status) in cases {
        let check = judge(&facts);
        assert_eq!(check.status, status, "{check:?}");
        assert_eq!(check.advice, format!("GRANT {right} ON KEYSPACE stonechat TO ada"));
        assert!(check.found.contains(&lacks(right)), "{check:?}");
    }
    let odd = CqlFacts {
        not_written: Some("it broke".to_owned()),
        ..good_cql()
    };
    assert!(judge(&odd).advice.contains("SELECT and MODIFY"));
}

#[test]
fn d4_d8_d18_cql_that_will_not_do_is_told_with_advice() {
    let mut config = Config::default();
    let mut facts = good_cql();
    let judge = |config: &Config, facts: &CqlFacts| {
        let mut checks = cql(config, facts);
        checks.retain(|check| check.name == "fitness of cql");
        checks
    };
    assert_eq!(judge(&config, &facts)[0].status, Status::Ok);
    facts.homes.push("west".to_owned());
    config.cql_datacenter = Some("east".to_owned());
    let warned = judge(&config, &facts);
    assert!(warned[0].status == Status::Warn && warned[0].advice.contains("same on all nodes"));
    facts.misfits = vec![
        CqlMisfit::TooOld("3.11.17".to_owned()),
        CqlMisfit::Unnamed(facts.homes.clone()),
        CqlMisfit::Expiring {
            table: "log".to_owned(),
            seconds: 60,
        },
    ];
    let failed = judge(&config, &facts);
    let advice: Vec<&str> = failed.iter().map(|check| check.advice.as_str()).collect();
    assert!(failed.iter().all(|check| check.status == Status::Fail), "{failed:#?}");
    assert!(
        advice[0].contains("upgrade") && advice[1].contains("cql_datacenter"),
        "{advice:?}"
    );
    assert!(advice[2].contains("ALTER TABLE log"), "{advice:?}");
}

#[test]
fn a_redis_that_will_not_do_is_told() {
    let clock = ClockOffset::default();
    let judge = |version: &str, cluster, set| {
        let config = Config {
            redis_cluster: set,
            ..Config::default()
        };
        let server = ServerFacts {
            version: version.to_owned(),
            cluster,
            clock,
        };
        redis_server(&config, "a:1", &server)[0].status
    };
    assert_eq!(judge("redis 7.0.15", false, false), Status::Ok);
    assert_eq!(judge("valkey 8.1.0", true, true), Status::Ok);
    assert_eq!(judge("redis 6.2.14", false, false), Status::Fail);
    assert_eq!(judge("redis of no version", false, false), Status::Fail);
    assert_eq!(judge("redis 7.4.1", true, false), Status::Fail);
    assert_eq!(judge("redis 7.4.1", false, true), Status::Fail);
    let mute = RedisFacts {
        servers: Vec::new(),
        events_cross: false,
        writes_cross: false,
        scripts_run: false,
    };
    let statuses = redis_uses(&mute).map(|check| check.status);
    assert_eq!(statuses, [Status::Fail, Status::Fail, Status::Warn]);
}
