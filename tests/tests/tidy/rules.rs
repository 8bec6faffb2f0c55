//! Rules on the text of single files.

use std::fs;
use std::path::Path;

use crate::source::{Source, code_only, root};

/// Lines of a file that a reader can still hold in mind.
const LINES_MAX: usize = 500;

/// What must not be left behind. Written in two halves, so that this file does not find itself.
const LEFT_BEHIND: [&str; 6] = [
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("db", "g!"),
];

const LOG_MACROS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

pub(crate) type Rule = fn(&Source) -> Vec<String>;

fn finding(source: &Source, at: usize, what: &str) -> String {
    let line = source.text[..at].matches('\n').count() + 1;
    format!("{}:{line}: {what}", source.path)
}

pub(crate) fn says_what_it_is(source: &Source) -> Vec<String> {
    let starts = source.text.starts_with("//! ") && source.text.lines().next().is_some_and(|line| line.len() > 8);
    if starts {
        Vec::new()
    } else {
        vec![finding(source, 0, "the first line must say what the file is: `//! …`")]
    }
}

pub(crate) fn is_short(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= LINES_MAX {
        Vec::new()
    } else {
        vec![finding(source, 0, &format!("{lines} lines; at most {LINES_MAX}"))]
    }
}

pub(crate) fn leaves_nothing_behind(source: &Source) -> Vec<String> {
    let found = LEFT_BEHIND.iter().flat_map(|left| source.text.match_indices(left));
    found
        .map(|(at, left)| finding(source, at, &format!("{left} is left behind")))
        .collect()
}

/// An unbiased select polls in random order: a simulation would not repeat.
pub(crate) fn selects_are_biased(source: &Source) -> Vec<String> {
    let code = code_only(&source.text);
    let unbiased = |(at, call): &(usize, &str)| {
        let inside = code[at + call.len()..].trim_start();
        let inside = inside.strip_prefix(['{', '(']).unwrap_or(inside);
        !inside.trim_start().starts_with("biased;")
    };
    let found = code.match_indices("select!").filter(unbiased);
    found
        .map(|(at, _)| finding(source, at, "a select must be biased"))
        .collect()
}

/// Log text is lower-case and has no full stop.
pub(crate) fn logs_are_plain(source: &Source) -> Vec<String> {
    let code = code_only(&source.text);
    let mut found = Vec::new();
    for call in LOG_MACROS {
        for (at, _) in code.match_indices(call) {
            let word_before = code[..at]
                .chars()
                .next_back()
                .is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
            let message = message(&source.text, &code, at + call.len());
            if !word_before && message.is_some_and(|message| !is_plain(message)) {
                found.push(finding(
                    source,
                    at,
                    &format!("log text is lower-case, without full stop: {message:?}"),
                ));
            }
        }
    }
    found
}

fn is_plain(message: &str) -> bool {
    !message.starts_with(char::is_uppercase) && !message.trim_end().ends_with('.')
}

/// The literal that stands as an argument of its own in the call whose arguments begin at `from`.
fn message<'a>(text: &'a str, code: &str, from: usize) -> Option<&'a str> {
    let (mut depth, mut last, mut open) = (1_usize, '(', None);
    for (offset, letter) in code[from..].char_indices() {
        let at = from + offset;
        match letter {
            '"' => match open.take() {
                None => open = Some((at, last)),
                Some((start, before)) if depth == 1 && matches!(before, '(' | ',') => return text.get(start + 1..at),
                Some(_) => {}
            },
            _ if open.is_some() => {}
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' if depth == 1 => return None,
            ')' | '}' | ']' => depth -= 1,
            _ => {}
        }
        if !letter.is_whitespace() {
            last = letter;
        }
    }
    None
}

/// Relative links of a Markdown file lead to a file, and to a heading where they name one.
pub(crate) fn links_lead_somewhere(source: &Source) -> Vec<String> {
    let targets = source.text.match_indices("](").filter_map(|(at, open)| {
        let rest = &source.text[at + open.len()..];
        rest.find(')').map(|end| (at, &rest[..end]))
    });
    let outside = |target: &str| {
        ["http://", "https://", "mailto:"]
            .iter()
            .any(|scheme| target.starts_with(scheme))
    };
    let broken = targets.filter(|(_, target)| !outside(target) && !leads(&source.path, target));
    broken
        .map(|(at, target)| finding(source, at, &format!("the link to {target} leads nowhere")))
        .collect()
}

fn leads(from: &str, target: &str) -> bool {
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let folder = Path::new(from).parent().unwrap_or_else(|| Path::new(""));
    let path = if file.is_empty() {
        root().join(from)
    } else {
        root().join(folder).join(file)
    };
    path.exists() && (heading.is_empty() || has_heading(&path, heading))
}

fn has_heading(path: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| slug(line.trim_start_matches('#').trim()))
        .any(|found| found == wanted)
}

fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn wrong(rule: Rule, text: &str) -> bool {
    let source = Source {
        path: "README.md".to_owned(),
        text: text.to_owned(),
    };
    !rule(&source).is_empty()
}

#[test]
fn each_rule_finds_what_is_wrong() {
    assert!(wrong(says_what_it_is, "use std::fs;\n"));
    assert!(wrong(is_short, &"x\n".repeat(LINES_MAX + 1)));
    assert!(
        LEFT_BEHIND
            .iter()
            .all(|left| wrong(leaves_nothing_behind, &format!("fn f() {{ {left} }}")))
    );
    assert!(wrong(selects_are_biased, "tokio::select! { _ = a => {} }"));
    assert!(wrong(logs_are_plain, "info!(user = %id, \"Stream opened\");"));
    assert!(wrong(logs_are_plain, "tracing::warn!(\"it failed.\");"));
    assert!(wrong(links_lead_somewhere, "See [here](docs/no-such-file.md)."));
    assert!(wrong(links_lead_somewhere, "See [here](Cargo.toml#no-such-heading)."));
}

#[test]
fn each_rule_lets_pass_what_is_right() {
    assert!(!wrong(says_what_it_is, "//! The files.\n"));
    assert!(!wrong(is_short, &"x\n".repeat(LINES_MAX)));
    assert!(!wrong(leaves_nothing_behind, "fn f() {}"));
    assert!(!wrong(
        selects_are_biased,
        "tokio::select! {\n    biased;\n    _ = a => {} }"
    ));
    assert!(!wrong(
        logs_are_plain,
        "info!(name = \"Bob.\", \"stream opened\"); my_info!(\"X\");"
    ));
    assert!(!wrong(
        links_lead_somewhere,
        "See [a](Cargo.toml), [b](https://example.org/x)."
    ));
}
