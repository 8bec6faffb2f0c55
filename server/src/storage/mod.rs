//! The storage seams: small traits that say what is true when a call returns, and their embedded implementations.
//!
//! Every implementation passes the contract suite of its trait (`storage/contract/`).

#[cfg(test)]
pub(crate) mod contract;
pub mod cql;
pub mod directory;
pub mod embedded;
pub mod ids;
pub mod log;
pub mod markers;
pub mod memory;
pub mod remembered;
mod rules;
pub mod sql;
pub mod turns;
pub mod walk;

pub use directory::{
    ConversationRecord, ConversationView, DeviceRecord, Directory, DirectoryError, NewConversation, Projection,
    Revocation, Settings, SettingsPatch, UserRecord,
};
pub use log::{
    AppendBatch, AppendError, CONTRADICTIONS_MAX, Durability, Head, LeftFanout, MessageLog, PageLimit, PayloadHash,
    PendingAppend, Prior, ReadError, StoredEntry,
};
pub use markers::{ChangeStamp, FanoutRecord, InboxHead, InboxRaise, InboxRow, MarkerError, MarkerRaise, Markers};
