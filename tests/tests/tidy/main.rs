//! Rules on the project's own text, which no compiler holds: layers, headers, lengths, leftovers, logs, links, bans.

mod bans;
mod cql;
mod layers;
mod rules;
mod source;

use rules::Rule;

fn hold(extension: &str, rules: &[Rule]) {
    let files = source::files(extension);
    assert!(!files.is_empty(), "no .{extension} file was found");
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| rules.iter().flat_map(|rule| rule(file)))
        .collect();
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

#[test]
fn arrows_point_one_way() {
    hold("rs", &[layers::findings]);
}

#[test]
fn the_log_is_written_on_one_path_and_registers_at_no_clock() {
    hold("rs", &[cql::findings]);
}

#[test]
fn every_source_file_says_what_it_is() {
    hold("rs", &[rules::says_what_it_is]);
}

#[test]
fn no_source_file_is_long() {
    hold("rs", &[rules::is_short]);
}

#[test]
fn nothing_is_left_behind() {
    hold("rs", &[rules::leaves_nothing_behind]);
    hold("proto", &[rules::leaves_nothing_behind]);
}

#[test]
fn every_select_is_biased() {
    hold("rs", &[rules::selects_are_biased]);
}

#[test]
fn log_text_is_plain() {
    hold("rs", &[rules::logs_are_plain]);
}

#[test]
fn links_lead_somewhere() {
    hold("md", &[rules::links_lead_somewhere]);
}
