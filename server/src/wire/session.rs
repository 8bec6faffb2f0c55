//! Frames that concern the session itself.

use std::fmt;

use bytes::Bytes;
use stonechat_proto::v1;

use super::fields::{self, Within};
use super::text;
use crate::domain::limits::{CLIENT_NAME_CHARS_MAX, HELLO_POSITIONS_MAX, SUBMIT_FRAMES_MAX, WINDOW_MAX};
use crate::domain::{ConversationId, DeviceId, Reason, Refusal, Seq, SessionId, StreamName};
use crate::storage::Durability;

type Result<T> = std::result::Result<T, Refusal>;

/// What a welcome says of acknowledged appends; of those that lie in memory nothing.
#[must_use]
pub fn durability(durability: Durability) -> v1::Durability {
    match durability {
        Durability::Memory => v1::Durability::Unspecified,
        Durability::LocalFsync => v1::Durability::LocalFsync,
        Durability::Quorum => v1::Durability::Quorum,
    }
}

/// The one version of the protocol this server speaks.
pub const PROTOCOL: u32 = 1;

/// A bearer token. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Where the app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppState {
    /// On screen.
    Foreground,
    /// Not on screen.
    Background,
}

/// A checked hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// `None` when the metadata must carry one.
    pub token: Option<Token>,
    /// The device.
    pub device: DeviceId,
    /// Which of its streams.
    pub stream: StreamName,
    /// Where the app is.
    pub app_state: AppState,
    /// From the last welcome of this stream; empty for none.
    pub resume_token: Bytes,
    /// Cursor of the conversation list; empty for none.
    pub cursor: Bytes,
    /// Where the client is, overriding what the server remembers. Each conversation once.
    pub positions: Vec<(ConversationId, Seq)>,
    /// False: nothing older than now from conversations in which the device has nothing.
    pub whole_backlog: bool,
    /// Name and version of the app.
    pub client_name: String,
    /// Most unacknowledged deliveries, 1 to 256.
    pub window: u32,
    /// Forget what the device acknowledged.
    pub forget_device_positions: bool,
    /// An answer to a send stands for its delivery.
    pub answers_are_deliveries: bool,
}

/// Checks a hello.
///
/// # Errors
/// Names the field; `Protocol` when no common version is left.
pub fn hello(hello: v1::Hello) -> Result<Hello> {
    parse_hello(hello).within("hello")
}

fn parse_hello(hello: v1::Hello) -> Result<Hello> {
    check_protocol(hello.protocol_min, hello.protocol_max)?;
    let stream = StreamName::parse(&hello.stream_name);
    Ok(Hello {
        device: fields::device("device_id", &hello.device_id)?,
        stream: stream.map_err(|error| Refusal::invalid("stream_name", error.to_string()))?,
        app_state: parse_app_state(hello.app_state)?,
        positions: positions(&hello.positions)?,
        whole_backlog: whole_backlog(hello.initial_backlog)?,
        client_name: client_name(hello.client_name)?,
        window: window(hello.window)?,
        token: (!hello.token.is_empty()).then_some(Token(hello.token)),
        resume_token: hello.resume_token,
        cursor: hello.cursor,
        forget_device_positions: hello.forget_device_positions,
        answers_are_deliveries: hello.answers_are_deliveries,
    })
}

fn check_protocol(min: u32, max: u32) -> Result<()> {
    if min > max || max == 0 {
        return Err(Refusal::invalid("protocol_max", "is 0 or below protocol_min"));
    }
    if !(min..=max).contains(&PROTOCOL) {
        return Err(Refusal::not_done(
            Reason::Protocol,
            format!("this server speaks protocol {PROTOCOL}, the client {min} to {max}"),
        ));
    }
    Ok(())
}

fn positions(positions: &[v1::ConversationPosition]) -> Result<Vec<(ConversationId, Seq)>> {
    fields::between("positions", positions.len(), 0, HELLO_POSITIONS_MAX)?;
    let parsed = positions.iter().map(|position| {
        let conversation = fields::conversation("conversation_id", &position.conversation_id)?;
        Ok((conversation, fields::seq(position.seq)))
    });
    let mut parsed = parsed.collect::<Result<Vec<_>>>().within("positions")?;
    parsed.sort_unstable();
    if parsed.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Refusal::invalid("positions", "a conversation is named twice"));
    }
    Ok(parsed)
}

fn whole_backlog(value: i32) -> Result<bool> {
    let backlog = fields::known::<v1::InitialBacklog>("initial_backlog", value)?;
    Ok(backlog != v1::InitialBacklog::Nothing)
}

fn client_name(name: String) -> Result<String> {
    fields::between("client_name", name.chars().count(), 0, CLIENT_NAME_CHARS_MAX)?;
    text::line("client_name", name, 0, usize::MAX)
}

fn window(asked: u32) -> Result<u32> {
    let window = if asked == 0 { WINDOW_MAX } else { asked };
    fields::between("window", window as usize, 1, WINDOW_MAX as usize)?;
    Ok(window)
}

/// Checks a change of the app's state.
///
/// # Errors
/// Names the field.
pub fn set_app_state(frame: v1::SetAppState) -> Result<AppState> {
    parse_app_state(frame.app_state).within("set_app_state")
}

fn parse_app_state(value: i32) -> Result<AppState> {
    Ok(match fields::known("app_state", value)? {
        v1::AppState::Unspecified | v1::AppState::Foreground => AppState::Foreground,
        v1::AppState::Background => AppState::Background,
    })
}

/// Checks an ack.
///
/// # Errors
/// Names the field.
pub fn ack(frame: &v1::Ack) -> Result<(ConversationId, Seq)> {
    fields::operation("ack", || {
        let conversation = fields::conversation("conversation_id", &frame.conversation_id)?;
        Ok((conversation, fields::seq(frame.seq)))
    })
}

/// Checks that a new token is given.
///
/// # Errors
/// Names the field.
pub fn reauthenticate(frame: v1::Reauthenticate) -> Result<Token> {
    if frame.token.is_empty() {
        return Err(Refusal::invalid("reauthenticate.token", "is empty"));
    }
    Ok(Token(frame.token))
}

/// Checks which session a Submit is for, and how many frames it brings. The frames are checked one by one.
///
/// # Errors
/// Names the field.
pub fn submit(request: v1::SubmitRequest) -> Result<(SessionId, Vec<v1::ClientFrame>)> {
    fields::operation("submit", || {
        let session = fields::session("session_id", &request.session_id)?;
        fields::between("frames", request.frames.len(), 1, SUBMIT_FRAMES_MAX)?;
        Ok((session, request.frames))
    })
}
