//! Requests over the stream. Each may be repeated, so they survive a broken connection.

use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body;
use stonechat_proto::v1::{
    AppState, ConversationList, GetHistoryRequest, HistoryPage, ListConversationsRequest, MarkDeliveredRequest,
    MarkReadRequest, MarkUnreadRequest, Markers, Presence, SetAppState, SetStatusRequest, SetTypingRequest, Status,
    UnwatchPresence, WatchPresence, get_history_request,
};
use tokio::sync::oneshot;

use super::Client;
use crate::answer::Answer as _;
use crate::error::RequestError;
use crate::session::Command;

/// Takes the outcome out of an answer of the right kind.
macro_rules! expect {
    ($answer:expr, $body:ident) => {
        match $answer {
            Body::$body(response) => response.into_result(),
            _ => Err(unreadable()),
        }
    };
}

fn unreadable() -> RequestError {
    RequestError::Unknown("the server's answer is not one to this request".to_owned())
}

impl Client {
    /// A page of a conversation's log.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn history(&self, request: GetHistoryRequest) -> Result<HistoryPage, RequestError> {
        let answer = self.ask(Ask::History(request)).await?;
        expect!(answer, History)
    }

    /// The newest page of a conversation's log.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn newest(&self, conversation_id: &str, limit: u32) -> Result<HistoryPage, RequestError> {
        self.history(GetHistoryRequest {
            conversation_id: conversation_id.to_owned(),
            limit,
            anchor: Some(get_history_request::Anchor::BeforeSeq(0)),
            until_seq: 0,
        })
        .await
    }

    /// Rows of the conversation list that changed since `cursor`; empty lists all.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn sync(&self, cursor: &[u8], limit: u32) -> Result<ConversationList, RequestError> {
        let cursor = crate::transport::wire_bytes(cursor);
        let answer = self.ask(Ask::Sync(ListConversationsRequest { cursor, limit })).await?;
        expect!(answer, Sync)
    }

    /// Everything up to `seq` is read; `private` keeps it from the others.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn mark_read(&self, conversation_id: &str, seq: u64, private: bool) -> Result<Markers, RequestError> {
        let conversation_id = conversation_id.to_owned();
        let request = MarkReadRequest {
            conversation_id,
            seq,
            private,
        };
        let answer = self.ask(Ask::MarkRead(request)).await?;
        expect!(answer, MarkRead)
    }

    /// Shows the conversation as unread from `from_seq` on; 0 clears that.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn mark_unread(&self, conversation_id: &str, from_seq: u64) -> Result<Markers, RequestError> {
        let conversation_id = conversation_id.to_owned();
        let request = MarkUnreadRequest {
            conversation_id,
            from_seq,
        };
        let answer = self.ask(Ask::MarkUnread(request)).await?;
        expect!(answer, MarkUnread)
    }

    /// Everything up to `seq` is on this device without a delivery on this stream.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn mark_delivered(&self, conversation_id: &str, seq: u64) -> Result<Markers, RequestError> {
        let conversation_id = conversation_id.to_owned();
        let answer = self
            .ask(Ask::MarkDelivered(MarkDeliveredRequest { conversation_id, seq }))
            .await?;
        expect!(answer, MarkDelivered)
    }

    /// Watches users' presence; `replace` forgets those watched before. It holds over reconnects.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn watch_presence(&self, user_ids: Vec<String>, replace: bool) -> Result<Vec<Presence>, RequestError> {
        match self
            .ask(Ask::WatchPresence(WatchPresence { user_ids, replace }))
            .await?
        {
            Body::Watching(list) => Ok(list.presences),
            _ => Err(unreadable()),
        }
    }

    /// Stops watching users; empty for all.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn unwatch_presence(&self, user_ids: Vec<String>) -> Result<(), RequestError> {
        self.ask(Ask::UnwatchPresence(UnwatchPresence { user_ids }))
            .await
            .map(drop)
    }

    /// Sets the status others see. It holds over reconnects.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn set_status(&self, status: Status) -> Result<Presence, RequestError> {
        let request = SetStatusRequest { status: status.into() };
        let answer = self.ask(Ask::SetStatus(request)).await?;
        expect!(answer, SetStatus)
    }

    /// Tells whether the app is on screen.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn set_app_state(&self, state: AppState) -> Result<(), RequestError> {
        let app_state = state.into();
        self.ask(Ask::SetAppState(SetAppState { app_state })).await.map(drop)
    }

    /// Tells the others that the user types, or stopped. Forgotten when there is no session.
    pub async fn set_typing(&self, conversation_id: &str, stopped: bool) {
        let conversation_id = conversation_id.to_owned();
        let typing = SetTypingRequest {
            conversation_id,
            stopped,
        };
        let _ = self.commands.send(Command::Typing(typing)).await;
    }

    async fn ask(&self, body: Ask) -> Result<Body, RequestError> {
        let closed = || RequestError::NotSent("the client is closed".to_owned());
        let (answer, answered) = oneshot::channel();
        let command = Command::Request { body, answer };
        self.commands.send(command).await.map_err(|_| closed())?;
        answered
            .await
            .unwrap_or_else(|_| Err(RequestError::Unknown("the client ended before the answer".to_owned())))
    }
}
