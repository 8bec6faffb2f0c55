//! Standard output: text for people, JSON for scripts.

use std::io::{IsTerminal, Write};

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
    color: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        let plain = json || std::env::var_os("NO_COLOR").is_some();
        Self {
            json,
            color: !plain && std::io::stdout().is_terminal(),
        }
    }

    pub(super) fn json(self) -> bool {
        self.json
    }

    /// Prints a line as text, or as JSON when asked to.
    pub(super) fn line(self, text: impl FnOnce() -> String, json: impl FnOnce() -> serde_json::Value) {
        let line = if self.json { json().to_string() } else { text() };
        write(&line);
    }

    /// Prints a line meant for people only.
    pub(super) fn note(self, text: &str) {
        if !self.json {
            write(text);
        }
    }

    /// Text that stands out, or stands back.
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A reader that went away (`| head`) ends the process in the usual way, without a word.
fn write(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}
