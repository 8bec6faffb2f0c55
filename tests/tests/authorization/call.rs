//! Calls any unary rpc of the contract by its path, with bytes in and bytes out.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use prost::Message;
use stonechat_proto::v1;
use stonechat_tests::harness::Raw;
use tonic::transport::Channel;

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done.
    Allowed,
    /// Refused for this reason, in the answer or in a status.
    Refused(v1::RefusalReason),
    /// A status without a typed refusal, which must never be.
    Untyped(tonic::Code),
}

/// What a status says.
pub(crate) fn of_status(status: &tonic::Status) -> Outcome {
    match stonechat_proto::refusal_of_status(status) {
        Some(refusal) => Outcome::Refused(refusal.reason()),
        None => Outcome::Untyped(status.code()),
    }
}

/// An rpc of the contract.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    /// "/package.Service/Method".
    pub(crate) path: String,
    pub(crate) streaming: bool,
    /// Number of the field `refusal` in its answer.
    refusal_field: Option<i32>,
}

/// Every rpc of the contract, from its descriptors.
pub(crate) fn rpcs() -> Vec<Rpc> {
    let set = descriptors();
    let mut rpcs = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                rpcs.push(Rpc {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    streaming: method.client_streaming() || method.server_streaming(),
                    refusal_field: refusal_field(&set, method.output_type()),
                });
            }
        }
    }
    rpcs
}

/// The message of this full name (".package.Name").
fn message<'a>(set: &'a prost_types::FileDescriptorSet, name: &str) -> Option<&'a prost_types::DescriptorProto> {
    let named = |file: &'a prost_types::FileDescriptorProto| {
        let is_it = |message: &&prost_types::DescriptorProto| format!(".{}.{}", file.package(), message.name()) == name;
        file.message_type.iter().find(is_it)
    };
    set.file.iter().find_map(named)
}

fn refusal_field(set: &prost_types::FileDescriptorSet, output: &str) -> Option<i32> {
    let field = |field: &&prost_types::FieldDescriptorProto| field.name() == "refusal";
    message(set, output)?.field.iter().find(field)?.number
}

/// Every frame that a client can send, by its name in the contract: the arms of the one oneof of `ClientFrame`.
pub(crate) fn client_frames() -> BTreeSet<String> {
    let set = descriptors();
    let frame = message(&set, ".stonechat.v1.ClientFrame").expect("the frame of the contract");
    let arms = frame.field.iter().filter(|field| field.oneof_index.is_some());
    arms.map(|field| field.name().to_owned()).collect()
}

/// Whether an answer on a stream says no, whatever its type.
pub(crate) fn answered(frame: &v1::ServerFrame) -> Outcome {
    let set = descriptors();
    let answers = message(&set, ".stonechat.v1.ServerFrame").expect("the frame of the contract");
    let answer_of = |number: i32| answers.field.iter().find(|field| field.number == Some(number));
    let bytes = Bytes::from(frame.encode_to_vec());
    // A request id is no message: the first that is one is the answer.
    let answer = messages_in(&bytes).into_iter().next();
    let (number, body) = answer.unwrap_or_else(|| panic!("no answer in {frame:?}"));
    let field = answer_of(number).expect("a field of the contract");
    if field.name() == "refusal" {
        return Outcome::Refused(v1::Refusal::decode(body).expect("a refusal").reason());
    }
    outcome(&body, refusal_field(&set, field.type_name()))
}

fn descriptors() -> prost_types::FileDescriptorSet {
    prost_types::FileDescriptorSet::decode(stonechat_proto::FILE_DESCRIPTOR_SET).expect("own descriptors")
}

/// The fields of a message that are messages or strings, with their numbers.
fn messages_in(message: &Bytes) -> Vec<(i32, Bytes)> {
    let (mut rest, mut found) = (message.clone(), Vec::new());
    while rest.has_remaining() {
        let (tag, wire_type) = prost::encoding::decode_key(&mut rest).expect("a field");
        if wire_type == prost::encoding::WireType::LengthDelimited {
            let length = prost::encoding::decode_varint(&mut rest).expect("a length");
            let bytes = rest.split_to(usize::try_from(length).expect("a length"));
            found.push((i32::try_from(tag).expect("a number"), bytes));
        } else {
            let context = prost::encoding::DecodeContext::default();
            prost::encoding::skip_field(wire_type, tag, &mut rest, context).expect("a field");
        }
    }
    found
}

/// Looks for the refusal among an answer's fields.
fn outcome(answer: &Bytes, refusal_field: Option<i32>) -> Outcome {
    let refusal = messages_in(answer)
        .into_iter()
        .find(|(number, _)| Some(*number) == refusal_field);
    refusal.map_or(Outcome::Allowed, |(_, bytes)| {
        Outcome::Refused(v1::Refusal::decode(bytes).expect("a refusal").reason())
    })
}

impl Rpc {
    /// Calls it with this token, if any.
    pub(crate) async fn call(&self, channel: Channel, token: Option<&str>, device: &str, request: Vec<u8>) -> Outcome {
        let mut request = tonic::Request::new(Bytes::from(request));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        if !device.is_empty() {
            let value = device.parse().expect("ASCII");
            request.metadata_mut().insert("stonechat-device-id", value);
        }
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.expect("a connection");
        let path = self.path.parse().expect("a path");
        match client.unary(request, path, Raw).await {
            Ok(answer) => outcome(&answer.into_inner(), self.refusal_field),
            Err(status) => of_status(&status),
        }
    }
}
