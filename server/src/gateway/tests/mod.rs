//! The session protocol end to end: whole nodes, generated clients, every frame on the wire.

mod delivery;
mod embedded;
mod ends;
mod frames;
mod harness;
mod http;
mod lossy;
mod operator;
mod web;
