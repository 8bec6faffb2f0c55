//! I4: lanes, without a stream around them.

use stonechat_proto::v1;

use super::*;

fn send(conversation: &str, id: &str, previous: &str) -> Ask {
    Ask::Send(v1::SendRequest {
        header: Some(AppendHeader {
            conversation_id: conversation.to_owned(),
            client_msg_id: id.to_owned(),
            previous_client_msg_id: previous.to_owned(),
            known_head: 0,
        }),
        content: None,
    })
}

#[derive(Default)]
struct Stream {
    lanes: Lanes,
    serial: u64,
}

impl Stream {
    /// Puts a send in line; returns where it stands and what it is to follow.
    fn enter(&mut self, conversation: &str, id: &str, previous: &str) -> (Place, String) {
        self.serial += 1;
        let mut ask = send(conversation, id, previous);
        let place = self.lanes.enter(self.serial, &mut ask).expect("an append");
        let previous = header(&mut ask).expect("a header").previous_client_msg_id.clone();
        (place, previous)
    }

    fn stored(&mut self, place: &Place) {
        self.answer(place, v1::send_response::Outcome::Appended(v1::Appended::default()));
    }

    fn refused(&mut self, place: &Place, reason: RefusalReason, effect: Effect) -> String {
        let refusal = Refusal {
            reason: reason.into(),
            effect: effect.into(),
            ..Refusal::default()
        };
        self.answer(place, v1::send_response::Outcome::Refusal(refusal))
    }

    fn limited(&mut self, place: &Place) {
        self.refused(place, RefusalReason::RateLimited, Effect::NotDone);
    }

    fn answer(&mut self, place: &Place, outcome: v1::send_response::Outcome) -> String {
        let mut reply = Reply::Send(v1::SendResponse { outcome: Some(outcome) });
        self.lanes.leave(place, &mut reply);
        refusal(&mut reply)
            .map(|refusal| refusal.message.clone())
            .unwrap_or_default()
    }

    fn held(&self) -> usize {
        self.lanes.by_conversation.values().map(Lane::refused).sum()
    }
}

/// I4: the implied predecessor is the newest unanswered append of the same stream and conversation.
#[test]
fn i4_pipelined_appends_name_their_predecessor() {
    let mut stream = Stream::default();
    let (first, previous) = stream.enter("a", "m1", "");
    assert_eq!(previous, "");
    let (second, previous) = stream.enter("a", "m2", "");
    assert_eq!(previous, "m1");
    assert_eq!(stream.enter("b", "m3", "").1, "");
    stream.stored(&first);
    let (third, previous) = stream.enter("a", "m4", "");
    assert_eq!(previous, "m2");
    stream.stored(&second);
    stream.stored(&third);
    assert_eq!(stream.enter("a", "m5", "").1, "");
}

#[test]
fn i4_what_the_client_named_stays_and_nothing_waits_for_itself() {
    let mut stream = Stream::default();
    stream.enter("a", "m1", "");
    assert_eq!(stream.enter("a", "m2", "m0").1, "m0");
    assert_eq!(stream.enter("a", "m2", "").1, "m1");
}

/// I4: a refusal that asks for another try keeps its place, whenever the next one comes; the retry takes it up again.
#[test]
fn i4_a_refused_append_holds_up_what_comes_after_it() {
    for (reason, effect) in [
        (RefusalReason::RateLimited, Effect::NotDone),
        (RefusalReason::Unavailable, Effect::NotDone),
        (RefusalReason::Unauthenticated, Effect::NotDone),
        (RefusalReason::Internal, Effect::Unknown),
    ] {
        let mut stream = Stream::default();
        let (first, _) = stream.enter("a", "m1", "");
        stream.refused(&first, reason, effect);
        let (second, previous) = stream.enter("a", "m2", "");
        assert_eq!(previous, "m1", "{reason:?}");
        let message = stream.refused(&second, RefusalReason::OutOfOrder, Effect::NotDone);
        assert!(message.contains("send m1 again"), "{message}");
        assert_eq!(stream.enter("b", "m3", "").1, "", "another conversation goes on");
        let (again, previous) = stream.enter("a", "m1", "");
        assert_eq!(previous, "", "the retry waits for nothing");
        assert_eq!(stream.enter("a", "m2", "").1, "m1");
        assert_eq!(stream.enter("a", "m4", "").1, "m2");
        stream.stored(&again);
        assert_eq!(stream.enter("a", "m2", "").1, "");
    }
}

