//! The answer to `CLUSTER SLOTS`.

use redis::Value;

/// Slots of one node, ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) host: String,
    pub(super) port: u16,
}

/// The ranges and their masters; `asked` is the node that answered, which may not know its own name.
pub(super) fn parse(answer: Value, asked: &str) -> Vec<Range> {
    let Value::Array(ranges) = answer else {
        return Vec::new();
    };
    ranges
        .into_iter()
        .filter_map(|range| parse_range(range, asked))
        .collect()
}

fn parse_range(range: Value, asked: &str) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let (first, last) = (small(parts.next()?)?, small(parts.next()?)?);
    // The master comes first, then its replicas.
    let Value::Array(node) = parts.next()? else { return None };
    let mut node = node.into_iter();
    let host: Option<String> = redis::from_redis_value(node.next()?).ok()?;
    let asked_host = asked.rsplit_once(':').map_or(asked, |(host, _)| host);
    let host = host.filter(|host| !host.is_empty() && host != "?");
    Some(Range {
        first,
        last,
        host: host.unwrap_or_else(|| asked_host.to_owned()),
        port: small(node.next()?)?,
    })
}

fn small(value: Value) -> Option<u16> {
    redis::from_redis_value(value).ok()
}
