//! A server with its users, and everything a test wants of them in one line.

use std::time::Duration;

use stonechat_proto::admin::v1 as admin;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::message_content::Content;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::process::ServerProcess;
use super::reader::append_outcome;
use super::recorder::Recorder;
use super::session::{Acks, Hello, Opening, RawSession};
use super::sight::final_entry;
use super::token::{Claims, mint};
use crate::checker::{Bounds, FinalLog, Verdict, What, check};

/// Pause before a conversation that had no room is asked again, and how often: ten seconds.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
const BUSY_TRIES_MAX: usize = 500;

/// Settings of a server without limits on rates: what is measured is not how fast one may be.
pub const UNHURRIED: [&str; 8] = [
    "--address-connections-per-second",
    "0",
    "--user-requests-per-second",
    "0",
    "--session-frames-per-second",
    "100000",
    "--conversation-entries-per-second",
    "100000",
];
/// How long a test waits for what must happen soon, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Entries of a page of the final log.
const PAGE: u32 = 200;
/// How far lists of one of several nodes may lag: as far as anything may stay hidden (I5).
const SEVERAL_LAG: Duration = Duration::from_secs(15);
/// Before a call is made again whose services could not answer.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Ids that one bench may give out before they meet those of the next.
const BESIDE_IDS: u64 = 1_000_000_000;
/// Everything an integrator may do.
const EVERY_SCOPE: &str = "admin.users admin.tokens admin.conversations admin.messages";

/// Puts a token, and the device a request comes from, into the metadata.
#[derive(Clone)]
pub struct Unary {
    token: String,
    device: Option<String>,
}

impl Unary {
    /// Calls of no device.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self { token, device: None }
    }
}

impl Interceptor for Unary {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let value = |text: &str| MetadataValue::try_from(text).map_err(|_| tonic::Status::internal("not ASCII"));
        let bearer = value(&format!("Bearer {}", self.token))?;
        request.metadata_mut().insert("authorization", bearer);
        if let Some(device) = &self.device {
            request.metadata_mut().insert("stonechat-device-id", value(device)?);
        }
        Ok(request)
    }
}

/// A channel that authenticates itself.
pub type AuthedChannel = InterceptedService<Channel, Unary>;

/// A server under test, its recorder and its integrator.
pub struct Bench {
    /// The process.
    pub server: ServerProcess,
    /// What all clients did and saw.
    pub recorder: Recorder,
    conversations: Vec<String>,
    ids: std::sync::atomic::AtomicU64,
    list_lag: Duration,
}

