//! Precedence of the sources, and what each refuses.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches};

use super::load::{OPTIONS, variable};
use super::{Config, ConfigError, ConfigFlags};

/// For each option three values, all different from each other and from the default, as flags and environment spell
/// them, and whether a file spells them as text.
const VALUES: [(&str, [&str; 3], bool); 54] = [
    ("data_folder", ["/a", "/b", "/c"], true),
    ("listen", ["0.0.0.0:1", "[::1]:2", "127.0.0.1:0"], true),
    ("issuer", ["a", "b", "c"], true),
    ("audience", ["a", "b", "c"], true),
    ("jwks_file", ["/a", "/b", "/c"], true),
    (
        "jwks_url",
        [
            "https://id.example.org/keys",
            "http://127.0.0.1:8080/keys?tenant=a",
            "https://[::1]/",
        ],
        true,
    ),
    ("provision_users", ["false", "false", "false"], false),
    (
        "cors_origins",
        [
            "https://a.org",
            "http://b.org:8080,https://c.org",
            "http://localhost:3000",
        ],
        true,
    ),
    ("drain_seconds", ["0", "1", "300"], false),
    ("connections_max", ["1", "2", "1000000"], false),
    ("address_connections_max", ["0", "1", "1000000"], false),
    ("address_connections_per_second", ["0", "1", "100000"], false),
    ("address_requests_per_second", ["0", "1", "100000"], false),
    ("user_requests_per_second", ["0", "1", "100000"], false),
    ("requests_at_once_max", ["1", "2", "100000"], false),
    ("connection_age_seconds", ["0", "1", "604800"], false),
    ("session_frames_per_second", ["1", "2", "100000"], false),
    ("conversation_entries_per_second", ["1", "2", "100000"], false),
    ("tls_certificate", ["/a", "/b", "/c"], true),
    ("tls_key", ["/a", "/b", "/c"], true),
    ("operator_listen", ["0.0.0.0:1", "[::1]:2", "127.0.0.1:0"], true),
    ("operator_client_ca", ["/a", "/b", "/c"], true),
    (
        "operator_client_names",
        ["a.org", "b.org,spiffe://c.org/ops", "d.org"],
        true,
    ),
    ("admin_on_operator", ["true", "true", "true"], false),
    ("redis", ["redis://a", "redis://b", "redis://c:1,rediss://d:2"], true),
    ("redis_cluster", ["true", "true", "true"], false),
    ("redis_ca", ["/a", "/b", "/c"], true),
    ("redis_certificate", ["/a", "/b", "/c"], true),
    ("redis_key", ["/a", "/b", "/c"], true),
    (
        "postgres",
        ["postgres://a/b", "postgres://c/d", "postgresql://e/f"],
        true,
    ),
    ("postgres_connections_max", ["2", "3", "1000"], false),
    ("cql", ["a:1", "b:2", "127.0.0.1:9042,[::1]:9042"], true),
    ("cql_keyspace", ["a", "b_2", "c"], true),
    ("cql_datacenter", ["a", "b", "c"], true),
    ("cql_replication", ["1", "2", "9"], false),
    ("cql_user", ["a", "b", "c"], true),
    ("cql_password", ["a", "b", "c"], true),
    ("cql_ca", ["/a", "/b", "/c"], true),
    ("cql_names", ["a", "b", "c,d"], true),
    ("cql_certificate", ["/a", "/b", "/c"], true),
    ("cql_key", ["/a", "/b", "/c"], true),
    ("roles", ["gateway", "core", "core"], true),
    ("node_listen", ["127.0.0.1:1", "127.0.0.1:2", "[::1]:3"], true),
    ("node_advertise", ["a:1", "b:2", "c:3"], true),
    ("node_plain", ["true", "true", "true"], false),
    ("node_certificate", ["/a", "/b", "/c"], true),
    ("node_key", ["/a", "/b", "/c"], true),
    ("node_ca", ["/a", "/b", "/c"], true),
    ("node_names", ["a", "b", "c,d"], true),
    ("clock_offset_max_ms", ["0", "250", "600000"], false),
    (
        "otlp_endpoint",
        ["http://a:1", "http://b:2", "http://127.0.0.1:4317"],
        true,
    ),
    ("otlp_one_in", ["1", "2", "1000000"], false),
    ("log_filter", ["warn", "debug", "error,sqlx=off"], true),
    ("log_format", ["json", "json", "json"], true),
];

