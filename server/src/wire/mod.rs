//! Between proto and domain, both ways; all input validation.
//!
//! A parser takes a request of the contract and gives what the rules work on, or a refusal that names the field as in
//! the proto with the operation before it (`send.content.text`). Nothing is repaired or cut: what breaks a limit is
//! refused. Of the modules here, `content` and `entry` know the domain alone, because the store writes entries.

pub mod answer;
pub mod content;
pub mod conversation;
pub mod entry;
pub mod forward;
pub mod message;
pub mod people;
pub mod presence;
pub mod receipt;
pub mod refusal;
pub mod session;
pub mod summary;

mod fields;
mod text;

#[cfg(test)]
mod tests;

pub use answer::{Answer, answer};
pub(crate) use fields::optional_time;
