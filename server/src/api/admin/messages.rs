//! Messages as the system or on behalf of a user.

use stonechat_proto::admin::v1;

use super::{Administration, acting};
use crate::api::CallContext;
use crate::api::operations::finish;
use crate::wire::{message, receipt, summary};

impl Administration {
    pub(in crate::api) async fn send(&self, context: &CallContext, request: v1::SendRequest) -> v1::SendResponse {
        let result = async {
            let (user, request) = message::admin_send(request)?;
            self.append(context, user, request).await
        };
        finish("admin.send", context, result.await)
    }

    pub(in crate::api) async fn edit(&self, context: &CallContext, request: v1::EditRequest) -> v1::EditResponse {
        let result = async {
            let (user, request) = message::admin_edit(request)?;
            self.append(context, user, request).await
        };
        finish("admin.edit", context, result.await)
    }

    pub(in crate::api) async fn redact(&self, context: &CallContext, request: v1::RedactRequest) -> v1::RedactResponse {
        let result = async {
            let (user, request) = message::admin_redact(request)?;
            self.append(context, user, request).await
        };
        finish("admin.redact", context, result.await)
    }

    pub(in crate::api) async fn react(&self, context: &CallContext, request: v1::ReactRequest) -> v1::ReactResponse {
        let result = async {
            let (user, request) = message::admin_react(request)?;
            self.append(context, user, request).await
        };
        finish("admin.react", context, result.await)
    }

    pub(in crate::api) async fn get_history(
        &self,
        context: &CallContext,
        request: v1::GetHistoryRequest,
    ) -> v1::GetHistoryResponse {
        let result = async {
            let query = message::admin_history(request)?;
            let page = self.conversations.history(&acting(context, None), query).await?;
            Ok(message::history_page(&page))
        };
        finish("admin.history", context, result.await)
    }

    pub(in crate::api) async fn mark_read(
        &self,
        context: &CallContext,
        request: v1::MarkReadRequest,
    ) -> v1::MarkReadResponse {
        let result = async {
            let (user, mark) = receipt::admin_mark_read(&request)?;
            let caller = acting(context, Some(user));
            let moved = self
                .conversations
                .mark_read(&caller, mark.conversation, mark.seq, mark.private);
            Ok(summary::markers(&moved.await?))
        };
        finish("admin.mark_read", context, result.await)
    }
}
