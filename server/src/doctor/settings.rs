//! Settings that contradict each other, guard less than they seem to, or name files that cannot be used.

use std::path::Path;
use std::sync::Arc;

use stonechat_host::{Host, TcpConnector};

use super::Check;
use crate::auth::{JwksFile, JwksUrl, KeyError, Secret};
use crate::config::Config;
use crate::node::{StartError, check_trust, shown_pairs, tls_files};
use crate::tls::{self, TlsFiles, TlsPair};

const SETTINGS: &str = "settings";
/// Days before its end from which a certificate is worth a word: two weeks are enough to find out why nobody renewed it.
const CERTIFICATE_DAYS: i64 = 14;
/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// Settings that make no sense together.
pub(super) fn contradictions(config: &Config) -> Vec<Check> {
    let rules: [(bool, &str, &str); 9] = [
        (
            config.node_listen.is_some() && config.redis.is_empty(),
            "node_listen without redis: nodes find each other through it",
            "set redis, or take node_listen away",
        ),
        (
            !config.cql.is_empty() && config.postgres.is_none(),
            "cql without postgres: the log would be shared by all nodes, the directory by nobody",
            "set postgres too",
        ),
        (
            config.postgres.is_some() && config.cql.is_empty(),
            "postgres without cql: the directory would be shared by all nodes, the log by nobody",
            "set cql too",
        ),
        (
            config.node_listen.is_some() && config.cql.is_empty(),
            "node_listen without cql: every node would have a log of its own",
            "set cql and postgres, or take node_listen away",
        ),
        (
            config.redis_cluster && config.redis.is_empty(),
            "redis_cluster without redis: there is no cluster to reach",
            "set redis to some of the cluster's addresses",
        ),
        (
            config.cql_user.is_some() != config.cql_password.is_some(),
            "cql_user and cql_password belong together",
            "set both or none",
        ),
        (
            !(config.roles.gateway && config.roles.core) && config.node_listen.is_none(),
            "roles without node_listen: a node alone must do everything",
            "set node_listen, or roles to gateway,core",
        ),
        (
            config.jwks_file.is_some() && config.jwks_url.is_some(),
            "jwks_file and jwks_url are both set: which keys count?",
            "take one of them away",
        ),
        (
            config.node_listen.is_some_and(|address| address.ip().is_unspecified()) && config.node_advertise.is_none(),
            "node_listen is on all addresses and node_advertise is not set: others would be told an address of nowhere",
            "set node_advertise to host:port as other nodes reach it",
        ),
    ];
    let broken = rules.iter().filter(|(is_broken, ..)| *is_broken);
    let mut checks: Vec<Check> = broken
        .map(|(_, found, advice)| Check::fail(SETTINGS, *found, *advice))
        .collect();
    let encryption = [tls_files(config).err(), check_trust(config).err()];
    for error in encryption.into_iter().flatten() {
        checks.push(Check::fail(SETTINGS, error.to_string(), advice_of(&error)));
    }
    if checks.is_empty() {
        checks.push(Check::ok(SETTINGS, "nothing contradicts"));
    }
    checks
}

fn advice_of(error: &StartError) -> &'static str {
    match error {
        StartError::Contradiction(_) => "set what is named, or take the other away",
        _ => "see the message",
    }
}

/// Who can reach what, and how openly.
pub(super) fn listeners(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let public = "listen";
    let address = config.listen;
    let among_others = config.node_listen.is_some() || !config.redis.is_empty();
    checks.push(if address.ip().is_loopback() && among_others {
        let found = format!("{address} is reached by this machine alone, though there are other nodes");
        Check::warn(
            public,
            found,
            "right behind a proxy on this machine; else set listen to 0.0.0.0:7400",
        )
    } else if address.ip().is_loopback() {
        Check::ok(public, format!("{address} is reached by this machine alone"))
    } else if config.tls_certificate.is_none() {
        let found = format!("{address} is reached from outside and is not encrypted: tokens can be read on the way");
        let advice = "set tls_certificate and tls_key, unless a proxy encrypts and nobody can go around it";
        Check::warn(public, found, advice)
    } else {
        Check::ok(public, format!("{address}, encrypted"))
    });
    let guarded = [
        (
            "operator_listen",
            config.operator_listen,
            config.operator_client_ca.is_some(),
        ),
        ("node_listen", config.node_listen, config.node_ca.is_some()),
    ];
    for (name, address, asks) in guarded {
        let Some(address) = address else { continue };
        checks.push(if asks || address.ip().is_loopback() {
            Check::ok(name, format!("{address}"))
        } else {
            let found = format!("{address} neither encrypts nor asks who comes");
            Check::warn(
                name,
                found,
                "right in a network of its own; else set its certificate authority and names",
            )
        });
    }
    checks
}

