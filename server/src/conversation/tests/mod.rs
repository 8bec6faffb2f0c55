//! The conversation rules on in-memory backends: each test names the promise it holds.

mod bed;
mod blocks;
mod creation;
mod failing;
mod late;
pub(crate) mod lying_log;
mod membership;
mod model;
mod order;
mod reading;
mod receipts;
mod slow;
mod unknown;
mod unread;
