//! Rules on CQL: the log table is written on one path and never expires, and no register is written at a clock's time.

use crate::source::Source;

const FOLDER: &str = "server/src/storage/cql/";
/// The one file that writes the log table.
const LOG_PATH: &str = "server/src/storage/cql/log_table.rs";
/// Requests without a condition; the file above must make none.
const UNCONDITIONAL: [&str; 3] = [".WRITE(", ".WRITE_ALL(", ".DEFINE("];
/// Tables whose write time is the value.
const REGISTERS: [&str; 3] = ["MARKERS", "INBOX", "HINTS"];

/// What breaks the rules in a file of the CQL store; its tests may do damage.
pub(crate) fn findings(source: &Source) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix(FOLDER) else {
        return Vec::new();
    };
    if inside.starts_with("tests/") || inside == "tests.rs" {
        return Vec::new();
    }
    let words: Vec<&str> = source.text.split_whitespace().collect();
    let text = words.join(" ").to_uppercase();
    let mut found = Vec::new();
    let never_zero = text.replace("DEFAULT_TIME_TO_LIVE = 0", "");
    // Whether something expires may be asked.
    let never_zero = never_zero.replace("DEFAULT_TIME_TO_LIVE FROM SYSTEM_SCHEMA.TABLES", "");
    // As a word of its own: marks are settled.
    if never_zero.contains(" TTL ") || never_zero.contains("TIME_TO_LIVE") {
        found.push("something expires".to_owned());
    }
    if source.path == LOG_PATH {
        let plain = UNCONDITIONAL.iter().filter(|call| text.contains(**call));
        found.extend(plain.map(|call| format!("the log is written without a condition: {call}")));
    } else if writes(&text, "LOG") {
        found.push("the log table is written past its one path".to_owned());
    }
    for table in REGISTERS {
        let at_clock_time = text.contains(&format!("UPDATE {table} SET"));
        if at_clock_time || text.contains(&format!("INTO {table} ")) || deletes(&text, table) {
            found.push(format!("{table} is written at the time of a clock"));
        }
    }
    found
        .into_iter()
        .map(|what| format!("{}: {what}", source.path))
        .collect()
}

fn writes(text: &str, table: &str) -> bool {
    let named = |before: &str| text.contains(&format!("{before} {table} "));
    named("INTO") || named("UPDATE") || named("TRUNCATE") || named("TRUNCATE TABLE") || deletes(text, table)
}

/// `DELETE … FROM table`, with or without columns.
fn deletes(text: &str, table: &str) -> bool {
    let from = format!("FROM {table} ");
    text.match_indices("DELETE ").any(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find('"').unwrap_or(rest.len());
        rest[..end].contains(&from)
    })
}

fn wrong(file: &str, text: &str) -> bool {
    !findings(&Source {
        path: format!("{FOLDER}{file}"),
        text: text.to_owned(),
    })
    .is_empty()
}

#[test]
fn what_breaks_the_rules_is_found() {
    assert!(wrong("find.rs", r#"prepare("INSERT INTO log (a) VALUES (?)")"#));
    assert!(wrong("find.rs", "prepare(\"UPDATE log\n SET a = ?\")"));
    assert!(wrong("find.rs", r#"prepare("DELETE FROM log WHERE a = ?")"#));
    assert!(wrong("find.rs", r#"prepare("DELETE head FROM log WHERE a = ?")"#));
    assert!(wrong("hints.rs", r#"prepare("UPDATE x USING TTL 5 SET a = ?")"#));
    assert!(wrong("schema.rs", "WITH default_time_to_live = 60"));
    assert!(wrong("log_table.rs", "client.write(&self.entry, values).await"));
    assert!(wrong("registers.rs", r#"prepare("UPDATE markers SET a = ?")"#));
    assert!(wrong("inbox.rs", r#"prepare("INSERT INTO inbox (a) VALUES (?)")"#));
    assert!(wrong("registers.rs", r#"prepare("DELETE FROM markers WHERE a = ?")"#));
}

#[test]
fn what_keeps_the_rules_is_not() {
    assert!(!wrong(
        "log_table.rs",
        r#"prepare("INSERT INTO log (a) VALUES (?) IF NOT EXISTS")"#
    ));
    assert!(!wrong(
        "find.rs",
        r#"prepare("SELECT a FROM log WHERE a = ?"); prepare("DELETE FROM marks")"#
    ));
    assert!(!wrong(
        "schema.rs",
        "CREATE TABLE log (a int) WITH default_time_to_live = 0"
    ));
    assert!(!wrong(
        "fitness.rs",
        "SELECT table_name, default_time_to_live FROM system_schema.tables"
    ));
    assert!(!wrong(
        "registers.rs",
        r#"prepare("UPDATE markers USING TIMESTAMP ? SET a = ?")"#
    ));
    assert!(!wrong("tests/buckets.rs", r#"prepare("DELETE FROM log WHERE a = ?")"#));
}