/// I4: what was refused behind a refused one keeps its place, too: nothing new comes between them.
#[test]
fn i4_a_whole_refused_pipeline_is_taken_up_in_its_order() {
    let mut stream = Stream::default();
    let places: Vec<Place> = ["m1", "m2", "m3"].map(|id| stream.enter("a", id, "").0).into();
    stream.limited(&places[0]);
    stream.refused(&places[1], RefusalReason::OutOfOrder, Effect::NotDone);
    // The last one is still unanswered when the first comes again: it must not wait for what waits for it.
    let (again, previous) = stream.enter("a", "m1", "");
    assert_eq!(previous, "");
    stream.refused(&places[2], RefusalReason::OutOfOrder, Effect::NotDone);
    stream.stored(&again);
    assert_eq!(stream.enter("a", "m4", "").1, "m3");
    assert_eq!(stream.enter("a", "m3", "").1, "m2");
    assert_eq!(stream.enter("a", "m2", "").1, "");
}

#[test]
fn i4_what_no_retry_mends_holds_nothing_up() {
    for reason in [
        RefusalReason::Invalid,
        RefusalReason::Forbidden,
        RefusalReason::NotFound,
        RefusalReason::Blocked,
        RefusalReason::ClientMsgIdReused,
        RefusalReason::LimitReached,
    ] {
        let mut stream = Stream::default();
        let (first, _) = stream.enter("a", "m1", "");
        stream.refused(&first, reason, Effect::NotDone);
        assert_eq!(stream.enter("a", "m2", "").1, "", "{reason:?}");
    }
}

/// Who names a predecessor from elsewhere has given up what was refused.
#[test]
fn i4_a_named_predecessor_takes_the_lane_over() {
    let mut stream = Stream::default();
    let (first, _) = stream.enter("a", "m1", "");
    stream.limited(&first);
    let (second, previous) = stream.enter("a", "m2", "m0");
    assert_eq!(previous, "m0");
    assert_eq!(stream.enter("a", "m3", "").1, "m2");
    stream.refused(&second, RefusalReason::OutOfOrder, Effect::NotDone);
    assert_eq!(stream.held(), 0, "its order is the client's own");
}

/// I4: what begins a chain anew does not wait for the chain that hung on what is gone.
#[test]
fn i4_a_chain_behind_what_was_refused_for_good_begins_anew() {
    let mut stream = Stream::default();
    let (first, _) = stream.enter("a", "m1", "");
    stream.refused(&first, RefusalReason::Blocked, Effect::NotDone);
    // Sent before that answer was read.
    let (second, _) = stream.enter("a", "m2", "m1");
    let (third, _) = stream.enter("a", "m3", "m2");
    for place in [&second, &third] {
        stream.refused(place, RefusalReason::OutOfOrder, Effect::NotDone);
    }
    assert_eq!(stream.held(), 0, "the whole chain is the client's own");
    assert_eq!(stream.enter("a", "m2", "").1, "", "it waits for nothing behind it");
}

#[test]
fn i4_naming_one_of_the_lane_goes_on_from_it() {
    let mut stream = Stream::default();
    let (first, _) = stream.enter("a", "m1", "");
    stream.limited(&first);
    let (second, previous) = stream.enter("a", "m2", "m1");
    assert_eq!(previous, "m1");
    stream.refused(&second, RefusalReason::OutOfOrder, Effect::NotDone);
    assert_eq!(stream.enter("a", "m3", "").1, "m2");
}

#[test]
fn i9_answered_appends_leave_nothing_behind() {
    let mut stream = Stream::default();
    for number in 0..100 {
        let (place, _) = stream.enter(&format!("c{number}"), "m", "");
        stream.stored(&place);
    }
    assert!(stream.lanes.by_conversation.is_empty());
}

/// I9: refused appends are remembered up to a bound; the conversation that waits longest is forgotten first.
#[test]
fn i9_refused_appends_are_bounded() {
    let mut stream = Stream::default();
    for number in 0..REFUSED_APPENDS_MAX + 10 {
        let (place, _) = stream.enter(&format!("c{number}"), "m1", "");
        stream.limited(&place);
        assert!(stream.held() <= REFUSED_APPENDS_MAX);
    }
    assert_eq!(stream.enter("c0", "m2", "").1, "", "the oldest is forgotten");
    let newest = format!("c{}", REFUSED_APPENDS_MAX + 9);
    assert_eq!(stream.enter(&newest, "m2", "").1, "m1");

    let mut stream = Stream::default();
    for number in 0..REFUSED_APPENDS_MAX + 10 {
        let (place, _) = stream.enter("a", &format!("m{number}"), "");
        stream.limited(&place);
    }
    assert_eq!(stream.held(), REFUSED_APPENDS_MAX);
    let last = format!("m{}", REFUSED_APPENDS_MAX - 1);
    assert_eq!(stream.enter("a", "new", "").1, last, "the first ones hold the rest up");
}
