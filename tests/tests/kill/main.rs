//! Kills the server, at every named step and at random, and finds nothing lost, doubled or reordered (I1–I4).

mod acked;
mod client;
mod crash_points;
mod disk;
mod edge;
mod folder;
mod freeze;
mod import;
mod often;
mod receipts;
mod sabotage;
