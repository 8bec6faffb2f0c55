//! What nodes hand each other: the nodes of one release must understand those of the one before.

use stonechat_proto::node::v1::forward_request::Change;
use stonechat_proto::node::v1::forward_response::Outcome;
use stonechat_proto::node::v1::{
    ForwardRequest, ForwardResponse, ForwardedAppend, ForwardedEdit, ForwardedMembers, ForwardedPin, ForwardedReaction,
    ForwardedRedaction, ForwardedTakeOver, ForwardedTaken,
};
use stonechat_proto::v1::{Member, MemberRole, Refusal};

use crate::parts;

fn request(change: Change) -> ForwardRequest {
    ForwardRequest {
        request_id: 7,
        view: 0x0102_0304_0506_0708,
        unsure: true,
        user_id: "alice".to_owned(),
        device_id: "phone".to_owned(),
        correlation_id: vec![0x5a; 16].into(),
        conversation_id: parts::conversation(),
        client_msg_id: "m-42".to_owned(),
        previous_client_msg_id: "m-41".to_owned(),
        known_head: 17,
        origin_time_ms: 1_764_000_000_123,
        system: false,
        change: Some(change),
    }
}

fn by_the_system(change: Change) -> ForwardRequest {
    ForwardRequest {
        user_id: String::new(),
        device_id: String::new(),
        system: true,
        ..request(change)
    }
}

pub(crate) fn requests() -> Vec<(&'static str, ForwardRequest)> {
    let member = Member {
        user_id: "bob".to_owned(),
        role: MemberRole::Admin.into(),
    };
    let edit = ForwardedEdit {
        target_seq: 3,
        content: parts::text(),
    };
    let redaction = ForwardedRedaction {
        target_seq: 3,
        reason: "spam".to_owned(),
    };
    let reaction = ForwardedReaction {
        target_seq: 3,
        reaction: "👍".to_owned(),
        remove: true,
    };
    let pin = ForwardedPin {
        target_seq: 3,
        unpin: true,
    };
    let members = ForwardedMembers { members: vec![member] };
    vec![
        ("message", request(Change::Message(parts::text().unwrap_or_default()))),
        ("edit", request(Change::Edit(edit))),
        ("redaction", request(Change::Redaction(redaction))),
        ("reaction", request(Change::Reaction(reaction))),
        ("pin", request(Change::Pin(pin))),
        ("members", request(Change::Members(members))),
        ("remove_member", request(Change::RemoveMember("bob".to_owned()))),
        ("rename", request(Change::Rename("Crew".to_owned()))),
        (
            "take_over",
            request(Change::TakeOver(ForwardedTakeOver { from_seq: 12 })),
        ),
        ("system", by_the_system(Change::Rename("Crew".to_owned()))),
    ]
}

pub(crate) fn responses() -> Vec<(&'static str, ForwardResponse)> {
    let response = |outcome| ForwardResponse {
        request_id: 7,
        outcome: Some(outcome),
    };
    let appended = ForwardedAppend {
        seq: 18,
        time_ms: 1_764_000_000_123,
        duplicate: true,
        correlation_id: vec![0x5a; 16].into(),
    };
    let refusal = Refusal {
        message: "no".to_owned(),
        retry_after_ms: 100,
        ..Refusal::default()
    };
    vec![
        ("appended", response(Outcome::Appended(appended))),
        ("refusal", response(Outcome::Refusal(refusal))),
        ("taken", response(Outcome::Taken(ForwardedTaken { up_to_seq: 18 }))),
    ]
}
