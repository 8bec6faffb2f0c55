//! The dependency rule: arrows point one way, and each outside crate is named only where it belongs.

use std::collections::BTreeSet;

use crate::source::{Source, code_only, words};

/// A module of the server, and the modules it may name.
const MAY_NAME: [(&str, &[&str]); 21] = [
    // What tests share.
    ("tests", &[]),
    ("domain", &[]),
    ("room", &[]),
    ("telemetry", &["domain", "config"]),
    ("config", &["domain", "telemetry"]),
    ("tls", &["telemetry"]),
    (
        "storage",
        &["domain", "wire::entry", "wire::content", "telemetry::meters", "tls"],
    ),
    // An event between nodes carries entries as they are stored.
    ("bus", &["domain", "storage", "wire::entry", "telemetry::meters", "tls"]),
    (
        "conversation",
        &[
            "domain",
            "room",
            "storage",
            "bus",
            "telemetry::meters",
            "telemetry::traces",
        ],
    ),
    ("presence", &["domain", "storage", "bus"]),
    ("auth", &["domain", "storage", "telemetry"]),
    // Values only: what the layers below give and take, translated.
    (
        "wire",
        &["domain", "storage", "bus", "conversation", "telemetry::meters"],
    ),
    (
        "cluster",
        &["domain", "bus", "conversation", "wire::forward", "telemetry::meters"],
    ),
    ("transfer", &["domain", "storage", "conversation", "bus", "wire"]),
    ("audit", &["domain", "storage", "conversation"]),
    (
        "api",
        &[
            "domain",
            "storage",
            "bus",
            "conversation",
            "presence",
            "auth",
            "wire",
            "telemetry",
        ],
    ),
    (
        "gateway",
        &[
            "domain",
            "room",
            "storage",
            "bus",
            "conversation",
            "presence",
            "auth",
            "wire",
            "api",
            "telemetry",
            "config",
        ],
    ),
    ("operator", &["gateway", "telemetry"]),
    (
        "node",
        &[
            "cluster",
            "operator",
            "tls",
            "domain",
            "storage",
            "bus",
            "conversation",
            "presence",
            "auth",
            "wire",
            "api",
            "gateway",
            "telemetry",
            "config",
        ],
    ),
    // Uses everything once, as a node would.
    (
        "doctor",
        &[
            "domain",
            "storage",
            "bus",
            "conversation",
            "auth",
            "tls",
            "gateway",
            "node",
            "config",
        ],
    ),
    (
        "cli",
        &[
            "domain",
            "storage",
            "bus",
            "conversation",
            "auth",
            "wire",
            "transfer",
            "audit",
            "doctor",
            "node",
            "telemetry",
            "config",
        ],
    ),
];

/// The store writes entries with these, so they know the domain alone.
const DOMAIN_ALONE: [&str; 2] = ["server/src/wire/entry", "server/src/wire/content"];

/// An outside crate, and the only places of the server that may name it.
const ONLY_IN: [(&str, &[&str]); 20] = [
    ("fjall", &["storage/embedded/"]),
    ("sqlx", &["storage/sql/"]),
    ("redis", &["bus/redis/"]),
    ("scylla", &["storage/cql/"]),
    ("jsonwebtoken", &["auth/"]),
    (
        "tonic",
        &["api/", "cluster/", "gateway/", "operator/", "cli/", "node.rs", "node/"],
    ),
    (
        "stonechat_proto",
        &[
            "api/",
            "bus/redis/",
            "cluster/",
            "gateway/",
            "operator/",
            "cli/",
            "transfer/",
            "wire/",
            "wire.rs",
            "node.rs",
            "node/",
        ],
    ),
    ("axum", &["gateway/", "operator/", "node.rs", "node/"]),
    (
        "hyper",
        &["auth/jwks/fetch.rs", "cluster/door.rs", "gateway/", "node.rs", "node/"],
    ),
    ("tower_http", &["gateway/", "node.rs", "node/"]),
    ("clap", &["cli/", "config.rs", "config/", "main.rs"]),
    ("indicatif", &["cli/"]),
    ("prometheus_client", &["telemetry/"]),
    ("opentelemetry", &["telemetry/"]),
    ("tracing_opentelemetry", &["telemetry/"]),
    ("rustls", &["tls/", "auth/jwks/fetch.rs"]),
    ("tokio_rustls", &["tls/", "auth/jwks/fetch.rs"]),
    ("x509_parser", &["tls/"]),
    ("tonic_reflection", &["operator/"]),
    ("stonechat_client", &["cli/"]),
];

