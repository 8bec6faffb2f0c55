//! Who may call what in a conversation: one row per rpc.

use prost::Message;
use stonechat_proto::admin::v1 as admin;
use stonechat_proto::v1;
use stonechat_tests::harness::{header, history_after, member, text};

/// The conversation of the matrix.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scene {
    /// A group: alice owns it, frida is an admin, bob, dave and greg are members, carol was one, mallory never was. Or the 1:1
    /// of kim and lee, who blocked her.
    pub(crate) room: String,
    /// A message of alice, or kim, that everybody saw.
    pub(crate) seq: u64,
    /// Messages sent after carol's removal, one for each who may redact.
    pub(crate) late_seqs: [u64; 2],
}

impl Scene {
    /// What this caller tries to redact: nobody finds it redacted already.
    pub(crate) fn late_of(&self, id: &str) -> u64 {
        self.late_seqs[usize::from(id == ADMIN)]
    }
}

/// Who is an admin of the group.
pub(crate) const ADMIN: &str = "frida";

/// Who calls, in the order in which a row says what comes of it, and whether in the group or in the 1:1.
pub(crate) const CALLERS: [(&str, &str, bool); 7] = [
    ("owner", "alice", true),
    ("admin", ADMIN, true),
    ("member", "bob", true),
    ("former member", "carol", true),
    ("stranger", "mallory", true),
    ("blocked", "kim", false),
    ("blocking", "lee", false),
];

/// What must come of a call by one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum May {
    /// Allowed.
    Yes,
    /// They see the conversation, but may not do this.
    Forbidden,
    /// As if it did not exist.
    Hidden,
    /// As if the conversation ended where they left.
    Beyond,
    /// One of the two has blocked the other.
    Blocked,
}

use May::{Beyond, Blocked, Forbidden, Hidden, Yes};

/// Owner, admin, member, former member, stranger, and both sides of a block.
pub(crate) type Each = [May; CALLERS.len()];

/// Whoever belongs or belonged.
pub(crate) const BELONGED: Each = [Yes, Yes, Yes, Yes, Hidden, Yes, Yes];
/// Members of now.
pub(crate) const MEMBERS: Each = [Yes, Yes, Yes, Forbidden, Hidden, Blocked, Blocked];
/// The owner of the group.
const OWNER: Each = [Yes, Forbidden, Forbidden, Forbidden, Hidden, Blocked, Blocked];
/// Owner and admin of the group.
const ADMINS: Each = [Yes, Yes, Forbidden, Forbidden, Hidden, Blocked, Blocked];
/// The sender of the first message, who owns the group.
pub(crate) const SENDER: Each = OWNER;
/// Who was a member at the late entry.
const AT_LATE: Each = [Yes, Yes, Yes, Beyond, Hidden, Yes, Yes];
/// The sender of the late entry, and admins.
pub(crate) const LATE_ADMINS: Each = [Yes, Yes, Forbidden, Beyond, Hidden, Blocked, Blocked];
/// Any user, about themself.
pub(crate) const ANYBODY: Each = [Yes; CALLERS.len()];

/// An rpc, a request of it, and what each of them gets.
pub(crate) struct Row {
    pub(crate) path: &'static str,
    pub(crate) request: Vec<u8>,
    pub(crate) may: Each,
}

fn row(path: &'static str, request: &impl Message, may: Each) -> Row {
    Row {
        path,
        request: request.encode_to_vec(),
        may,
    }
}

