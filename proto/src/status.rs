//! `google.rpc.Status`, the message in `grpc-status-details-bin`, with a `Refusal` inside.

use bytes::Bytes;
use prost::Message;

use crate::v1::Refusal;

const REFUSAL_TYPE_URL: &str = "type.googleapis.com/stonechat.v1.Refusal";

/// `google.rpc.Status` (googleapis `google/rpc/status.proto`).
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// Bytes for `grpc-status-details-bin` of a status with this code and message.
#[must_use]
pub fn status_details(code: tonic::Code, refusal: &Refusal) -> Bytes {
    let status = RpcStatus {
        code: code as i32,
        message: refusal.message.clone(),
        details: vec![prost_types::Any {
            type_url: REFUSAL_TYPE_URL.to_owned(),
            value: refusal.encode_to_vec(),
        }],
    };
    status.encode_to_vec().into()
}

/// The refusal carried by an error status; `None` when the status did not come from Stonechat.
#[must_use]
pub fn refusal_of_status(status: &tonic::Status) -> Option<Refusal> {
    let decoded = RpcStatus::decode(status.details()).ok()?;
    let detail = decoded.details.iter().find(|any| any.type_url == REFUSAL_TYPE_URL)?;
    Refusal::decode(detail.value.as_slice()).ok()
}
