//! Which time series a node has, and which of them an expression names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use stonechat_server::telemetry::meters;

/// What our metrics begin with, and those of the process.
const PREFIXES: [&str; 2] = ["stonechat_", "process_"];
/// What Prometheus makes of one histogram.
const OF_HISTOGRAM: [&str; 3] = ["_bucket", "_sum", "_count"];
/// Labels that the scraper adds.
const OF_SCRAPER: [&str; 2] = ["instance", "job"];

/// A file of the project.
pub(crate) fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a page of metrics holds.
pub(crate) struct Page {
    /// The metrics by name, with their type.
    pub(crate) metrics: BTreeMap<String, String>,
    /// Labels and their values, by metric.
    labels: BTreeMap<String, BTreeSet<(String, String)>>,
}

impl Page {
    /// Of this very binary.
    pub(crate) fn real() -> Self {
        Self::parse(&meters::render())
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut page = Self {
            metrics: BTreeMap::new(),
            labels: BTreeMap::new(),
        };
        for line in text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
                page.metrics.insert(name.to_owned(), kind.to_owned());
            } else if let Some((name, rest)) = line.split_once('{') {
                let inside = rest.split('}').next().unwrap_or_default();
                let labels = matchers(inside).into_iter().map(|(label, _, value)| (label, value));
                page.labels.entry(name.to_owned()).or_default().extend(labels);
            }
        }
        page
    }

    /// The metric that a series belongs to.
    pub(crate) fn metric(&self, series: &str) -> Option<&str> {
        let whole = self
            .metrics
            .get_key_value(series)
            .filter(|(_, kind)| *kind != "histogram");
        let part = || {
            let name = OF_HISTOGRAM.iter().find_map(|end| series.strip_suffix(end))?;
            self.metrics
                .get_key_value(name)
                .filter(|(_, kind)| *kind == "histogram")
        };
        whole.or_else(part).map(|(name, _)| name.as_str())
    }

    /// What is wrong with an expression: series and values of labels that are not there, brackets that do not close.
    pub(crate) fn findings(&self, expression: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            if expression.matches(open).count() != expression.matches(close).count() {
                found.push(format!("{open} and {close} do not match"));
            }
        }
        for (series, selector) in selected(expression) {
            if self.metric(&series).is_none() {
                found.push(format!("there is no series {series}"));
                continue;
            }
            for (label, operator, value) in matchers(&selector) {
                if !OF_SCRAPER.contains(&label.as_str()) {
                    found.extend(self.unmatched(&series, &label, &operator, &value));
                }
            }
        }
        found
    }

    fn unmatched(&self, series: &str, label: &str, operator: &str, value: &str) -> Vec<String> {
        let values: Vec<&str> = if operator.contains('~') {
            value.split('|').collect()
        } else {
            vec![value]
        };
        let has = |value: &str| {
            let pair = (label.to_owned(), value.to_owned());
            self.labels.get(series).is_some_and(|labels| labels.contains(&pair))
        };
        let absent = values.into_iter().filter(|value| !has(value));
        absent
            .map(|value| format!("{series} has no {label}={value:?}"))
            .collect()
    }
}

/// Every series that an expression names, and the inside of the braces behind it.
pub(crate) fn selected(expression: &str) -> Vec<(String, String)> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_name) {
        let from = &rest[start..];
        let end = from.find(|letter| !is_name(letter)).unwrap_or(from.len());
        let (name, behind) = from.split_at(end);
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            let inside = behind.strip_prefix('{').and_then(|inside| inside.split('}').next());
            found.push((name.to_owned(), inside.unwrap_or_default().to_owned()));
        }
        rest = behind;
    }
    found
}

/// Label, operator and value of each matcher; no value of ours has a comma or quote in it.
fn matchers(inside: &str) -> Vec<(String, String, String)> {
    let matcher = |part: &str| {
        let (label, value) = part.split_at(part.find(['=', '!'])?);
        let (operator, value) = value.split_once('"')?;
        let value = value.strip_suffix('"')?;
        Some((label.trim().to_owned(), operator.trim().to_owned(), value.to_owned()))
    };
    inside.split(',').filter_map(matcher).collect()
}

#[test]
fn what_is_wrong_with_an_expression_is_found() {
    let page = Page::parse(
        "# TYPE stonechat_shed_total counter\nstonechat_shed_total{what=\"disk\"} 0\n\
         # TYPE stonechat_ack_seconds histogram\nstonechat_ack_seconds_bucket{le=\"1\"} 0\n",
    );
    let good =
        "histogram_quantile(0.99, sum by (instance, le) (rate(stonechat_ack_seconds_bucket{instance=~\"$i\"}[5m])))";
    for right in [
        good,
        "rate(stonechat_shed_total{what=~\"disk\",job=\"x\"}[1m]) > 0",
        "up == 0",
    ] {
        assert_eq!(page.findings(right), Vec::<String>::new(), "{right}");
    }
    for wrong in [
        "rate(stonechat_sheds_total[5m])",
        "rate(stonechat_shed[5m])",
        "stonechat_ack_seconds",
        "stonechat_ack_seconds_total",
        "stonechat_shed_total{what=\"disks\"}",
        "stonechat_shed_total{reason=\"disk\"}",
        "stonechat_shed_total{what=~\"disk|typing\"}",
        "sum(rate(stonechat_shed_total[5m])",
    ] {
        assert_eq!(page.findings(wrong).len(), 1, "{wrong}");
    }
}
