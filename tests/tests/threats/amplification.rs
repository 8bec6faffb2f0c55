//! Amplification in prost: how much memory the largest message of each rpc can make the decoder take.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use stonechat_proto::{admin, v1};
use stonechat_server::domain::limits::SUBMIT_FRAMES_MAX;
use stonechat_server::gateway::fuzz;

/// Bytes of a message (wire contract).
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Bytes that decoding one message may take at its peak; the threads that decode do one message each.
const PEAK_BYTES_MAX: u64 = 3 * 1024 * 1024;

type Decode = fn(&[u8]);

macro_rules! decoders {
    ($($name:literal => $decode:expr;)*) => { BTreeMap::from([$(($name, $decode as Decode)),*]) };
}

/// By the generated code, as tonic does it.
fn plain<T: Message + Default>(message: &[u8]) {
    drop(std::hint::black_box(T::decode(message)));
}

/// Every message a client sends that has a list somewhere in it, and how the server decodes it.
fn decoders() -> BTreeMap<&'static str, Decode> {
    decoders! {
        ".stonechat.v1.ExchangeRequest" => |message| _ = fuzz::exchange(message);
        ".stonechat.v1.ListenRequest" => |message| _ = fuzz::listen(message);
        ".stonechat.v1.SubmitRequest" => |message| _ = fuzz::submit(message);
        ".stonechat.v1.SendRequest" => plain::<v1::SendRequest>;
        ".stonechat.v1.EditRequest" => plain::<v1::EditRequest>;
        ".stonechat.v1.CreateConversationRequest" => plain::<v1::CreateConversationRequest>;
        ".stonechat.v1.SetMembersRequest" => plain::<v1::SetMembersRequest>;
        ".stonechat.v1.GetUsersRequest" => plain::<v1::GetUsersRequest>;
        ".stonechat.v1.GetPresenceRequest" => plain::<v1::GetPresenceRequest>;
        ".stonechat.admin.v1.CreateConversationRequest" => plain::<admin::v1::CreateConversationRequest>;
        ".stonechat.admin.v1.SetMembersRequest" => plain::<admin::v1::SetMembersRequest>;
        ".stonechat.admin.v1.SendRequest" => plain::<admin::v1::SendRequest>;
        ".stonechat.admin.v1.EditRequest" => plain::<admin::v1::EditRequest>;
    }
}

struct Contract(BTreeMap<String, DescriptorProto>);

impl Contract {
    fn read() -> (Self, BTreeSet<String>) {
        let set = FileDescriptorSet::decode(stonechat_proto::FILE_DESCRIPTOR_SET).expect("own descriptors");
        let mut messages = BTreeMap::new();
        let mut inputs = BTreeSet::new();
        for file in &set.file {
            for message in &file.message_type {
                messages.insert(format!(".{}.{}", file.package(), message.name()), message.clone());
            }
            for method in file.service.iter().flat_map(|service| &service.method) {
                inputs.insert(method.input_type().to_owned());
            }
        }
        (Self(messages), inputs)
    }

    /// Every list within a message, as the field numbers that lead to it.
    fn lists(&self, message: &str) -> Vec<Vec<u32>> {
        let Some(descriptor) = self.0.get(message) else {
            return Vec::new();
        };
        let number = |field: &FieldDescriptorProto| u32::try_from(field.number()).expect("a field number");
        let mut found = Vec::new();
        for field in &descriptor.field {
            if field.label() == Label::Repeated {
                found.push(vec![number(field)]);
            }
            if field.r#type() == Type::Message {
                let inner = self.lists(field.type_name()).into_iter();
                found.extend(inner.map(|path| std::iter::once(number(field)).chain(path).collect()));
            }
        }
        found
    }
}

/// A message that is full of empty elements of one list.
fn full(path: &[u32]) -> Vec<u8> {
    let (list, outer) = path.split_last().expect("a path");
    let mut element = Vec::new();
    prost::encoding::encode_key(*list, prost::encoding::WireType::LengthDelimited, &mut element);
    element.push(0);
    // 8 bytes for each message around it: a key and a length.
    let room = MESSAGE_BYTES_MAX - 8 * outer.len();
    let mut message = element.repeat(room / element.len());
    for number in outer.iter().rev() {
        let mut wrapped = Vec::new();
        prost::encoding::encode_key(*number, prost::encoding::WireType::LengthDelimited, &mut wrapped);
        prost::encoding::encode_varint(message.len() as u64, &mut wrapped);
        wrapped.append(&mut message);
        message = wrapped;
    }
    assert!(message.len() <= MESSAGE_BYTES_MAX);
    message
}

/// No message, whatever it is full of, makes the decoder hold more than a few times what a stalled stream may hold.
#[test]
fn the_largest_messages_full_of_empty_elements_stay_within_3_mib() {
    let (contract, inputs) = Contract::read();
    let decoders = decoders();
    let mut measured = 0;
    for input in &inputs {
        for path in contract.lists(input) {
            let decode = decoders.get(input.as_str());
            let decode = decode.unwrap_or_else(|| panic!("{input} has a list, and nothing here decodes it"));
            let message = full(&path);
            let peak = allocation_counter::measure(|| decode(&message)).bytes_max;
            println!("{input} {path:?}: {peak} bytes for {}", message.len());
            assert!(peak <= PEAK_BYTES_MAX, "{input} {path:?} took {peak} bytes");
            measured += 1;
        }
    }
    assert!(measured >= decoders.len(), "{measured}");
}

/// The frames of a Submit are counted before they are decoded: each empty one takes 2 bytes here and 216 there.
#[test]
fn a_submit_of_empty_frames_is_not_decoded() {
    let submit = |frames: usize| [0x12, 0].repeat(frames);
    assert!(fuzz::submit(&submit(SUBMIT_FRAMES_MAX)));
    assert!(!fuzz::submit(&submit(SUBMIT_FRAMES_MAX + 1)));
    let taken = allocation_counter::measure(|| assert!(!fuzz::submit(&full(&[2]))));
    assert!(taken.bytes_max < 256 * 1024, "{taken:?}");
}
