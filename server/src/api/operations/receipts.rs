//! Receipts and unread.

use stonechat_proto::v1;

use super::{Operations, finish};
use crate::api::CallContext;
use crate::wire::{receipt, summary};

impl Operations {
    /// Moves the delivered marker.
    pub async fn mark_delivered(
        &self,
        context: &CallContext,
        request: v1::MarkDeliveredRequest,
    ) -> v1::MarkDeliveredResponse {
        let result = async {
            let (id, seq) = receipt::mark_delivered(&request)?;
            let markers = self.conversations.mark_delivered(&context.caller()?, id, seq).await?;
            Ok(summary::markers(&markers))
        };
        finish("mark_delivered", context, result.await)
    }

    /// Moves the read marker.
    pub async fn mark_read(&self, context: &CallContext, request: v1::MarkReadRequest) -> v1::MarkReadResponse {
        let result = async {
            let mark = receipt::mark_read(&request)?;
            let caller = context.caller()?;
            let moved = self
                .conversations
                .mark_read(&caller, mark.conversation, mark.seq, mark.private);
            Ok(summary::markers(&moved.await?))
        };
        finish("mark_read", context, result.await)
    }

    /// Shows a conversation as unread.
    pub async fn mark_unread(&self, context: &CallContext, request: v1::MarkUnreadRequest) -> v1::MarkUnreadResponse {
        let result = async {
            let (id, from) = receipt::mark_unread(&request)?;
            let markers = self.conversations.mark_unread(&context.caller()?, id, from).await?;
            Ok(summary::markers(&markers))
        };
        finish("mark_unread", context, result.await)
    }

    /// Who received and who read one entry.
    pub async fn get_receipts(
        &self,
        context: &CallContext,
        request: v1::GetReceiptsRequest,
    ) -> v1::GetReceiptsResponse {
        let result = async {
            let (id, seq, with_members) = receipt::get_receipts(&request)?;
            let caller = context.caller()?;
            let receipts = self.conversations.receipts(&caller, id, seq, with_members).await?;
            Ok(receipt::receipts(&receipts))
        };
        finish("get_receipts", context, result.await)
    }
}