fn users(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// Rows of the public services. `id` is fresh for each caller.
pub(crate) fn public(scene: &Scene, id: &str) -> Vec<Row> {
    let mut rows = messages(scene, id);
    rows.extend(receipts(scene));
    rows.extend(conversations(scene, id));
    rows.extend(people());
    rows
}

fn messages(scene: &Scene, id: &str) -> Vec<Row> {
    let head = |suffix: &str| Some(header(&scene.room, &format!("{id}-{suffix}")));
    let send = v1::SendRequest {
        header: head("send"),
        content: Some(text("may I?")),
    };
    let edit = v1::EditRequest {
        header: head("edit"),
        target_seq: scene.seq,
        content: Some(text("edited")),
    };
    let reaction = "👍".to_owned();
    let react = v1::ReactRequest {
        header: head("react"),
        target_seq: scene.seq,
        reaction,
        remove: false,
    };
    let pin = v1::PinRequest {
        header: head("pin"),
        target_seq: scene.seq,
        unpin: false,
    };
    let redact = v1::RedactRequest {
        header: head("redact"),
        target_seq: scene.late_of(id),
        reason: String::new(),
    };
    vec![
        row("/stonechat.v1.MessageService/Send", &send, MEMBERS),
        row("/stonechat.v1.MessageService/Edit", &edit, SENDER),
        row("/stonechat.v1.MessageService/React", &react, MEMBERS),
        row("/stonechat.v1.MessageService/Pin", &pin, MEMBERS),
        row(
            "/stonechat.v1.MessageService/GetHistory",
            &history_after(&scene.room, 0, 10),
            BELONGED,
        ),
        row("/stonechat.v1.MessageService/Redact", &redact, LATE_ADMINS),
    ]
}

/// Marks of a conversation's first entry.
pub(crate) fn marks_of(room: &str) -> (v1::MarkDeliveredRequest, v1::MarkReadRequest, v1::MarkUnreadRequest) {
    let conversation_id = || room.to_owned();
    let delivered = v1::MarkDeliveredRequest {
        conversation_id: conversation_id(),
        seq: 1,
    };
    let read = v1::MarkReadRequest {
        conversation_id: conversation_id(),
        seq: 1,
        private: false,
    };
    let unread = v1::MarkUnreadRequest {
        conversation_id: conversation_id(),
        from_seq: 1,
    };
    (delivered, read, unread)
}

fn receipts(scene: &Scene) -> Vec<Row> {
    let (delivered, read, unread) = marks_of(&scene.room);
    let of = |seq| v1::GetReceiptsRequest {
        conversation_id: scene.room.clone(),
        seq,
        with_members: true,
    };
    let typing = v1::SetTypingRequest {
        conversation_id: scene.room.clone(),
        stopped: false,
    };
    vec![
        row("/stonechat.v1.ReceiptService/MarkDelivered", &delivered, BELONGED),
        row("/stonechat.v1.ReceiptService/MarkRead", &read, BELONGED),
        row("/stonechat.v1.ReceiptService/MarkUnread", &unread, BELONGED),
        row("/stonechat.v1.ReceiptService/GetReceipts", &of(scene.seq), BELONGED),
        row(
            "/stonechat.v1.ReceiptService/GetReceipts",
            &of(scene.late_seqs[0]),
            AT_LATE,
        ),
        row("/stonechat.v1.PresenceService/SetTyping", &typing, MEMBERS),
    ]
}

fn conversations(scene: &Scene, id: &str) -> Vec<Row> {
    let head = |suffix: &str| Some(header(&scene.room, &format!("{id}-{suffix}")));
    let conversation_id = scene.room.clone();
    let create = v1::CreateConversationRequest {
        client_msg_id: format!("{id}-create"),
        kind: v1::ConversationKind::Group as i32,
        name: "Another".to_owned(),
        members: vec![member("zoe")],
    };
    let get = v1::GetConversationRequest {
        conversation_id: conversation_id.clone(),
    };
    let list = v1::ListConversationsRequest::default();
    // Each who may add or remove somebody has somebody of their own for it.
    let (newcomer, leaver) = match id {
        ADMIN => ("yan", "greg"),
        "kim" => ("zoe", "lee"),
        "lee" => ("zoe", "kim"),
        _ => ("zoe", "dave"),
    };
    let add = v1::SetMembersRequest {
        header: head("add"),
        members: vec![member(newcomer)],
    };
    let role = v1::SetMembersRequest {
        header: head("role"),
        members: vec![v1::Member {
            role: v1::MemberRole::Admin.into(),
            ..member("bob")
        }],
    };
    let remove = v1::RemoveMemberRequest {
        header: head("remove"),
        user_id: leaver.to_owned(),
    };
    let rename = v1::RenameConversationRequest {
        header: head("rename"),
        name: "Crew 2".to_owned(),
    };
    let archived = Some(true);
    let settings = v1::UpdateConversationSettingsRequest {
        conversation_id,
        muted_until_ms: None,
        archived,
    };
    vec![
        row("/stonechat.v1.ConversationService/CreateConversation", &create, ANYBODY),
        row("/stonechat.v1.ConversationService/GetConversation", &get, BELONGED),
        row("/stonechat.v1.ConversationService/ListConversations", &list, ANYBODY),
        row("/stonechat.v1.ConversationService/SetMembers", &add, ADMINS),
        row("/stonechat.v1.ConversationService/SetMembers", &role, OWNER),
        row("/stonechat.v1.ConversationService/RemoveMember", &remove, ADMINS),
        row("/stonechat.v1.ConversationService/RenameConversation", &rename, ADMINS),
        row(
            "/stonechat.v1.ConversationService/UpdateConversationSettings",
            &settings,
            BELONGED,
        ),
    ]
}

fn people() -> Vec<Row> {
    let status = v1::SetStatusRequest {
        status: v1::Status::Online as i32,
    };
    let presence = v1::GetPresenceRequest {
        user_ids: users(&["alice"]),
    };
    let get = v1::GetUsersRequest {
        user_ids: users(&["alice"]),
    };
    let profile = v1::UpdateProfileRequest {
        display_name: "Me".to_owned(),
    };
    let block = v1::SetBlockRequest {
        user_id: "zoe".to_owned(),
        blocked: false,
    };
    let remove = v1::RemoveDeviceRequest {
        device_id: "old".to_owned(),
    };
    vec![
        row("/stonechat.v1.PresenceService/SetStatus", &status, ANYBODY),
        row("/stonechat.v1.PresenceService/GetPresence", &presence, ANYBODY),
        row("/stonechat.v1.UserService/GetUsers", &get, ANYBODY),
        row("/stonechat.v1.UserService/UpdateProfile", &profile, ANYBODY),
        row("/stonechat.v1.UserService/SetBlock", &block, ANYBODY),
        row(
            "/stonechat.v1.UserService/ListBlocks",
            &v1::ListBlocksRequest {},
            ANYBODY,
        ),
        row(
            "/stonechat.v1.DeviceService/ListDevices",
            &v1::ListDevicesRequest {},
            ANYBODY,
        ),
        row("/stonechat.v1.DeviceService/RemoveDevice", &remove, ANYBODY),
    ]
}

/// An admin rpc, its scope, and a request that an integrator with that scope may make.
pub(crate) struct AdminRow {
    pub(crate) path: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) request: Vec<u8>,
}

