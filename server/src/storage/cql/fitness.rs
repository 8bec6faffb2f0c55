//! Whether servers and keyspace are such that the log can stand on them. Asked at every start: both may change under a keyspace
//! that is there, and one that somebody made by hand was never as this release makes it.

use std::collections::BTreeSet;

use scylla::errors::ExecutionError;
use scylla::value::{CqlValue, Row};

use super::client::Client;
use super::schema::{is_scylla, text_of};
use super::{CqlError, CqlOptions};

/// Oldest Apache Cassandra: before it, conditional writes and range movements lose each other.
const CASSANDRA_MAJOR_MIN: u32 = 4;

/// Why servers or a keyspace will not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CqlMisfit {
    /// One of the servers is of this version.
    #[error("Apache Cassandra {0} is too old; {CASSANDRA_MAJOR_MIN}.0 or newer is needed")]
    TooOld(String),
    /// The keyspace has copies in several data centres, and the settings name none.
    #[error(
        "the keyspace has copies in the data centres {} and cql_datacenter names none: two of them could append the same \
         seq, each for itself", .0.join(", ")
    )]
    Unnamed(Vec<String>),
    /// The keyspace has no copies in the data centre that the settings name, but in these.
    #[error("the keyspace has no copies in the data centre {named} that cql_datacenter names, but in: {}", .there.join(", "))]
    Elsewhere {
        /// The one that is named.
        named: String,
        /// Those that have copies.
        there: Vec<String>,
    },
    /// What is written to a table is gone after a time.
    #[error(
        "rows of table {table} are gone after {seconds} s; without its newest row a conversation would begin again"
    )]
    Expiring {
        /// Which table.
        table: String,
        /// After how long.
        seconds: i32,
    },
}

/// What is there.
pub(super) struct Found {
    pub(super) misfits: Vec<CqlMisfit>,
    /// Data centres in which the keyspace has copies; empty without a keyspace.
    pub(super) homes: Vec<String>,
}

/// Refuses what will not do.
pub(super) async fn check(client: &Client, options: &CqlOptions) -> Result<(), CqlError> {
    match look(client, options).await?.misfits.into_iter().next() {
        Some(first) => Err(first.into()),
        None => Ok(()),
    }
}

/// Looks at everything that could be wrong. Without a keyspace there is less of it.
pub(super) async fn look(client: &Client, options: &CqlOptions) -> Result<Found, CqlError> {
    let servers = servers(client, options.datacenter.as_deref()).await?;
    let mut misfits = Vec::new();
    if !is_scylla(client).await? {
        let versions: BTreeSet<&String> = servers.iter().filter_map(|server| server.version.as_ref()).collect();
        let old = versions.into_iter().filter(|version| !is_new_enough(version));
        misfits.extend(old.cloned().map(CqlMisfit::TooOld));
    }
    let homes = homes(client, &options.keyspace, &servers).await?;
    if let Some(homes) = &homes {
        misfits.extend(misplaced(homes, options.datacenter.as_deref()));
        misfits.extend(expiring(client, &options.keyspace).await?);
    }
    Ok(Found {
        misfits,
        homes: homes.unwrap_or_default(),
    })
}

struct Server {
    datacenter: Option<String>,
    version: Option<String>,
}

/// The one that answers, and those that it knows. Two may answer, so that one of them is missed: another start meets it.
async fn servers(client: &Client, named: Option<&str>) -> Result<Vec<Server>, CqlError> {
    let local = client
        .ask("SELECT data_center, release_version FROM system.local")
        .await
        .map_err(|error| nobody_there(error, named))?;
    let peers = client
        .ask("SELECT data_center, release_version FROM system.peers")
        .await?;
    let server = |row: &Row| Server {
        datacenter: text_of(row, 0),
        version: text_of(row, 1),
    };
    Ok(local.iter().chain(&peers).map(server).collect())
}

/// Servers of the data centre named are asked alone: without any the driver has nobody to ask.
fn nobody_there(error: CqlError, named: Option<&str>) -> CqlError {
    match (&error, named) {
        (CqlError::Request(cause), Some(named)) if matches!(**cause, ExecutionError::EmptyPlan) => {
            let why = format!("none of them is in the data centre {named} that cql_datacenter names");
            CqlError::Unfit(why)
        }
        _ => error,
    }
}

/// Versions begin with the major number, whatever comes behind it.
fn is_new_enough(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= CASSANDRA_MAJOR_MIN)
}