/// As the command line parses them.
fn flags(arguments: &[String]) -> ConfigFlags {
    let command = ConfigFlags::augment_args(Command::new("serve"));
    let arguments = std::iter::once("serve".to_owned()).chain(arguments.iter().cloned());
    ConfigFlags::from_arg_matches(&command.try_get_matches_from(arguments).unwrap()).unwrap()
}

fn flag(key: &str, value: &str) -> String {
    format!("--{}={value}", key.replace('_', "-"))
}

struct Sources {
    file: Option<String>,
    environment: Vec<(String, OsString)>,
    flags: Vec<String>,
}

impl Sources {
    fn none() -> Self {
        Self {
            file: None,
            environment: Vec::new(),
            flags: Vec::new(),
        }
    }

    fn file(text: &str) -> Self {
        Self {
            file: Some(text.to_owned()),
            ..Self::none()
        }
    }

    fn environment(key: &str, value: impl Into<OsString>) -> Self {
        Self {
            environment: vec![(variable(key), value.into())],
            ..Self::none()
        }
    }

    fn flag(key: &str, value: &str) -> Self {
        Self {
            flags: vec![flag(key, value)],
            ..Self::none()
        }
    }

    fn load(&self) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stonechat.toml");
        let mut arguments = self.flags.clone();
        if let Some(text) = &self.file {
            std::fs::write(&path, text).unwrap();
            arguments.push(flag("config", path.to_str().unwrap()));
        }
        let found = |name: &str| {
            let found = self.environment.iter().find(|(variable, _)| variable == name);
            found.map(|(_, value)| value.clone())
        };
        Config::load_from(&flags(&arguments), found)
    }

    fn error(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

fn toml_line(key: &str, value: &str, is_text: bool) -> String {
    match (key, is_text) {
        ("cors_origins" | "operator_client_names", _) => format!("{key} = {:?}", value.split(',').collect::<Vec<_>>()),
        (_, true) => format!("{key} = {value:?}"),
        (_, false) => format!("{key} = {value}"),
    }
}

#[test]
fn defaults_serve_this_machine_only() {
    let config = Sources::none().load().unwrap();
    assert_eq!(config, Config::default());
    assert!(config.listen.ip().is_loopback());
    assert_eq!((config.listen.port(), config.drain.as_secs()), (7400, 10));
    assert!(
        config.cors_origins.is_empty()
            && config.jwks_file.is_none()
            && config.jwks_url.is_none()
            && config.provision_users
    );
}

/// File over default, environment over file, flag over environment: for every option.
#[test]
fn the_later_source_wins() {
    assert_eq!(VALUES.map(|(key, ..)| key), OPTIONS.map(|option| option.key));
    for (key, [in_file, in_environment, in_flag], is_text) in VALUES {
        // What a single source gives.
        let by_file = Sources::file(&toml_line(key, in_file, is_text)).load().unwrap();
        let by_environment = Sources::environment(key, in_environment).load().unwrap();
        let by_flag = Sources::flag(key, in_flag).load().unwrap();
        for config in [&by_file, &by_environment, &by_flag] {
            assert_ne!(*config, Config::default(), "{key} changes nothing");
        }
        let mut sources = Sources::file(&toml_line(key, in_file, is_text));
        sources.environment = Sources::environment(key, in_environment).environment;
        assert_eq!(sources.load().unwrap(), by_environment, "{key}");
        sources.flags = Sources::flag(key, in_flag).flags;
        assert_eq!(sources.load().unwrap(), by_flag, "{key}");
        sources.environment.clear();
        assert_eq!(sources.load().unwrap(), by_flag, "{key}");
    }
}

#[test]
fn sources_of_different_options_add_up() {
    let mut sources = Sources::file("issuer = \"file\"\naudience = \"file\"\nlog_filter = \"warn\"");
    sources.environment = Sources::environment("audience", "environment").environment;
    sources.flags = Sources::flag("log_filter", "debug").flags;
    let config = sources.load().unwrap();
    assert_eq!(
        (
            config.issuer.as_str(),
            config.audience.as_str(),
            config.log_filter.as_str()
        ),
        ("file", "environment", "debug")
    );
}

#[test]
fn file_named_by_the_environment_is_read_unless_a_flag_names_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.toml");
    std::fs::write(&path, "issuer = \"other\"").unwrap();
    let environment = vec![("STONECHAT_CONFIG".to_owned(), path.into_os_string())];
    let mut sources = Sources::none();
    sources.environment = environment;
    assert_eq!(sources.load().unwrap().issuer, "other");
    sources.file = Some("issuer = \"named by the flag\"".to_owned());
    assert_eq!(sources.load().unwrap().issuer, "named by the flag");
}

