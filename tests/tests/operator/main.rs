//! What operators are served: metrics, health, reflection and admin rpcs on a port of their own, and encryption.

mod encrypted;
mod ports;
mod support;