/// Data centres with copies; `None` without a keyspace.
async fn homes(client: &Client, keyspace: &str, servers: &[Server]) -> Result<Option<Vec<String>>, CqlError> {
    let ask = format!("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'");
    let rows = client.ask(&ask).await?;
    let Some(row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let pairs = match row.columns.into_iter().next().flatten() {
        Some(CqlValue::Map(pairs)) => pairs,
        other => {
            let why = format!("the replication of the keyspace was answered with {other:?}");
            return Err(CqlError::Answer(why));
        }
    };
    let pairs = pairs.into_iter().filter_map(|pair| match pair {
        (CqlValue::Text(name), CqlValue::Text(value)) => Some((name, value)),
        _ => None,
    });
    let known: BTreeSet<String> = servers.iter().filter_map(|server| server.datacenter.clone()).collect();
    Ok(Some(homes_of(pairs.collect(), known).into_iter().collect()))
}

/// Those that a strategy names with a number of copies; where it names none it takes servers wherever they stand.
fn homes_of(replication: Vec<(String, String)>, known: BTreeSet<String>) -> BTreeSet<String> {
    let by_datacenter =
        |(name, value): &(String, String)| name == "class" && value.ends_with("NetworkTopologyStrategy");
    if !replication.iter().any(by_datacenter) {
        return known;
    }
    let has_copies = |(name, value): &(String, String)| name != "class" && value != "0";
    let homes = replication.into_iter().filter(has_copies);
    homes.map(|(name, _)| name).collect()
}

/// A conditional write is decided by the servers of one data centre (D18), so that all must be asked in the same one.
fn misplaced(homes: &[String], named: Option<&str>) -> Option<CqlMisfit> {
    match named {
        None if homes.len() > 1 => Some(CqlMisfit::Unnamed(homes.to_vec())),
        Some(named) if !homes.iter().any(|home| home == named) => Some(CqlMisfit::Elsewhere {
            named: named.to_owned(),
            there: homes.to_vec(),
        }),
        _ => None,
    }
}

/// Tables whose rows do not stay (D8, D16).
async fn expiring(client: &Client, keyspace: &str) -> Result<Vec<CqlMisfit>, CqlError> {
    let ask =
        format!("SELECT table_name, default_time_to_live FROM system_schema.tables WHERE keyspace_name = '{keyspace}'");
    let rows = client.ask(&ask).await?;
    let expiring = rows.iter().filter_map(|row| match row.columns.get(1)? {
        Some(CqlValue::Int(seconds)) if *seconds > 0 => Some(CqlMisfit::Expiring {
            table: text_of(row, 0)?,
            seconds: *seconds,
        }),
        _ => None,
    });
    Ok(expiring.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_versions_before_the_oldest_are_too_old() {
        for version in ["4.0.0", "4.0-rc1", "4.1.7", "5.0.5", "5.1-alpha1-SNAPSHOT", "10.0"] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["3.11.17", "2.2.0", "", "four", "3"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn homes(replication: &[(&str, &str)]) -> Vec<String> {
        let pairs = replication
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let known = words(&["east", "west"]).into_iter().collect();
        homes_of(pairs.collect(), known).into_iter().collect()
    }

    #[test]
    fn d18_copies_are_where_the_strategy_puts_them() {
        let by_datacenter = ("class", "org.apache.cassandra.locator.NetworkTopologyStrategy");
        assert_eq!(homes(&[by_datacenter, ("west", "3"), ("north", "0")]), ["west"]);
        assert_eq!(
            homes(&[("south", "1"), by_datacenter, ("west", "3")]),
            ["south", "west"]
        );
        let anywhere = ("class", "org.apache.cassandra.locator.SimpleStrategy");
        assert_eq!(homes(&[anywhere, ("replication_factor", "3")]), ["east", "west"]);
    }

    #[test]
    fn d18_one_home_is_asked_by_all() {
        let (one, two) = (words(&["east"]), words(&["east", "west"]));
        assert_eq!(misplaced(&one, None), None);
        assert_eq!(misplaced(&one, Some("east")), None);
        assert_eq!(misplaced(&two, Some("west")), None, "all nodes name the same");
        assert_eq!(misplaced(&two, None), Some(CqlMisfit::Unnamed(two.clone())));
        let elsewhere = |there: &[String]| {
            Some(CqlMisfit::Elsewhere {
                named: "north".to_owned(),
                there: there.to_vec(),
            })
        };
        assert_eq!(misplaced(&two, Some("north")), elsewhere(&two));
        assert_eq!(misplaced(&[], Some("north")), elsewhere(&[]));
    }
}
