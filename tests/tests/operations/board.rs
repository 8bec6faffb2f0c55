//! The dashboard and the alert rules name what the binary has.

use std::collections::BTreeSet;

use yaml_rust2::{Yaml, YamlLoader};

use super::series::{Page, document, selected};

const BOARD: &str = "docs/grafana/stonechat.json";
const ALERTS: &str = "docs/grafana/alerts.yaml";

/// Metrics that are not on the board, each with its reason.
const NOT_SHOWN: [(&str, &str); 2] = [
    (
        "process_threads",
        "their number is fixed by the cores, but for blocking reads",
    ),
    (
        "process_virtual_memory_bytes",
        "says nothing about memory in use; resident memory does",
    ),
];

fn panels() -> Vec<serde_json::Value> {
    let board: serde_json::Value = serde_json::from_str(&document(BOARD)).expect("JSON");
    board["panels"].as_array().expect("panels").clone()
}

/// Every panel's expressions.
fn board() -> Vec<String> {
    let panels = panels();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets
        .map(|target| target["expr"].as_str().expect("an expression").to_owned())
        .collect()
}

struct Rule {
    name: String,
    expression: String,
    whole: Yaml,
}

fn rules() -> Vec<Rule> {
    let documents = YamlLoader::load_from_str(&document(ALERTS)).expect("YAML");
    let groups = documents[0]["groups"].as_vec().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_vec().expect("rules"));
    let rule = |rule: &Yaml| Rule {
        name: rule["alert"].as_str().expect("a name").to_owned(),
        expression: rule["expr"].as_str().expect("an expression").to_owned(),
        whole: rule.clone(),
    };
    rules.map(rule).collect()
}

#[test]
fn the_board_shows_what_there_is() {
    let (page, expressions) = (Page::real(), board());
    assert!(expressions.len() > 40, "{} expressions", expressions.len());
    let wrong: Vec<String> = expressions
        .iter()
        .flat_map(|expression| {
            page.findings(expression)
                .into_iter()
                .map(move |why| format!("{why}: {expression}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{BOARD}:\n{}", wrong.join("\n"));
}

/// Grafana takes panels with one id for one panel.
#[test]
fn each_panel_has_an_id_of_its_own() {
    let panels = panels();
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
}

/// A metric that nobody sees is not worth its memory: it is on the board, or there is a reason.
#[test]
fn every_metric_is_shown_or_left_out_on_purpose() {
    let (page, expressions) = (Page::real(), board());
    let series: Vec<String> = expressions
        .iter()
        .flat_map(|expression| selected(expression))
        .map(|(name, _)| name)
        .collect();
    let shown: BTreeSet<&str> = series.iter().filter_map(|series| page.metric(series)).collect();
    let left_out: BTreeSet<&str> = NOT_SHOWN.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = page.metrics.keys().map(String::as_str).collect();
    let unseen: Vec<&&str> = all
        .iter()
        .filter(|name| !shown.contains(*name) && !left_out.contains(*name))
        .collect();
    assert!(
        unseen.is_empty(),
        "neither in {BOARD} nor in NOT_SHOWN with a reason: {unseen:?}"
    );
    let idle: Vec<&&str> = left_out
        .iter()
        .filter(|name| shown.contains(*name) || !all.contains(*name))
        .collect();
    assert!(idle.is_empty(), "in NOT_SHOWN, but shown or gone: {idle:?}");
}

#[test]
fn alerts_are_about_what_there_is_and_say_what_to_do() {
    let page = Page::real();
    let mut names = BTreeSet::new();
    for rule in rules() {
        let wrong = page.findings(&rule.expression);
        assert!(wrong.is_empty(), "{ALERTS}: {}: {wrong:?}", rule.name);
        let severity = rule.whole["labels"]["severity"].as_str();
        assert!(
            matches!(severity, Some("page" | "ticket")),
            "{}: {severity:?}",
            rule.name
        );
        for part in ["summary", "action"] {
            assert!(
                rule.whole["annotations"][part].as_str().is_some(),
                "{} has no {part}",
                rule.name
            );
        }
        assert!(names.insert(rule.name.clone()), "{} is there twice", rule.name);
    }
    // The page names them all, each with its reason.
    let page = document("docs/operations.md");
    let named: BTreeSet<String> = page
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| word.starts_with("Stonechat") && word.len() > "Stonechat".len())
        .map(str::to_owned)
        .collect();
    assert_eq!(named, names, "docs/operations.md and {ALERTS} name different alerts");
}