#[test]
fn empty_text_takes_back_what_may_be_absent() {
    let mut sources =
        Sources::file("jwks_file = \"/keys\"\ncors_origins = [\"https://a.org\"]\noperator_listen = \"127.0.0.1:1\"");
    sources.flags = ["jwks_file", "cors_origins", "operator_listen"]
        .map(|key| flag(key, ""))
        .into();
    let config = sources.load().unwrap();
    assert_eq!((config.jwks_file, config.cors_origins), (None, Vec::new()));
    assert_eq!(config.operator_listen, None);
}

/// Everything that has a flag is an option, and the other way round.
#[test]
fn every_option_has_its_flag() {
    let command = ConfigFlags::augment_args(Command::new("serve"));
    let named: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| Some(argument.get_long()?.replace('-', "_")))
        .collect();
    let mut options: BTreeSet<String> = OPTIONS.iter().map(|option| option.key.to_owned()).collect();
    options.insert("config".to_owned());
    assert_eq!(named, options);
}

#[test]
fn wrong_values_are_refused_with_source_and_option() {
    let wrong = [
        ("data_folder", ""),
        ("listen", "localhost"),
        ("listen", "127.0.0.1:99999"),
        ("issuer", ""),
        ("audience", ""),
        ("jwks_url", "/keys.json"),
        ("jwks_url", "id.example.org/keys"),
        ("jwks_url", "ftp://id.example.org/keys"),
        ("jwks_url", "file:///etc/passwd"),
        ("jwks_url", "https://user:word@id.example.org/keys"),
        ("jwks_url", "https://id.example.org/keys#new"),
        ("jwks_url", "https://"),
        ("provision_users", "yes"),
        ("cors_origins", "*"),
        ("cors_origins", "https://*.example.org"),
        ("cors_origins", "https://example.org/"),
        ("cors_origins", "https://example.org/path"),
        ("cors_origins", "https://Example.org"),
        ("cors_origins", "https://user@example.org"),
        ("cors_origins", "example.org"),
        ("cors_origins", "ftp://example.org"),
        ("cors_origins", "https://a.org,null"),
        ("drain_seconds", "301"),
        ("drain_seconds", "-1"),
        ("drain_seconds", "10s"),
        ("connections_max", "0"),
        ("address_connections_max", "1000001"),
        ("address_connections_per_second", "-1"),
        ("address_requests_per_second", "many"),
        ("user_requests_per_second", "100001"),
        ("requests_at_once_max", "0"),
        ("connection_age_seconds", "604801"),
        ("session_frames_per_second", "0"),
        ("session_frames_per_second", "4294967296"),
        ("conversation_entries_per_second", "1.5"),
        ("operator_listen", "localhost"),
        ("operator_client_names", "*.example.org"),
        ("operator_client_names", "a name"),
        ("admin_on_operator", "yes"),
        ("redis", "127.0.0.1:6379"),
        ("redis", "http://127.0.0.1"),
        ("postgres", "mysql://a/b"),
        ("postgres_connections_max", "1"),
        ("cql", "127.0.0.1"),
        ("cql", "http://127.0.0.1:9042"),
        ("cql_keyspace", "Stone chat"),
        ("cql_keyspace", "1a"),
        ("cql_replication", "0"),
        ("roles", "gateway,typist"),
        ("node_listen", "localhost"),
        ("node_plain", "yes"),
        ("node_names", "*.example.org"),
        ("otlp_endpoint", "localhost:4317"),
        ("otlp_endpoint", "https://collector:4317"),
        ("otlp_endpoint", "http://collector"),
        ("otlp_one_in", "0"),
        ("log_filter", "stonechat=loud"),
        ("log_format", "xml"),
    ];
    for (key, value) in wrong {
        let in_environment = Sources::environment(key, value).error();
        let named = format!("environment variable {}: ", variable(key));
        assert!(in_environment.starts_with(&named), "{in_environment}");
        let in_flag = Sources::flag(key, value).error();
        let named = format!("flag --{}: ", key.replace('_', "-"));
        assert!(in_flag.starts_with(&named), "{in_flag}");
        let in_file = Sources::file(&format!("{key} = {value:?}")).error();
        assert!(in_file.contains("stonechat.toml") && in_file.contains(key), "{in_file}");
    }
}

