//! Deterministic backends in memory, for simulation: nothing is durable.

pub mod directory;