impl Bench {
    /// Starts a server on a new folder.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn start(flags: &[&str]) -> Self {
        Self::on(ServerProcess::start(flags).await)
    }

    /// Uses a server that was started.
    #[must_use]
    pub fn on(server: ServerProcess) -> Self {
        Self {
            server,
            recorder: Recorder::default(),
            conversations: Vec::new(),
            ids: std::sync::atomic::AtomicU64::new(0),
            list_lag: Duration::ZERO,
        }
    }

    /// The server is one of several: rows of its lists may lag behind what others acknowledged.
    #[must_use]
    pub fn of_several(self) -> Self {
        Self {
            list_lag: SEVERAL_LAG,
            ..self
        }
    }

    /// A bench of another node on the same stores: it goes on with what this one knows, and writes into the same history.
    #[must_use]
    pub fn beside(&self, server: ServerProcess) -> Self {
        let taken = self.ids.load(std::sync::atomic::Ordering::Relaxed);
        Self {
            server,
            recorder: self.recorder.clone(),
            conversations: self.conversations.clone(),
            // Ids of different nodes' benches stay apart.
            ids: std::sync::atomic::AtomicU64::new(taken + BESIDE_IDS),
            list_lag: self.list_lag,
        }
    }

    /// A token of these claims.
    #[must_use]
    pub fn token(&self, claims: &Claims) -> String {
        mint(&self.server.data_folder(), claims)
    }

    /// Calls as this caller; the device is empty for none.
    #[must_use]
    pub fn call_as(&self, claims: &Claims, device: &str) -> AuthedChannel {
        let unary = Unary {
            token: self.token(claims),
            device: (!device.is_empty()).then(|| device.to_owned()),
        };
        InterceptedService::new(self.server.channel(), unary)
    }

    /// Calls as an integrator with every scope.
    #[must_use]
    pub fn admin(&self) -> AuthedChannel {
        self.call_as(&Claims::scoped(EVERY_SCOPE), "")
    }

    /// An id nobody used in this test.
    #[must_use]
    pub fn fresh_id(&self) -> String {
        let number = self.ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        format!("id-{number}")
    }

    /// Creates users.
    ///
    /// # Panics
    /// Refused.
    pub async fn users(&self, users: &[&str]) {
        let mut client = admin::user_admin_service_client::UserAdminServiceClient::new(self.admin());
        for user in users {
            let request = admin::UpsertUserRequest {
                user_id: (*user).to_owned(),
                display_name: String::new(),
            };
            let answer = client
                .upsert_user(request)
                .await
                .expect("a user is created")
                .into_inner();
            let made = matches!(answer.outcome, Some(admin::upsert_user_response::Outcome::User(_)));
            assert!(made, "{user}: {answer:?}");
        }
    }

    /// Creates users and a group of them, owned by the first; its log is checked in the end.
    ///
    /// # Panics
    /// Refused.
    pub async fn group(&mut self, users: &[&str]) -> String {
        self.users(users).await;
        self.create(v1::ConversationKind::Group, "Crew", users).await
    }

    /// Creates two users and their 1:1; its log is checked in the end.
    ///
    /// # Panics
    /// Refused.
    pub async fn direct(&mut self, one: &str, other: &str) -> String {
        self.users(&[one, other]).await;
        self.create(v1::ConversationKind::Direct, "", &[one, other]).await
    }

    async fn create(&mut self, kind: v1::ConversationKind, name: &str, users: &[&str]) -> String {
        let request = admin::CreateConversationRequest {
            client_msg_id: self.fresh_id(),
            owner_user_id: users[0].to_owned(),
            kind: kind as i32,
            name: name.to_owned(),
            members: users[1..].iter().map(|user| member(user)).collect(),
        };
        match self.created(request).await.outcome {
            Some(admin::create_conversation_response::Outcome::Conversation(made)) => {
                self.conversations.push(made.conversation_id.clone());
                made.conversation_id
            }
            other => panic!("no conversation of {users:?}: {other:?}"),
        }
    }

    /// The answer to a creation; as clients do, the same is asked again while the services cannot answer.
    async fn created(&self, request: admin::CreateConversationRequest) -> admin::CreateConversationResponse {
        let mut client = self.conversation_admin();
        let begun = stonechat_host::monotonic();
        loop {
            match client.create_conversation(request.clone()).await {
                Ok(answer) => return answer.into_inner(),
                Err(status) if status.code() == tonic::Code::Unavailable && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(status) => panic!("no conversation is created: {status:?}"),
            }
        }
    }

    /// Has the final log of a conversation that was made by other means checked, too.
    pub fn watch(&mut self, conversation: &str) {
        self.conversations.push(conversation.to_owned());
    }

    fn conversation_admin(
        &self,
    ) -> admin::conversation_admin_service_client::ConversationAdminServiceClient<AuthedChannel> {
        admin::conversation_admin_service_client::ConversationAdminServiceClient::new(self.admin())
    }

    fn header(&self, conversation: &str) -> Option<v1::AppendHeader> {
        Some(header(conversation, &self.fresh_id()))
    }

    /// Adds a member as the integrator; returns the seq.
    ///
    /// # Panics
    /// Refused.
    pub async fn add(&self, conversation: &str, user: &str) -> u64 {
        let request = admin::SetMembersRequest {
            header: self.header(conversation),
            members: vec![member(user)],
        };
        let ask = async || self.conversation_admin().set_members(request.clone()).await;
        let answer = once_there_is_room(ask).await;
        let Some(admin::set_members_response::Outcome::Appended(appended)) = answer.outcome else {
            panic!("{user} was not added: {answer:?}");
        };
        self.membership_acked(conversation, user, true, appended.seq);
        appended.seq
    }

    /// Removes a member as the integrator; returns the seq.
    ///
    /// # Panics
    /// Refused.
    pub async fn remove(&self, conversation: &str, user: &str) -> u64 {
        let request = admin::RemoveMemberRequest {
            header: self.header(conversation),
            user_id: user.to_owned(),
        };
        let ask = async || self.conversation_admin().remove_member(request.clone()).await;
        let answer = once_there_is_room(ask).await;
        let Some(admin::remove_member_response::Outcome::Appended(appended)) = answer.outcome else {
            panic!("{user} was not removed: {answer:?}");
        };
        self.membership_acked(conversation, user, false, appended.seq);
        appended.seq
    }

    fn membership_acked(&self, conversation: &str, user: &str, joined: bool, seq: u64) {
        self.recorder.say(What::MembershipAcked {
            conversation: conversation.into(),
            user: user.into(),
            joined,
            seq: crate::checker::Seq(seq),
        });
    }

    /// The hello of a device that takes everything.
    #[must_use]
    pub fn hello(&self, user: &str, device: &str) -> Hello {
        Hello {
            token: self.token(&Claims::user(user)),
            device_id: device.to_owned(),
            protocol_min: 1,
            protocol_max: 1,
            ..Hello::default()
        }
    }

    /// Opens a stream and waits until its backlog is there.
    ///
    /// # Panics
    /// It does not come in time.
    pub async fn open(&self, user: &str, device: &str) -> RawSession {
        let hello = self.hello(user, device);
        let mut session = self.open_with(user, hello, Acks::Each).await;
        session
            .until("the end of the backlog", PATIENCE, |seen| seen.caught_up)
            .await;
        session
    }

    /// Opens a stream with another hello, on a connection of its own, and waits for nothing.
    pub async fn open_with(&self, user: &str, hello: Hello, acks: Acks) -> RawSession {
        let opening = Opening {
            hello,
            user: user.to_owned(),
            acks,
        };
        RawSession::open(self.server.channel(), &self.recorder, opening).await
    }

    /// Sends a text on a stream and waits for the ack; returns the seq.
    ///
    /// # Panics
    /// Refused, or no answer in time.
    pub async fn send(&self, session: &mut RawSession, conversation: &str, text: &str) -> u64 {
        let frame = send_frame(conversation, &self.fresh_id(), text);
        let answer = session.request(frame, PATIENCE).await;
        match append_outcome(&answer) {
            Some(Ok(appended)) => appended.seq,
            _ => panic!("{text:?} was not stored: {answer:?}"),
        }
    }

    /// The log of a conversation as the system reads it.
    ///
    /// # Panics
    /// It cannot be read.
    pub async fn final_log(&self, conversation: &str) -> FinalLog {
        let entries = self.entries(conversation).await;
        FinalLog {
            conversation: conversation.into(),
            entries: entries.iter().map(final_entry).collect(),
        }
    }

    /// Every entry of a conversation as the system reads it.
    ///
    /// # Panics
    /// It cannot be read.
    pub async fn entries(&self, conversation: &str) -> Vec<v1::Entry> {
        let mut client = admin::message_admin_service_client::MessageAdminServiceClient::new(self.admin());
        let mut entries: Vec<v1::Entry> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |entry| entry.seq);
            let query = Some(history_after(conversation, after, PAGE));
            let answer = client.get_history(admin::GetHistoryRequest { query }).await;
            let answer = answer.expect("history can be read").into_inner();
            let Some(admin::get_history_response::Outcome::Page(page)) = answer.outcome else {
                panic!("no history of {conversation}: {answer:?}");
            };
            entries.extend(page.entries);
            if !page.has_more {
                return entries;
            }
        }
    }

    /// Reads the final logs and judges everything that was seen. The test has itself waited until everything must be
    /// there.
    ///
    /// # Panics
    /// A log cannot be read.
    pub async fn verdict(&self) -> Verdict {
        let mut logs = Vec::new();
        for conversation in &self.conversations {
            logs.push(self.final_log(conversation).await);
        }
        self.recorder.say(What::Ended);
        let bounds = Bounds {
            silence: Duration::ZERO,
            list_lag: self.list_lag,
            ..Bounds::default()
        };
        check(&self.recorder.history(), &logs, &bounds)
    }
}

