//! What operators are given to read and to import fits the binary: settings, dashboard, alerts.

mod board;
mod series;
mod settings;
