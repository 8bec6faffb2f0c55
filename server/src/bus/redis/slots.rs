//! What a node of a cluster says of it: the answers to `CLUSTER INFO` and `CLUSTER SLOTS`.

use redis::Value;

/// Slots of one node, ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) host: String,
    pub(super) port: u16,
}

/// The slots as one node sees them. One that is cut off from the others, or hears of a move late, sees them as they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Whether the cluster takes commands, as this node sees it.
    pub(super) is_ok: bool,
    /// Higher after every change that the node heard of.
    pub(super) epoch: u64,
    pub(super) ranges: Vec<Range>,
}

/// What the node `asked` sees; `None` when it knows of no slots. Who does not tell the state is believed after those who do.
pub(super) fn view(info: Value, slots: Value, asked: &str) -> Option<View> {
    let info: String = redis::from_redis_value(info).unwrap_or_default();
    let field = |name: &str| {
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    };
    let view = View {
        is_ok: field("cluster_state").is_none_or(|state| state == "ok"),
        epoch: field("cluster_current_epoch")
            .and_then(|epoch| epoch.parse().ok())
            .unwrap_or(0),
        ranges: parse(slots, asked),
    };
    (!view.ranges.is_empty()).then_some(view)
}

/// The ranges and their masters; `asked` is the node that answered, which may not know its own name.
fn parse(answer: Value, asked: &str) -> Vec<Range> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn slots() -> Value {
        let node = Value::Array(vec![text(""), Value::Int(7391)]);
        Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(16_383), node])])
    }

    #[test]
    fn a_view_tells_whether_it_is_whole_and_how_new() {
        let told = "cluster_state:fail\r\ncluster_slots_ok:9\r\ncluster_current_epoch:12\r\n";
        let seen = view(text(told), slots(), "10.0.0.1:7391").expect("slots");
        assert_eq!((seen.is_ok, seen.epoch), (false, 12));
        let range = &seen.ranges[0];
        assert_eq!(
            (range.last, range.host.as_str(), range.port),
            (16_383, "10.0.0.1", 7391)
        );
        let seen = view(Value::Nil, slots(), "a:1").expect("slots");
        assert_eq!((seen.is_ok, seen.epoch), (true, 0));
        assert_eq!(view(text(told), Value::Array(Vec::new()), "a:1"), None);
    }
}
