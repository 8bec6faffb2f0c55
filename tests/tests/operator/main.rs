//! What operators are served: metrics, health, reflection and admin rpcs on a port of their own, and encryption.

mod encrypted;
#[cfg(not(feature = "otlp"))]
mod no_traces;
mod ports;
mod support;
