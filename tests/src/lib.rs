//! What the suites share: the history checker, fuzz targets, the harness that drives real processes, and the simulation.

pub mod checker;
pub mod fuzz;
pub mod harness;
pub mod simulation;
