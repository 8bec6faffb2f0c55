//! Stonechat, the chat backend. Modules in the order a message meets them.

pub mod domain;

pub mod config;
pub mod node;
pub mod telemetry;
pub mod tls;

mod room;

pub mod gateway;

pub mod operator;

pub mod api;

pub mod auth;

pub mod wire;

pub mod conversation;

pub mod cluster;

pub mod presence;

pub mod transfer;

pub mod audit;

pub mod doctor;

pub mod storage;

pub mod bus;

pub mod cli;

#[cfg(test)]
mod tests;
