//! What the suites share: the history checker, the harness that drives real processes, and the simulation.

pub mod checker;
pub mod harness;
pub mod simulation;
