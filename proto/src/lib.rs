//! The protobuf contract of Stonechat: generated types and stubs, committed; `stonechat-codegen --check` holds them fresh.

mod generated {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::too_many_lines,
        clippy::disallowed_types
    )]
    include!("gen/mod.rs");
}

pub use generated::stonechat::{admin, node, v1};

/// Serialized `google.protobuf.FileDescriptorSet` of the whole contract, for reflection and for the rpc matrix test.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");

mod status;

pub use status::{refusal_of_status, status_details};
