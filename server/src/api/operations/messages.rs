//! Appending messages and reading the log.

use stonechat_proto::v1;

use super::{Operations, finish};
use crate::api::CallContext;
use crate::domain::Refusal;
use crate::wire::message;

impl Operations {
    /// Appends a message.
    pub async fn send(&self, context: &CallContext, request: v1::SendRequest) -> v1::SendResponse {
        let result = async { self.append(context, message::send(request)?).await };
        finish("send", context, result.await)
    }

    /// Edits a message.
    pub async fn edit(&self, context: &CallContext, request: v1::EditRequest) -> v1::EditResponse {
        let result = async { self.append(context, message::edit(request)?).await };
        finish("edit", context, result.await)
    }

    /// Redacts a message.
    pub async fn redact(&self, context: &CallContext, request: v1::RedactRequest) -> v1::RedactResponse {
        let result = async { self.append(context, message::redact(request)?).await };
        finish("redact", context, result.await)
    }

    /// Adds or takes back a reaction.
    pub async fn react(&self, context: &CallContext, request: v1::ReactRequest) -> v1::ReactResponse {
        let result = async { self.append(context, message::react(request)?).await };
        finish("react", context, result.await)
    }

    /// Pins or unpins a message.
    pub async fn pin(&self, context: &CallContext, request: v1::PinRequest) -> v1::PinResponse {
        let result = async { self.append(context, message::pin(request)?).await };
        finish("pin", context, result.await)
    }

    /// Reads a page of the log.
    pub async fn get_history(&self, context: &CallContext, request: v1::GetHistoryRequest) -> v1::GetHistoryResponse {
        finish("history", context, self.history(context, &request).await)
    }

    async fn history(
        &self,
        context: &CallContext,
        request: &v1::GetHistoryRequest,
    ) -> Result<v1::HistoryPage, Refusal> {
        let query = message::history(request)?;
        let page = self.conversations.history(&context.caller()?, query).await?;
        Ok(message::history_page(&page))
    }
}