/// The answer, of the same request again while the conversation is too busy for it.
async fn once_there_is_room<T>(ask: impl AsyncFn() -> Result<tonic::Response<T>, tonic::Status>) -> T {
    for _ in 0..BUSY_TRIES_MAX {
        match ask().await {
            Err(status) if status.code() == tonic::Code::ResourceExhausted => tokio::time::sleep(BUSY_PAUSE).await,
            answer => return answer.expect("an answer").into_inner(),
        }
    }
    panic!("the conversation was busy for too long");
}

/// A plain member.
#[must_use]
pub fn member(user: &str) -> v1::Member {
    v1::Member {
        user_id: user.to_owned(),
        role: v1::MemberRole::Member as i32,
    }
}

/// A header without hints.
#[must_use]
pub fn header(conversation: &str, id: &str) -> v1::AppendHeader {
    v1::AppendHeader {
        conversation_id: conversation.to_owned(),
        client_msg_id: id.to_owned(),
        ..v1::AppendHeader::default()
    }
}

/// A message of this text.
#[must_use]
pub fn text(text: &str) -> v1::MessageContent {
    v1::MessageContent {
        content: Some(Content::Text(text.to_owned())),
        ..v1::MessageContent::default()
    }
}

/// A frame that sends a text.
#[must_use]
pub fn send_frame(conversation: &str, id: &str, body: &str) -> Asked {
    Asked::Send(v1::SendRequest {
        header: Some(header(conversation, id)),
        content: Some(text(body)),
    })
}

/// A page of history after a seq.
#[must_use]
pub fn history_after(conversation: &str, after: u64, limit: u32) -> v1::GetHistoryRequest {
    v1::GetHistoryRequest {
        conversation_id: conversation.to_owned(),
        anchor: Some(v1::get_history_request::Anchor::AfterSeq(after)),
        limit,
        until_seq: 0,
    }
}