/// Certificates, keys and authorities: readable, belonging together, not about to end.
pub(super) async fn certificates(config: &Config, host: &Host) -> Vec<Check> {
    let mut checks = Vec::new();
    for files in tls_files(config).unwrap_or_default() {
        let (expired, renewed) = ("no client connects", "the new files are read without a restart");
        checks.push(certificate(&files, expired, renewed, host).await);
    }
    for TlsPair {
        certificate: shown,
        key,
    } in shown_pairs(config)
    {
        let files = TlsFiles {
            certificate: shown,
            key,
            clients: None,
        };
        let (expired, renewed) = (
            "the store that asks for it refuses this node",
            "and start the node again",
        );
        checks.push(certificate(&files, expired, renewed, host).await);
    }
    checks
}

/// A certificate and its key; what it means when it has expired, and when a new one is in use.
async fn certificate(files: &TlsFiles, expired: &str, renewed: &str, host: &Host) -> Check {
    let (name, path) = ("certificate", files.certificate.display());
    let expires = match tls::examine(files, host).await {
        Ok(expires) => expires,
        Err(error) => {
            let advice = "put a certificate and the key that belongs to it there";
            return Check::fail(name, error.to_string(), advice);
        }
    };
    let days = expires.saturating_mul(1_000).saturating_sub(host.clock.unix_ms()) / DAY_MS;
    if days < 0 {
        Check::fail(name, format!("{path} has expired: {expired}"), "renew it")
    } else if days < CERTIFICATE_DAYS {
        let advice = format!("renew it; {renewed}");
        Check::warn(name, format!("{path} expires in {days} days"), advice)
    } else {
        Check::ok(name, format!("{path} is good for {days} days"))
    }
}

/// What tokens are checked with.
pub(super) async fn keys(config: &Config, host: &Host) -> Check {
    let name = "token keys";
    if let Some(path) = &config.jwks_file {
        return match JwksFile::open(path.clone()).await {
            Ok(_) => Check::ok(name, format!("{} is usable", path.display())),
            Err(error) => Check::fail(name, error.to_string(), "put the provider's key set (JWKS) there"),
        };
    }
    if let Some(url) = &config.jwks_url {
        let begun = stonechat_host::monotonic();
        let fetched = JwksUrl::start(url.clone(), Arc::new(TcpConnector), host.clone()).await;
        return match fetched {
            Ok(_) => Check::ok(name, "the provider's key set was fetched").took(begun.elapsed()),
            Err(error) => Check::fail(
                name,
                error.to_string(),
                "open the way from this machine to the provider, or use jwks_file",
            ),
        };
    }
    own_secret(name, &config.data_folder)
}

fn own_secret(name: &str, folder: &Path) -> Check {
    match Secret::load(folder) {
        Ok(_) => Check::ok(
            name,
            "tokens are issued here; the secret is readable by its owner alone",
        ),
        Err(KeyError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Check::ok(name, "tokens are issued here; the secret is made at the first start")
        }
        Err(error @ KeyError::Exposed { .. }) => Check::fail(
            name,
            error.to_string(),
            "who read it can be anybody: delete it if others were on this machine",
        ),
        Err(error) => Check::fail(
            name,
            error.to_string(),
            "restore it from a copy, or delete it to void all tokens",
        ),
    }
}