/// Crates the domain must not name: it has no async and no I/O.
const NOT_IN_DOMAIN: [&str; 8] = [
    "tokio",
    "tonic",
    "sqlx",
    "fjall",
    "async_trait",
    "hyper",
    "axum",
    "stonechat_host",
];

/// What breaks the dependency rule in a file of the server.
pub(crate) fn findings(source: &Source) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix("server/src/") else {
        return Vec::new();
    };
    let code = code_only(&source.text);
    let mut found = arrows(&source.path, inside, &code);
    for (outside, places) in ONLY_IN {
        let allowed = places.iter().any(|place| inside.starts_with(place)) || is_test(inside);
        if !allowed && names_crate(&code, outside) {
            found.push(format!("{}: {outside} is named only in {places:?}", source.path));
        }
    }
    let in_domain = inside.starts_with("domain/");
    for outside in NOT_IN_DOMAIN
        .iter()
        .filter(|outside| in_domain && names_crate(&code, outside))
    {
        found.push(format!("{}: the domain names {outside}", source.path));
    }
    found
}

/// Tests of a module may stand on real parts beside it.
fn is_test(inside: &str) -> bool {
    inside.split('/').any(|part| part == "tests" || part == "tests.rs")
}

fn names_crate(code: &str, outside: &str) -> bool {
    words(code, outside).into_iter().any(|at| {
        let before = code[..at].trim_end();
        let after = &code[at + outside.len()..];
        let used = before.ends_with("use") || before.ends_with("crate") || after.starts_with("::");
        used && !before.ends_with("::") && !before.ends_with("mod")
    })
}

fn arrows(path: &str, inside: &str, code: &str) -> Vec<String> {
    let module = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
        // Only main.rs and lib.rs stand above the modules.
        return if ["main", "lib"].contains(&module) {
            Vec::new()
        } else {
            vec![format!("{path}: module {module} has no place in the dependency rule")]
        };
    };
    let alone = DOMAIN_ALONE.iter().any(|prefix| path.starts_with(prefix));
    let allowed = if alone { &["domain"][..] } else { allowed };
    let modules: BTreeSet<&str> = MAY_NAME.iter().map(|(name, _)| *name).collect();
    let wrong = |target: &String| {
        let (top, second) = target.split_once("::").unwrap_or((target, ""));
        let named = [top.to_owned(), format!("{top}::{second}")];
        modules.contains(top) && top != module && !named.iter().any(|name| allowed.contains(&name.as_str()))
    };
    let targets = if is_test(inside) {
        Vec::new()
    } else {
        targets(inside, code)
    };
    targets
        .into_iter()
        .filter(wrong)
        .map(|target| format!("{path}: {module} names {target}"))
        .collect()
}

/// Every path from the crate's root that the code names, two parts deep.
fn targets(inside: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        if let Some(rest) = code[at..].strip_prefix("crate::") {
            paths(rest, &mut found);
        }
    }
    let depth = depth(inside);
    let climb = "super::".repeat(depth);
    for (at, _) in code.match_indices(&climb) {
        let rest = &code[at + climb.len()..];
        if !code[..at].ends_with("super::") && !rest.starts_with("super::") {
            paths(rest, &mut found);
        }
    }
    found
}

