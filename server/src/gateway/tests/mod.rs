//! The session protocol end to end: whole nodes, generated clients, every frame on the wire.

mod delivery;
mod edge;
mod embedded;
mod ends;
mod expired;
mod frames;
mod groups;
mod harness;
mod http;
mod late;
mod lossy;
mod nodes;
mod operator;
mod order;
mod presence;
mod revoked;
mod storm;
mod web;
