//! A whole Stonechat in one thread on simulated time and network: one seed, one run, to the last byte.
//!
//! The server is the real one, behind `stonechat_host`: only sockets, clock and randomness are simulated, and its
//! backends are the ones in memory, which a simulated crash leaves as a disk would be left.

pub mod cluster;
mod faults;
mod net;
mod player;
mod recorder;
mod server;
mod world;

pub use faults::Faults;
pub use world::{Outcome, Setup, run};
