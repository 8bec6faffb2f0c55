//! One device stream.

mod close;
mod outgoing;
mod plan;
mod window;
