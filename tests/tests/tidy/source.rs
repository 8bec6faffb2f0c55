//! The files of the project, and Rust source without its comments and literals.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours, or what a generator wrote.
const SKIPPED: [&str; 6] = [
    "target",
    "node_modules",
    ".git",
    "proto/src/gen",
    "data",
    ".proptest-regressions",
];

/// A text file of the project.
pub(crate) struct Source {
    /// Relative to the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the project")
        .to_owned()
}

/// Every file with this extension, by path.
pub(crate) fn files(extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), extension, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = relative(&path);
        if SKIPPED
            .iter()
            .any(|skipped| name == *skipped || name.ends_with(&format!("/{skipped}")))
        {
            continue;
        }
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path).expect("text");
            found.push(Source { path: name, text });
        }
    }
}

fn relative(path: &Path) -> String {
    let inside = path.strip_prefix(root()).expect("inside the project");
    inside.to_string_lossy().replace('\\', "/")
}

/// The source with comments and the insides of literals blanked, byte for byte at the same places.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, keep) = literal_or_comment(bytes, at);
        if end > at + 1 {
            blank(&mut code[at + keep..end - keep]);
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("only whole spans were blanked")
}

fn blank(span: &mut [u8]) {
    span.iter_mut()
        .filter(|byte| **byte != b'\n')
        .for_each(|byte| *byte = b' ');
}

/// Where the literal or comment that starts at `at` ends, and how many delimiter bytes to keep; `at` when none does.
fn literal_or_comment(bytes: &[u8], at: usize) -> (usize, usize) {
    match (bytes[at], bytes.get(at + 1)) {
        (b'/', Some(b'/')) => (find(bytes, at, b"\n"), 0),
        (b'/', Some(b'*')) => (find(bytes, at + 2, b"*/") + 2, 0),
        (b'r', Some(b'"' | b'#')) if !follows_word(bytes, at) => raw_string(bytes, at),
        (b'"', _) => (quoted(bytes, at, b'"'), 1),
        (b'\'', Some(b'\\')) => (quoted(bytes, at, b'\''), 1),
        (b'\'', Some(_)) => char_literal(bytes, at),
        _ => (at, 0),
    }
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn find(bytes: &[u8], from: usize, wanted: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let found = rest.windows(wanted.len()).position(|window| window == wanted);
    found.map_or(bytes.len(), |offset| from + offset)
}

fn quoted(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut place = at + 1;
    while place < bytes.len() && bytes[place] != quote {
        place += if bytes[place] == b'\\' { 2 } else { 1 };
    }
    (place + 1).min(bytes.len())
}

fn raw_string(bytes: &[u8], at: usize) -> (usize, usize) {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return (at, 0);
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let end = find(bytes, at + 2 + hashes, &close) + close.len();
    (end.min(bytes.len()), 0)
}

/// `'x'` is a literal, `'x` a lifetime.
fn char_literal(bytes: &[u8], at: usize) -> (usize, usize) {
    let width = match bytes[at + 1] {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    if bytes.get(at + 1 + width) == Some(&b'\'') {
        (at + width + 2, 1)
    } else {
        (at, 0)
    }
}

/// Places where `word` stands alone in code.
pub(crate) fn words(code: &str, word: &str) -> Vec<usize> {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = code.as_bytes();
    let alone = |at: &usize| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        !is_word(before) && !is_word(bytes.get(at + word.len()))
    };
    code.match_indices(word).map(|(at, _)| at).filter(alone).collect()
}

#[test]
fn comments_and_literals_are_blanked_in_place() {
    let text = "let a = \"x // y\"; // tokio\nlet b = 'c'; fn f<'a>() {} r#\"q\"# /* sqlx */ z";
    let code = code_only(text);
    assert_eq!(code.len(), text.len());
    assert!(!code.contains("tokio") && !code.contains("sqlx") && !code.contains('y') && !code.contains('q'));
    assert!(code.contains("fn f<'a>() {}") && code.ends_with('z'), "{code}");
}
