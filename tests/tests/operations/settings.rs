//! The table of settings in `docs/operations.md`.

use stonechat_server::config::markdown;

use super::series::document;

const BEGIN: &str = "<!-- settings: begin";
const END: &str = "<!-- settings: end -->";

/// The table of a page, as lines.
fn table(page: &str) -> Vec<&str> {
    let (_, from) = page.split_once(BEGIN).expect("the beginning of the table");
    let (table, _) = from.split_once(END).expect("the end of the table");
    table.lines().skip(1).collect()
}

/// What the table lacks, and what it has too much.
fn drift(page: &str, wanted: &str) -> Vec<String> {
    let (found, wanted): (Vec<&str>, Vec<&str>) = (table(page), wanted.lines().collect());
    let missing = wanted.iter().filter(|row| !found.contains(row));
    let missing = missing.map(|row| format!("missing: {row}"));
    let stale = found.iter().filter(|row| !wanted.contains(row));
    let stale = stale.map(|row| format!("stale:   {row}"));
    let mut drift: Vec<String> = missing.chain(stale).collect();
    if drift.is_empty() && found != wanted {
        drift.push("the rows are in another order".to_owned());
    }
    drift
}

/// Every setting with its default and reason, as the flags say it.
#[test]
fn the_table_has_every_setting() {
    let drift = drift(&document("docs/operations.md"), &markdown());
    assert!(
        drift.is_empty(),
        "docs/operations.md: put what `cargo run -q -- settings --markdown` prints between the marks:\n{}",
        drift.join("\n")
    );
}

#[test]
fn drift_is_found() {
    let page = |rows: &str| format!("# Page\n{BEGIN}; by a command -->\n{rows}{END}\nmore");
    assert!(drift(&page("| a | 1 |\n| b | 2 |\n"), "| a | 1 |\n| b | 2 |\n").is_empty());
    assert_eq!(
        drift(&page("| a | 1 |\n"), "| a | 1 |\n| b | 2 |\n"),
        ["missing: | b | 2 |"]
    );
    assert_eq!(
        drift(&page("| a | 1 |\n| b | 2 |\n"), "| a | 1 |\n"),
        ["stale:   | b | 2 |"]
    );
    assert_eq!(drift(&page("| a | 1 |\n"), "| a | 9 |\n").len(), 2);
    assert_eq!(
        drift(&page("| b | 2 |\n| a | 1 |\n"), "| a | 1 |\n| b | 2 |\n").len(),
        1
    );
}
