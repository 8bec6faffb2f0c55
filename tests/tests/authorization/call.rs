//! Calls any unary rpc of the contract by its path, with bytes in and bytes out.

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
    let set = prost_types::FileDescriptorSet::decode(stonechat_proto::FILE_DESCRIPTOR_SET).expect("own descriptors");
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

fn refusal_field(set: &prost_types::FileDescriptorSet, output: &str) -> Option<i32> {
    let of_file = |file: &prost_types::FileDescriptorProto| {
        let message = file.message_type.iter().find(|message| {
            let full = format!(".{}.{}", file.package(), message.name());
            full == output
        })?;
        let field = message.field.iter().find(|field| field.name() == "refusal")?;
        field.number
    };
    set.file.iter().find_map(of_file)
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
            Ok(answer) => self.outcome(&answer.into_inner()),
            Err(status) => match stonechat_proto::refusal_of_status(&status) {
                Some(refusal) => Outcome::Refused(refusal.reason()),
                None => Outcome::Untyped(status.code()),
            },
        }
    }

    /// Looks for the refusal among the answer's fields.
    fn outcome(&self, answer: &Bytes) -> Outcome {
        let mut rest = answer.clone();
        while rest.has_remaining() {
            let (tag, wire_type) = prost::encoding::decode_key(&mut rest).expect("a field");
            if i32::try_from(tag).ok() == self.refusal_field {
                let length = prost::encoding::decode_varint(&mut rest).expect("a length");
                let bytes = rest.split_to(usize::try_from(length).expect("a length"));
                return Outcome::Refused(v1::Refusal::decode(bytes).expect("a refusal").reason());
            }
            let context = prost::encoding::DecodeContext::default();
            prost::encoding::skip_field(wire_type, tag, &mut rest, context).expect("a field");
        }
        Outcome::Allowed
    }
}
