//! What a name may hold.

use stonechat_proto::v1;

use super::{field_of, header};
use crate::domain::{Change, Refusal};
use crate::wire::{conversation, people};

fn rename(name: &str) -> Result<String, Refusal> {
    conversation::rename(header(), name.to_owned()).map(|append| match append.change {
        Change::Rename(name) => name,
        other => panic!("a rename became {other:?}"),
    })
}

#[test]
fn names_of_every_script_pass_unchanged() {
    let names = [
        "Ann",
        "Zoë Ångström",
        "田中 太郎",
        "محمد علی",
        "می‌خواهم",
        "क्‍ष",
        "שלום",
        "👨‍👩‍👧 Family",
        "❤️‍🔥",
        "e\u{301}",
    ];
    for name in names {
        assert_eq!(rename(name).unwrap(), name);
    }
}

#[test]
fn names_that_deceive_are_refused() {
    let names = [
        "a\0b",
        "a\u{7}b",
        "a\nb",
        "a\u{7f}b",
        "a\u{85}b",
        "a\u{202A}b",
        "a\u{202B}b",
        "a\u{202C}b",
        "a\u{202D}b",
        "a\u{202E}b",
        "a\u{2066}b",
        "a\u{2067}b",
        "a\u{2068}b",
        "a\u{2069}b",
        "a\u{200E}b",
        "a\u{200F}b",
        "a\u{061C}b",
        "ad\u{200B}min",
        "ad\u{200C}min",
        "ad\u{200D}min",
        "ad\u{2060}min",
        "ad\u{FEFF}min",
        "ad\u{00AD}min",
        "a\u{2028}b",
        "\u{3164}",
        "\u{200D}👍",
        "👍\u{200D}",
        "👨\u{200D}\u{200D}👩",
        " ann",
        "ann ",
        " ",
        "\u{a0}ann",
    ];
    for name in names {
        assert_eq!(field_of(rename(name)), "rename_conversation.name", "{name:?} passed");
    }
}

#[test]
fn names_are_bounded_in_characters() {
    assert!(rename(&"é".repeat(128)).is_ok());
    assert_eq!(field_of(rename(&"é".repeat(129))), "rename_conversation.name");
    assert_eq!(field_of(rename("")), "rename_conversation.name");
    let display_name = String::new();
    assert!(people::update_profile(v1::UpdateProfileRequest { display_name }).is_ok());
}
