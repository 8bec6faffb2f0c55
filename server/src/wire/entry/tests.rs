//! The stored form gives back what went in, and refuses what it does not understand.

use proptest::prelude::*;
use prost::Message;
use stonechat_proto::v1;

use super::{EntryError, decode, encode, entry_to_proto, kind_from_proto, role_from_proto, samples};
use crate::domain::Role;

proptest! {
    #[test]
    fn encoding_and_decoding_gives_the_same_entry(entry in samples::entry()) {
        let bytes = encode(&entry);
        prop_assert_eq!(decode(&bytes), Ok(entry.clone()));
        prop_assert_eq!(bytes, encode(&entry));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(entry) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&entry)), Ok(entry));
        }
    }

    #[test]
    fn an_entry_without_a_body_is_refused(entry in samples::entry()) {
        let proto = v1::Entry { body: None, ..entry_to_proto(&entry) };
        prop_assert_eq!(decode(&proto.encode_to_vec()), Err(EntryError::Field("body")));
    }
}

#[test]
fn unspecified_role_is_member_and_unknown_enum_values_are_refused() {
    assert_eq!(role_from_proto(0), Some(Role::Member));
    assert_eq!(role_from_proto(9), None);
    assert_eq!(kind_from_proto(0), None);
    assert_eq!(kind_from_proto(9), None);
}