/// How many `super` lead to the root.
fn depth(inside: &str) -> usize {
    let parts = inside.split('/').count();
    if inside.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The first two parts of a path, or of each path of a `{list}`.
fn paths(rest: &str, found: &mut Vec<String>) {
    if let Some(list) = rest.strip_prefix('{') {
        return list_items(list).iter().for_each(|item| paths(item, found));
    }
    let first = identifier(rest);
    let second = rest[first.len()..].strip_prefix("::");
    match second {
        Some(inner) if inner.starts_with('{') => {
            for item in list_items(&inner[1..]) {
                found.push(format!("{first}::{}", identifier(&item)));
            }
        }
        Some(inner) => found.push(format!("{first}::{}", identifier(inner))),
        None => found.push(first.to_owned()),
    }
}

fn identifier(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    &text[..end.unwrap_or(text.len())]
}

/// Splits the inside of a braced list at its own commas.
fn list_items(list: &str) -> Vec<String> {
    let (mut depth, mut items, mut item) = (0_usize, Vec::new(), String::new());
    for letter in list.chars() {
        match letter {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(std::mem::take(&mut item).trim().to_owned()),
            _ => {
                depth = match letter {
                    '{' => depth + 1,
                    '}' => depth - 1,
                    _ => depth,
                };
                item.push(letter);
            }
        }
    }
    items.push(item.trim().to_owned());
    items
}

fn wrong(path: &str, text: &str) -> bool {
    !findings(&Source {
        path: path.to_owned(),
        text: text.to_owned(),
    })
    .is_empty()
}

#[test]
fn arrows_that_point_up_are_found() {
    let storage = "server/src/storage/embedded/log.rs";
    assert!(wrong(storage, "use crate::conversation::Caller;"));
    assert!(wrong(storage, "fn f() { crate::api::call() }"));
    assert!(wrong(storage, "use super::super::super::gateway;"));
    assert!(wrong(storage, "use crate::wire::{entry, message};"));
    assert!(wrong(
        "server/src/bus/mod.rs",
        "use crate::{domain::Seq, conversation::Caller};"
    ));
    assert!(wrong("server/src/bus/mod.rs", "use super::api;"));
    assert!(wrong(
        "server/src/wire/entry/to_proto.rs",
        "use crate::storage::StoredEntry;"
    ));
    assert!(wrong("server/src/extra/mod.rs", "//! No place."));
}

#[test]
fn arrows_that_point_down_are_not() {
    let storage = "server/src/storage/embedded/log.rs";
    assert!(!wrong(
        storage,
        "use crate::{domain::{Seq, Entry}, wire::entry};\nuse super::super::log;"
    ));
    assert!(!wrong(storage, "// use crate::api;\nlet x = \"crate::api\";"));
    assert!(!wrong(
        "server/src/gateway/mod.rs",
        "use crate::api::Api; use crate::domain::Seq;"
    ));
    assert!(!wrong("server/src/conversation/tests/bed.rs", "use crate::api::Api;"));
}

#[test]
fn crates_out_of_their_place_are_found() {
    assert!(wrong("server/src/conversation/mod.rs", "use tonic::Status;"));
    assert!(wrong(
        "server/src/conversation/mod.rs",
        "fn f(x: stonechat_proto::v1::Entry) {}"
    ));
    assert!(wrong("server/src/domain/ids.rs", "use tokio::sync::mpsc;"));
    assert!(wrong("server/src/storage/embedded/log.rs", "use sqlx::Row;"));
    assert!(wrong("server/src/storage/memory/log.rs", "use fjall::Database;"));
    assert!(wrong("server/src/api/mod.rs", "use jsonwebtoken as jwt;"));
    assert!(!wrong(
        "server/src/conversation/mod.rs",
        "//! Names neither tonic:: nor others.\nlet tonic = 1;"
    ));
    assert!(!wrong("server/src/storage/sql/users.rs", "use sqlx::Row;"));
}
