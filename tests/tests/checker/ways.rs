//! Further ways in which a check must fail, beside the one that `wrong` has for each.

use stonechat_tests::checker::{
    BodyHash, Check, MarkerValues, Membership, Moment, OpId, Register, Seq, SessionRef, User, What,
};

use crate::wrong::{Case, swap_places};

type Way = (&'static str, Check, fn(&mut Case));

/// Each: what is wrong, which check must fail, and how to make it so.
pub(crate) const WAYS: [Way; 13] = [
    ("the stored body is another", Check::C1, other_body),
    ("an acked join is not in the log", Check::C1, forget_join),
    ("a second ack names another seq", Check::C2, second_ack),
    ("a redacted body comes back for one reader only", Check::C3, unredact),
    ("the log itself has a hole", Check::C4, tear_log),
    ("what was refused lies behind what came after it", Check::C8, overtake),
    ("pushed markers go down", Check::C10, push_down),
    ("delivered is above what the user ever got", Check::C11, never_sent),
    ("a removed member gets a receipt", Check::C12, late_receipt),
    ("a page shows what came after the removal", Check::C12, late_page),
    ("online long after the bye", Check::C15, ghost),
    ("online long after the last heartbeat", Check::C15, sleeper),
    ("a stranger hears of somebody typing", Check::C16, stranger_notice),
];

fn later(case: &mut Case, what: What) {
    let at = case.history.events.last().map_or(0, |event| event.at.0);
    case.history.push(Moment(at + 1), what);
}

fn session_of(case: &Case, wanted: &str) -> SessionRef {
    let found = case.history.events.iter().find_map(|event| match &event.what {
        What::SessionOpened { session, user, .. } if user.0 == wanted => Some(*session),
        _ => None,
    });
    found.expect("the rich world has a stream of each")
}

fn overtake(case: &mut Case) {
    swap_places(case, 0, &["held-1", "held-2"]).expect("solo has them");
}

fn other_body(case: &mut Case) {
    let solo = case.logs.iter_mut().find(|log| log.conversation.0 == "solo");
    solo.expect("solo").entries[1].body = Some(BodyHash(7));
}

fn forget_join(case: &mut Case) {
    for event in &mut case.history.events {
        if let What::MembershipAcked { user, joined: true, .. } = &mut event.what {
            *user = User::from("zoe");
        }
    }
}

fn second_ack(case: &mut Case) {
    let first = case.history.events.iter().find_map(|event| match &event.what {
        What::SendInvoked { key, lane, body, .. } if key.id.0 == "piped-1" => Some((key.clone(), lane.clone(), *body)),
        _ => None,
    });
    let (key, lane, body) = first.expect("solo sends");
    // The copy lies there too, so that the second ack is no lie about the log.
    let solo = case
        .logs
        .iter_mut()
        .find(|log| log.conversation.0 == "solo")
        .expect("solo");
    let mut copy = solo
        .entries
        .iter()
        .find(|entry| entry.key == key)
        .expect("stored")
        .clone();
    copy.seq = Seq(solo.entries.len() as u64 + 1);
    let seq = copy.seq;
    solo.entries.push(copy);
    let op = OpId(9_999);
    later(case, What::SendInvoked { op, key, lane, body });
    later(case, What::SendAcked { op, seq });
}

fn unredact(case: &mut Case) {
    let room = case
        .logs
        .iter_mut()
        .find(|log| log.conversation.0 == "room")
        .expect("room");
    room.entries[1].body = None;
    let seen = case.history.events.iter_mut().find_map(|event| match &mut event.what {
        What::Delivered { entry, .. } if entry.key.conversation.0 == "room" && entry.seq == Seq(2) => Some(entry),
        _ => None,
    });
    seen.expect("delivered").body = Some(BodyHash(8));
}

fn tear_log(case: &mut Case) {
    let solo = case
        .logs
        .iter_mut()
        .find(|log| log.conversation.0 == "solo")
        .expect("solo");
    solo.entries[0].membership = Membership::Unchanged;
    solo.entries.remove(0);
}

fn markers(subject: &str, conversation: &str, values: MarkerValues, session: SessionRef) -> What {
    What::MarkersPushed {
        session,
        subject: subject.into(),
        conversation: conversation.into(),
        register: Register::Public,
        values,
    }
}

fn push_down(case: &mut Case) {
    let session = session_of(case, "alice");
    later(case, markers("bob", "room", MarkerValues::default(), session));
}

fn never_sent(case: &mut Case) {
    let at = case.history.events.last().map_or(Moment(0), |event| event.at);
    let one = Seq(1);
    let read = What::MarkersRead {
        subject: "zoe".into(),
        conversation: "room".into(),
        register: Register::Own,
        invoked: at,
        values: MarkerValues {
            delivered: one,
            read: one,
        },
    };
    later(case, read);
}

fn late_receipt(case: &mut Case) {
    let session = session_of(case, "carol");
    let last = case.history.events.iter().rev().find_map(|event| match &event.what {
        What::MarkersPushed { subject, values, .. } if subject.0 == "alice" => Some(*values),
        _ => None,
    });
    later(
        case,
        markers("alice", "room", last.expect("alice's receipt was pushed"), session),
    );
}

fn late_page(case: &mut Case) {
    let newest = case.history.events.iter().rev().find_map(|event| match &event.what {
        What::Delivered { entry, .. } if entry.key.conversation.0 == "room" => Some(entry.clone()),
        _ => None,
    });
    let entries = vec![newest.expect("delivered")];
    later(
        case,
        What::PageRead {
            user: "carol".into(),
            entries,
        },
    );
}

fn ghost(case: &mut Case) {
    let bye = case
        .history
        .events
        .iter()
        .position(|event| matches!(event.what, What::SessionClosed { bye: true, .. }));
    let index = bye.expect("bob says bye");
    let at = case.history.events[index].at;
    let online = What::PresenceRead {
        subject: "bob".into(),
        invoked: Moment(at.0 + 900_000),
        online: true,
    };
    case.history.push(Moment(at.0 + 900_001), online);
}

/// Nobody said bye: what was heard last holds for its time, and no longer.
fn sleeper(case: &mut Case) {
    let end = case.history.events.last().map_or(0, |event| event.at.0);
    let online = What::PresenceRead {
        subject: "alice".into(),
        invoked: Moment(end + 91_000_000),
        online: true,
    };
    case.history.push(Moment(end + 91_000_001), online);
}

fn stranger_notice(case: &mut Case) {
    let session = session_of(case, "mallory");
    later(
        case,
        What::Noticed {
            session,
            conversation: "room".into(),
        },
    );
}
