//! Several nodes as processes on real CQL, Postgres and Redis servers, and everything that can happen to each: no acknowledged
//! message is lost, doubled or reordered, and everybody has the head in the end (I1–I5, I10).

mod counted;
mod crew;
mod groups;
mod nodes;
mod presence;
mod services;
