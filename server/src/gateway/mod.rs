//! Where devices arrive: listener, sessions, browsers.

mod codec;
mod frames;
pub mod limits;
mod session;
