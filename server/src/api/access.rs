//! Which token may call which rpc: one table, deny by default (I11). What a caller may do in a conversation is decided
//! by `domain::authorization`.
//!
//! A token is either a user's (no scopes) or a service's (any scope). A service's token calls admin rpcs alone and
//! never acts as a user: an integrator acts for a user by naming them. So a leaked admin token reads no stream, and a
//! user's token never reaches an admin rpc.

use crate::auth::Principal;
use crate::domain::{Refusal, UserId};

/// Scope for the life of users.
pub const SCOPE_USERS: &str = "admin.users";
/// Scope for issuing tokens.
pub const SCOPE_TOKENS: &str = "admin.tokens";
/// Scope for conversations and members as the system.
pub const SCOPE_CONVERSATIONS: &str = "admin.conversations";
/// Scope for messages as the system or on behalf of a user.
pub const SCOPE_MESSAGES: &str = "admin.messages";

/// What an rpc asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requires {
    /// A user's token, which may also come in the first frame; the session checks it by [`user_of`].
    UserInHello,
    /// A user's token.
    User,
    /// A service's token with this scope.
    Scope(&'static str),
}

/// Every rpc of the contract, by service.
const TABLE: &[(&str, Requires, &[&str])] = &[
    (
        "stonechat.v1.SessionService",
        Requires::UserInHello,
        &["Exchange", "Listen"],
    ),
    // A Submit has no hello: its token comes in the metadata.
    ("stonechat.v1.SessionService", Requires::User, &["Submit"]),
    (
        "stonechat.v1.MessageService",
        Requires::User,
        &["Send", "Edit", "Redact", "React", "Pin", "GetHistory"],
    ),
    (
        "stonechat.v1.ReceiptService",
        Requires::User,
        &["MarkDelivered", "MarkRead", "MarkUnread", "GetReceipts"],
    ),
    (
        "stonechat.v1.PresenceService",
        Requires::User,
        &["SetStatus", "GetPresence", "SetTyping"],
    ),
    (
        "stonechat.v1.ConversationService",
        Requires::User,
        &[
            "CreateConversation",
            "GetConversation",
            "ListConversations",
            "SetMembers",
            "RemoveMember",
            "RenameConversation",
            "UpdateConversationSettings",
        ],
    ),
    (
        "stonechat.v1.UserService",
        Requires::User,
        &["GetUsers", "UpdateProfile", "SetBlock", "ListBlocks"],
    ),
    (
        "stonechat.v1.DeviceService",
        Requires::User,
        &["ListDevices", "RemoveDevice"],
    ),
    (
        "stonechat.admin.v1.UserAdminService",
        Requires::Scope(SCOPE_USERS),
        &[
            "UpsertUser",
            "GetUser",
            "ListUsers",
            "SetUserDeactivated",
            "RevokeTokens",
        ],
    ),
    (
        "stonechat.admin.v1.TokenAdminService",
        Requires::Scope(SCOPE_TOKENS),
        &["IssueToken"],
    ),
    (
        "stonechat.admin.v1.ConversationAdminService",
        Requires::Scope(SCOPE_CONVERSATIONS),
        &[
            "CreateConversation",
            "GetConversation",
            "ListConversations",
            "SetMembers",
            "RemoveMember",
            "RenameConversation",
        ],
    ),
    (
        "stonechat.admin.v1.MessageAdminService",
        Requires::Scope(SCOPE_MESSAGES),
        &["Send", "Edit", "Redact", "React", "GetHistory", "MarkRead"],
    ),
];

/// What the rpc of this path ("/package.Service/Method") asks of its caller; `None` for one that is not in the table.
#[must_use]
pub fn requirement(path: &str) -> Option<Requires> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    TABLE
        .iter()
        .find(|(name, _, methods)| *name == service && methods.contains(&method))
        .map(|(_, requires, _)| *requires)
}

/// Whether the principal may call an rpc that asks for this.
///
/// # Errors
/// `Forbidden`.
pub fn check(requires: Requires, principal: &Principal) -> Result<(), Refusal> {
    match requires {
        Requires::User | Requires::UserInHello => user_of(principal).map(|_| ()),
        Requires::Scope(scope) if principal.scopes.contains(scope) => Ok(()),
        Requires::Scope(scope) => Err(Refusal::forbidden(format!("the token lacks the scope {scope}"))),
    }
}

/// The user who acts by this token.
///
/// # Errors
/// `Forbidden` for a service's token.
pub fn user_of(principal: &Principal) -> Result<&UserId, Refusal> {
    if principal.scopes.is_empty() {
        return Ok(&principal.user);
    }
    Err(Refusal::forbidden("a token with admin scopes cannot act as a user"))
}

/// Paths of all rows.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = String> {
    let rows = TABLE.iter();
    rows.flat_map(|(service, _, methods)| methods.iter().map(move |method| format!("/{service}/{method}")))
}