fn admin_row(path: &'static str, scope: &'static str, request: &impl Message) -> AdminRow {
    AdminRow {
        path,
        scope,
        request: request.encode_to_vec(),
    }
}

/// Rows of the admin services.
pub(crate) fn admin(scene: &Scene, id: &str) -> Vec<AdminRow> {
    let mut rows = admin_users();
    rows.extend(admin_conversations(scene, id));
    rows.extend(admin_messages(scene, id));
    rows
}

fn admin_users() -> Vec<AdminRow> {
    let user_id = "zoe".to_owned();
    let upsert = admin::UpsertUserRequest {
        user_id: user_id.clone(),
        display_name: "Zoe".to_owned(),
    };
    let get = admin::GetUserRequest {
        user_id: user_id.clone(),
    };
    let active = admin::SetUserDeactivatedRequest {
        user_id: user_id.clone(),
        deactivated: false,
    };
    let revoke = admin::RevokeTokensRequest {
        user_id: user_id.clone(),
        device_id: "lost".to_owned(),
    };
    let token = admin::IssueTokenRequest {
        user_id,
        device_id: String::new(),
        ttl_seconds: 60,
    };
    let list = admin::ListUsersRequest::default();
    vec![
        admin_row(
            "/stonechat.admin.v1.UserAdminService/UpsertUser",
            "admin.users",
            &upsert,
        ),
        admin_row("/stonechat.admin.v1.UserAdminService/GetUser", "admin.users", &get),
        admin_row("/stonechat.admin.v1.UserAdminService/ListUsers", "admin.users", &list),
        admin_row(
            "/stonechat.admin.v1.UserAdminService/SetUserDeactivated",
            "admin.users",
            &active,
        ),
        admin_row(
            "/stonechat.admin.v1.UserAdminService/RevokeTokens",
            "admin.users",
            &revoke,
        ),
        admin_row(
            "/stonechat.admin.v1.TokenAdminService/IssueToken",
            "admin.tokens",
            &token,
        ),
    ]
}

