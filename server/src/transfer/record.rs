//! One line of the format. Fields are flat; which ones a type of line uses is in `docs/import-format.md`.

use serde::{Deserialize, Serialize};

/// What a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecordType {
    User,
    Conversation,
    #[default]
    Message,
    Edit,
    Reaction,
    Redaction,
    Pin,
    Members,
    Left,
    Renamed,
    Block,
}

/// A line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    #[serde(rename = "type")]
    pub(super) record: RecordType,
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) conversation: Option<String>,
    /// Who did it; absent for the system. Of a block: who blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<String>,
    /// Milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// "direct" or "group".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) members: Vec<MemberRecord>,
    /// Who left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) member: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ciphertext: Option<CiphertextRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) media: Vec<MediaRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reply: Option<Reference>,
    /// What an edit, reaction, redaction or pin speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reaction: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// A reaction taken back, or a message unpinned.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) removed: bool,
    /// The content of this message or edit is gone; a redaction follows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) redacted: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) deactivated: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberRecord {
    pub(super) user: String,
    /// "member", "admin" or "owner".
    #[serde(default = "plain_member")]
    pub(super) role: String,
}

fn plain_member() -> String {
    "member".to_owned()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CiphertextRecord {
    pub(super) scheme: String,
    /// Base64, standard alphabet.
    pub(super) data: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MediaRecord {
    pub(super) uri: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) content_type: String,
    #[serde(default)]
    pub(super) size_bytes: u64,
}

/// An earlier line of the same conversation: ids are unique per user and device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reference {
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<String>,
}
