//! `migrate` from a data folder to CQL and Postgres and back: everything is the same there, also when it was killed in the middle
//! (I1, I2). On the real services; `scripts/services` starts them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::lasting::awaited;
use super::{program, run, stderr, stdout};

/// Conversations of the migration that is killed: it takes seconds to copy them.
const MANY: usize = 36;
/// Their entries are this times one to six: of different lengths, so that they do not end together, and more than the 64 of a batch,
/// so that what was copied of one is no multiple of it until all of it was.
const LENGTH: usize = 67;
/// Begun when it is killed: more than the 16 that are copied at a time, so that some are whole and some are not.
const SOME: usize = 20;

/// The services of the server's own suites, and how they are skipped.
#[path = "../../src/storage/contract/services.rs"]
#[expect(dead_code, reason = "those suites use more of it")]
mod services;

use services::{CQL, Database, service, unique};

/// A kill may fall between two conversations. Not so often in a row.
const KILLS_MAX: usize = 5;

/// A database and a keyspace of its own, and settings that name them. The database goes with this.
struct Services {
    database: Database,
    folder: tempfile::TempDir,
}

impl Services {
    fn start() -> Option<Self> {
        let services = Self {
            database: Database::create()?,
            folder: tempfile::tempdir().expect("a folder"),
        };
        let (cql, keyspace) = (service(CQL)?, unique());
        let settings = format!(
            "data_folder = {:?}\ncql = {cql:?}\ncql_keyspace = {keyspace:?}\ncql_replication = 1\npostgres = {:?}\n",
            services.path("unused"),
            services.database.url()
        );
        std::fs::write(services.path("services.toml"), settings).expect("written");
        Some(services)
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        path.to_str().expect("a path in utf-8").to_owned()
    }

    /// What Postgres says; empty when it refuses.
    fn ask(&self, statement: &str) -> String {
        let output = Command::new("psql")
            .args([&*self.database.url(), "-qtAc", statement])
            .output();
        stdout(&output.expect("psql is installed")).trim().to_owned()
    }

    /// Conversations in the services.
    fn copied(&self) -> usize {
        let counted = self.ask("select count(*) from conversations");
        counted.parse().unwrap_or(0)
    }

    /// Runs a command, which is done without complaints.
    fn done(&self, arguments: &[&str]) -> String {
        let output = run(arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}\n{}",
            stdout(&output),
            stderr(&output)
        );
        stdout(&output)
    }

    /// Copies everything and compares everything; what was done, by name.
    fn migrate(&self, from: &str, to: &str) -> serde_json::Value {
        let (from, to) = (self.path(from), self.path(to));
        let told = self.done(&["migrate", "--from", &from, "--to", &to, "--verify", "all", "--json"]);
        let last = told.lines().last().expect("a report");
        let report: serde_json::Value = serde_json::from_str(last).expect("JSON");
        report["report"].clone()
    }

    fn export(&self, place: &str) -> String {
        let path = self.path(place);
        let flag = if place.ends_with(".toml") {
            "--config"
        } else {
            "--data-folder"
        };
        self.done(&["export", flag, &path])
    }

    /// Nothing contradicts itself there, and all of it is what the first folder has.
    fn is_the_same(&self, place: &str) {
        let (first, there) = (self.export("first"), self.export(place));
        assert!(first.lines().count() > 100 && first == there, "the exports differ");
        let path = self.path(place);
        let flag = if place.ends_with(".toml") {
            "--config"
        } else {
            "--data-folder"
        };
        let audited = self.done(&["audit", flag, &path]);
        assert!(audited.contains("0 contradictions"), "{audited}");
    }
}

fn number(report: &serde_json::Value, of: &str) -> u64 {
    report[of].as_u64().unwrap_or_else(|| panic!("no {of} in {report}"))
}

/// Entries of a conversation, the one that created it among them.
fn length(group: usize) -> usize {
    LENGTH * (1 + group % 6)
}

/// Many groups of two.
fn many() -> String {
    let mut lines = String::from("{\"type\":\"user\",\"id\":\"one\"}\n{\"type\":\"user\",\"id\":\"two\"}\n");
    for group in 0..MANY {
        lines += &format!(
            "{{\"type\":\"conversation\",\"id\":\"g{group}\",\"user\":\"one\",\"device\":\"d\",\"kind\":\"group\",\"name\":\
             \"g{group}\",\"members\":[{{\"user\":\"two\",\"role\":\"member\"}}],\"time\":{group}}}\n"
        );
        for message in 1..length(group) {
            lines += &format!(
                "{{\"type\":\"message\",\"id\":\"m{message}\",\"conversation\":\"g{group}\",\"user\":\"two\",\"device\":\"d\",\
                 \"time\":{},\"text\":\"message {message} of {group}\"}}\n",
                group + message
            );
        }
    }
    lines
}

/// There and back; a second look at both folders finds no id and no seq that differs.
#[test]
fn i1_i2_a_store_goes_to_the_services_and_comes_back_the_same() {
    let Some(services) = Services::start() else { return };
    let sample = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/sample.jsonl");
    let sample = sample.to_str().expect("a path in utf-8");
    services.done(&["import", sample, "--data-folder", &services.path("first")]);
    let there = services.migrate("first", "services.toml");
    assert!(
        number(&there, "entries") > 80 && number(&there, "known") == 0,
        "{there}"
    );
    services.is_the_same("services.toml");
    let back = services.migrate("services.toml", "second");
    assert_eq!(back["entries"], there["entries"]);
    services.is_the_same("second");
    let compared = services.migrate("first", "second");
    assert_eq!(
        (number(&compared, "entries"), &compared["known"]),
        (0, &there["entries"])
    );
    assert_eq!(compared["compared"], there["entries"]);
}

/// SIGKILL in the middle; the same command goes on, and everything is there once.
#[test]
fn i1_i2_a_migration_to_the_services_that_was_killed_goes_on() {
    for _ in 0..KILLS_MAX {
        let Some(services) = Services::start() else { return };
        if is_killed_within_a_conversation(&services) {
            services.migrate("services.toml", "second");
            services.is_the_same("second");
            return;
        }
    }
    panic!("{KILLS_MAX} times it was killed between two conversations");
}

/// Kills one migration and goes on with it; whether the kill left a conversation with a part of its entries.
fn is_killed_within_a_conversation(services: &Services) -> bool {
    std::fs::write(services.path("many.jsonl"), many()).expect("written");
    let (input, first) = (services.path("many.jsonl"), services.path("first"));
    services.done(&["import", &input, "--data-folder", &first]);
    let mut command = program();
    command.args(["migrate", "--from", &first, "--to", &services.path("services.toml")]);
    let mut child = command.stdout(Stdio::null()).spawn().expect("the binary runs");
    awaited("too little is copied", || services.copied() >= SOME);
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    let copied = services.copied();
    assert!(copied < MANY, "all {copied} were begun before it was killed");
    let went_on = services.migrate("first", "services.toml");
    let (known, entries) = (number(&went_on, "known"), number(&went_on, "entries"));
    assert!(known > 0 && entries > 0, "{went_on}");
    let all: usize = (0..MANY).map(length).sum();
    assert_eq!(known + entries, all as u64, "{went_on}");
    println!("{known} entries were there when it was killed, {entries} came then");
    services.is_the_same("services.toml");
    !known.is_multiple_of(LENGTH as u64)
}