#[test]
fn values_of_a_wrong_type_are_refused() {
    for line in [
        "issuer = 7",
        "listen = 7400",
        "provision_users = 1",
        "cors_origins = [7]",
        "cors_origins = true",
        "drain_seconds = 1.5",
        "drain_seconds = [10]",
        "connections_max = -1",
        "log_format = { kind = \"json\" }",
        "data_folder = 2026-01-01",
    ] {
        let error = Sources::file(line).error();
        let key = line.split(' ').next().unwrap();
        assert!(
            error.contains(&format!("stonechat.toml: {key}: must be")),
            "{line}: {error}"
        );
    }
}

#[test]
fn unknown_options_of_a_file_are_refused_by_name() {
    for (text, key) in [
        ("listne = \"127.0.0.1:1\"", "listne"),
        ("[log]\nfilter = \"info\"", "log"),
        ("Listen = \"127.0.0.1:1\"", "Listen"),
    ] {
        let error = Sources::file(text).error();
        assert!(
            error.contains(&format!("no option {key:?}")) && error.contains("listen"),
            "{error}"
        );
    }
}

#[test]
fn unusable_files_are_refused() {
    let syntax = Sources::file("issuer = ").error();
    assert!(syntax.contains("stonechat.toml is not TOML"), "{syntax}");
    let twice = Sources::file("issuer = \"a\"\nissuer = \"b\"").error();
    assert!(twice.contains("is not TOML"), "{twice}");
    let missing = ConfigFlags {
        config: Some(PathBuf::from("/nowhere/stonechat.toml")),
        ..ConfigFlags::default()
    };
    let missing = Config::load_from(&missing, |_| None).unwrap_err();
    assert!(matches!(missing, ConfigError::Unreadable { .. }), "{missing}");
}

#[test]
fn variables_that_are_not_text_are_refused() {
    let error = Sources::environment("issuer", OsString::from_vec(vec![0xff])).error();
    assert_eq!(error, "environment variable STONECHAT_ISSUER: must be UTF-8");
}

/// The default that help and `docs/operations.md` name is the one there is.
#[test]
fn documented_defaults_are_the_defaults() {
    for setting in super::settings() {
        // Behind a comma stands what the default means.
        let default = setting.default.split(',').next().unwrap_or_default();
        let given = if default == "none" { "" } else { default };
        let config = Sources::flag(&setting.name, given).load();
        assert_eq!(config.unwrap(), Config::default(), "{}: {default}", setting.name);
    }
}

#[test]
fn every_option_is_documented_with_its_reason() {
    let named: BTreeSet<String> = super::settings().into_iter().map(|setting| setting.name).collect();
    let keys: BTreeSet<String> = OPTIONS.iter().map(|option| option.key.to_owned()).collect();
    assert_eq!(named, keys);
    for setting in super::settings() {
        let whole = [&setting.takes, &setting.default, &setting.what, &setting.reason];
        assert!(
            whole.iter().all(|part| !part.is_empty()),
            "the flag {} needs a comment of two paragraphs: what it is with its range and \"[default: …]\", then why \
             that is the default: {setting:?}",
            setting.name
        );
        assert!(
            !whole.iter().any(|part| part.contains('|')),
            "{} breaks the table",
            setting.name
        );
    }
}
