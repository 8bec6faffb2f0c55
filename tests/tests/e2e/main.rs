//! End to end: real clients on a real server process, judged by the history checker.

mod history;
mod membership;
mod order;
mod receipts;
mod refusals;
mod retries;
mod sessions;
mod support;
mod sync;
mod talk;
mod web;
