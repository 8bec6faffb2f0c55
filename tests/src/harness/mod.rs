//! Drives real server processes over real sockets, and writes down what every client does and sees.
//!
//! Everything here panics when it cannot go on: it is used by tests only.

mod audit;
mod authority;
mod bench;
mod counts;
mod cql;
mod crew;
mod door;
mod figures;
mod fleet;
mod network;
mod observed;
mod own;
mod process;
mod proxy;
mod pushes;
mod raw;
mod reader;
mod recorder;
mod redis;
mod sender;
mod session;
mod sight;
mod token;

pub use audit::Audited;
pub use authority::Authority;
pub use bench::{AuthedChannel, Bench, PATIENCE, UNHURRIED, Unary, header, history_after, member, send_frame, text};
pub use counts::count;
pub use cql::Cql;
pub use crew::{BURST, Crew, crewed, crewed_among, crewed_on};
pub use door::Door;
pub use figures::{Waits, ack_waits, delivery_lags};
pub use fleet::{Fleet, Ground, Lines, Role};
pub use network::{Loss, Network};
pub use observed::Observed;
pub use own::{OwnPostgres, OwnRedisCluster, Ring};
pub use process::{Exit, SECRETS, ServerProcess, binary, free_port};
pub use proxy::{Proxy, Way, Weather};
pub use raw::Raw;
pub use reader::append_outcome;
pub use recorder::Recorder;
pub use redis::Redis;
pub use sender::{DELIVERY, Sender, each_once, reaches_head};
pub use session::{Acks, Hello, Opening, RawSession};
pub use sight::{body_hash, sighting, text_of};
pub use token::{Claims, base64, mint};