fn admin_conversations(scene: &Scene, id: &str) -> Vec<AdminRow> {
    const SCOPE: &str = "admin.conversations";
    let head = |suffix: &str| Some(header(&scene.room, &format!("{id}-{suffix}")));
    let create = admin::CreateConversationRequest {
        client_msg_id: format!("{id}-create"),
        owner_user_id: "alice".to_owned(),
        kind: v1::ConversationKind::Group as i32,
        name: "By an integrator".to_owned(),
        members: Vec::new(),
    };
    let get = admin::GetConversationRequest {
        conversation_id: scene.room.clone(),
    };
    let list = admin::ListConversationsRequest::default();
    let add = admin::SetMembersRequest {
        header: head("add"),
        members: vec![member("zoe")],
    };
    let remove = admin::RemoveMemberRequest {
        header: head("remove"),
        user_id: "zoe".to_owned(),
    };
    let rename = admin::RenameConversationRequest {
        header: head("rename"),
        name: "Crew 3".to_owned(),
    };
    vec![
        admin_row(
            "/stonechat.admin.v1.ConversationAdminService/CreateConversation",
            SCOPE,
            &create,
        ),
        admin_row(
            "/stonechat.admin.v1.ConversationAdminService/GetConversation",
            SCOPE,
            &get,
        ),
        admin_row(
            "/stonechat.admin.v1.ConversationAdminService/ListConversations",
            SCOPE,
            &list,
        ),
        admin_row("/stonechat.admin.v1.ConversationAdminService/SetMembers", SCOPE, &add),
        admin_row(
            "/stonechat.admin.v1.ConversationAdminService/RemoveMember",
            SCOPE,
            &remove,
        ),
        admin_row(
            "/stonechat.admin.v1.ConversationAdminService/RenameConversation",
            SCOPE,
            &rename,
        ),
    ]
}

fn admin_messages(scene: &Scene, id: &str) -> Vec<AdminRow> {
    const SCOPE: &str = "admin.messages";
    let head = |suffix: &str| Some(header(&scene.room, &format!("{id}-{suffix}")));
    let on_behalf_of = "alice".to_owned();
    let send = admin::SendRequest {
        header: head("send"),
        on_behalf_of: on_behalf_of.clone(),
        content: Some(text("on behalf")),
        origin_time_ms: 0,
    };
    let edit = admin::EditRequest {
        header: head("edit"),
        on_behalf_of: on_behalf_of.clone(),
        target_seq: scene.seq,
        content: Some(text("on behalf, edited")),
        origin_time_ms: 0,
    };
    let react = admin::ReactRequest {
        header: head("react"),
        on_behalf_of,
        target_seq: scene.seq,
        reaction: "👍".to_owned(),
        remove: false,
        origin_time_ms: 0,
    };
    let redact = admin::RedactRequest {
        header: head("redact"),
        on_behalf_of: String::new(),
        target_seq: scene.late_seqs[0],
        reason: String::new(),
    };
    let history = admin::GetHistoryRequest {
        query: Some(history_after(&scene.room, 0, 10)),
    };
    let mark = v1::MarkReadRequest {
        conversation_id: scene.room.clone(),
        seq: 1,
        private: false,
    };
    let read = admin::MarkReadRequest {
        user_id: "bob".to_owned(),
        mark: Some(mark),
    };
    vec![
        admin_row("/stonechat.admin.v1.MessageAdminService/Send", SCOPE, &send),
        admin_row("/stonechat.admin.v1.MessageAdminService/Edit", SCOPE, &edit),
        admin_row("/stonechat.admin.v1.MessageAdminService/React", SCOPE, &react),
        admin_row("/stonechat.admin.v1.MessageAdminService/GetHistory", SCOPE, &history),
        admin_row("/stonechat.admin.v1.MessageAdminService/MarkRead", SCOPE, &read),
        admin_row("/stonechat.admin.v1.MessageAdminService/Redact", SCOPE, &redact),
    ]
}
