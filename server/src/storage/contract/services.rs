//! Real services that suites run against, named by the environment; `scripts/services` starts them.

/// Redis, one server.
pub(crate) const REDIS: &str = "STONECHAT_TEST_REDIS";
/// Redis, nodes of a cluster, comma-separated.
pub(crate) const REDIS_CLUSTER: &str = "STONECHAT_TEST_REDIS_CLUSTER";
/// Postgres, a database whose user may create others.
pub(crate) const POSTGRES: &str = "STONECHAT_TEST_POSTGRES";
/// CQL servers, comma-separated.
pub(crate) const CQL: &str = "STONECHAT_TEST_CQL";

/// Where a service is; `None`, and says so, where nobody started it.
///
/// # Panics
/// In CI, where a suite that is skipped is a failure.
pub(crate) fn service(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{variable} is not set: in CI nothing is skipped"
        );
        println!("skipped: {variable} is not set, scripts/services starts what it names");
    }
    address
}
