//! What text may hold: strict for names, which others read as an identity; untouched for bodies.

use crate::domain::Refusal;
use crate::domain::limits::NAME_CHARS_MAX;

type Result<T> = std::result::Result<T, Refusal>;

/// A name others see: no control, bidi or invisible characters, no white space at its ends. It may be empty.
pub(super) fn name(field: &'static str, text: String) -> Result<String> {
    if text.chars().count() > NAME_CHARS_MAX {
        return Err(Refusal::invalid(field, "a name has at most 128 characters"));
    }
    if text.trim().len() != text.len() {
        return Err(Refusal::invalid(
            field,
            "a name neither begins nor ends with white space",
        ));
    }
    if has_unsafe(&text) {
        return Err(Refusal::invalid(
            field,
            "a name holds no control, bidi or zero-width characters",
        ));
    }
    Ok(text)
}

/// A name that must say something.
pub(super) fn required_name(field: &'static str, text: String) -> Result<String> {
    if text.is_empty() {
        return Err(Refusal::invalid(field, "a name has at least one character"));
    }
    name(field, text)
}

/// Text of a body: any UTF-8 but NUL, which not every store can keep. Limits in bytes.
pub(super) fn body(field: &'static str, text: String, min: usize, max: usize) -> Result<String> {
    sized(field, text.len(), min, max)?;
    if text.contains('\0') {
        return Err(Refusal::invalid(field, "holds a NUL character"));
    }
    Ok(text)
}

/// Text for machines or one line of a screen: no control characters. Limits in bytes.
pub(super) fn line(field: &'static str, text: String, min: usize, max: usize) -> Result<String> {
    sized(field, text.len(), min, max)?;
    if text.chars().any(char::is_control) {
        return Err(Refusal::invalid(field, "holds control characters"));
    }
    Ok(text)
}

/// Checks a length in bytes.
pub(super) fn sized(field: &'static str, len: usize, min: usize, max: usize) -> Result<()> {
    if len < min {
        return Err(Refusal::invalid(field, "is empty"));
    }
    if len > max {
        return Err(Refusal::invalid(
            field,
            format!("has {len} bytes; at most {max} are allowed"),
        ));
    }
    Ok(())
}

fn has_unsafe(text: &str) -> bool {
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let refused = match char {
            '\u{200C}' | '\u{200D}' => !joins(before, chars.peek().copied()),
            _ => char.is_control() || is_bidi_control(char) || is_invisible(char),
        };
        if refused {
            return true;
        }
        before = Some(char);
    }
    false
}

/// A joiner is part of spelling in emoji, Persian and Indic scripts; beside ASCII it only makes a look-alike.
fn joins(before: Option<char>, after: Option<char>) -> bool {
    let spelled =
        |char: Option<char>| char.is_some_and(|char| !char.is_ascii() && !matches!(char, '\u{200C}' | '\u{200D}'));
    spelled(before) && spelled(after)
}

/// Marks, embeddings, overrides and isolates: they reorder what stands around a name.
fn is_bidi_control(char: char) -> bool {
    matches!(char, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Takes no room on a screen or breaks the line, so that two names look alike or one looks like two.
fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{00AD}' | '\u{034F}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180E}' | '\u{200B}' | '\u{2028}'
            | '\u{2029}' | '\u{2060}'..='\u{2065}' | '\u{206A}'..='\u{206F}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF9}'..='\u{FFFB}'
    )
}
