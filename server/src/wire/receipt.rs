//! Receipts and unread.

use stonechat_proto::{admin, v1};

use super::fields::{self, Within};
use crate::bus;
use crate::conversation::{MemberReceipt, Receipts};
use crate::domain::{ConversationId, Refusal, Seq, UserId};

type Result<T> = std::result::Result<T, Refusal>;

/// A read marker to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkRead {
    /// Where.
    pub conversation: ConversationId,
    /// Up to here; 0 moves nothing.
    pub seq: Seq,
    /// For the user's own devices only.
    pub private: bool,
}

/// Checks a delivered marker.
///
/// # Errors
/// Names the field.
pub fn mark_delivered(request: &v1::MarkDeliveredRequest) -> Result<(ConversationId, Seq)> {
    fields::operation("mark_delivered", || {
        let conversation = fields::conversation("conversation_id", &request.conversation_id)?;
        Ok((conversation, fields::seq(request.seq)))
    })
}

/// Checks a read marker.
///
/// # Errors
/// Names the field.
pub fn mark_read(request: &v1::MarkReadRequest) -> Result<MarkRead> {
    parse_mark_read(request).within("mark_read")
}

fn parse_mark_read(request: &v1::MarkReadRequest) -> Result<MarkRead> {
    Ok(MarkRead {
        conversation: fields::conversation("conversation_id", &request.conversation_id)?,
        seq: fields::seq(request.seq),
        private: request.private,
    })
}

/// Checks an integrator's read marker in a member's name.
///
/// # Errors
/// Names the field.
pub fn admin_mark_read(request: &admin::v1::MarkReadRequest) -> Result<(UserId, MarkRead)> {
    fields::operation("mark_read", || {
        let user = fields::user("user_id", &request.user_id)?;
        let mark = fields::present("mark", request.mark.as_ref())?;
        Ok((user, parse_mark_read(mark).within("mark")?))
    })
}

/// Checks a mark as unread; no seq clears it.
///
/// # Errors
/// Names the field.
pub fn mark_unread(request: &v1::MarkUnreadRequest) -> Result<(ConversationId, Option<Seq>)> {
    fields::operation("mark_unread", || {
        let conversation = fields::conversation("conversation_id", &request.conversation_id)?;
        Ok((conversation, fields::optional_seq(request.from_seq)))
    })
}

/// Checks a query of receipts: where, of which entry, and whether members are listed.
///
/// # Errors
/// Names the field.
pub fn get_receipts(request: &v1::GetReceiptsRequest) -> Result<(ConversationId, Seq, bool)> {
    fields::operation("get_receipts", || {
        let conversation = fields::conversation("conversation_id", &request.conversation_id)?;
        let seq = fields::entry_seq("seq", request.seq)?;
        Ok((conversation, seq, request.with_members))
    })
}

/// Receipts of one entry.
#[must_use]
pub fn receipts(receipts: &Receipts) -> v1::Receipts {
    v1::Receipts {
        conversation_id: receipts.conversation.to_string(),
        seq: receipts.seq.0,
        delivered_count: receipts.delivered,
        read_count: receipts.read,
        audience_count: receipts.audience,
        members: receipts.members.iter().map(member).collect(),
    }
}

fn member(receipt: &MemberReceipt) -> v1::MemberReceipt {
    member_receipt(&receipt.user, receipt.delivered, receipt.read)
}

fn member_receipt(user: &UserId, delivered: Seq, read: Seq) -> v1::MemberReceipt {
    v1::MemberReceipt {
        user_id: user.to_string(),
        delivered_seq: delivered.0,
        read_seq: read.0,
    }
}

/// The event that markers of others moved.
#[must_use]
pub fn moved(moved: &bus::ReceiptsMoved) -> v1::ReceiptsMoved {
    let members = moved.members.iter();
    v1::ReceiptsMoved {
        conversation_id: moved.conversation.to_string(),
        members: members
            .map(|(user, delivered, read)| member_receipt(user, *delivered, *read))
            .collect(),
        delivered_to_all_seq: moved.delivered_to_all.0,
        read_by_all_seq: moved.read_by_all.0,
    }
}
