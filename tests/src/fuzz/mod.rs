//! Fuzz targets as ordinary functions: each takes any bytes, and panics when something that must hold does not.
//!
//! `fuzz/` runs them under cargo-fuzz; `tests/tests/fuzz` runs them as property tests with arbitrary bytes and with mutated
//! golden frames.

mod bed;
mod golden;
mod import;
mod parse;
mod session;
mod tokens;
mod web;

pub use golden::{ROOM, client_frames};
pub use import::import_lines;
pub use parse::{cursors, frames, journal, validation};
pub use session::{script, session};
pub use tokens::{key_set_tokens, secret_tokens, token_headers};
pub use web::{PATHS, web_framing};
