//! Whatever comes as a client frame is answered: parsed or refused, never a panic, never over a limit.

use v1::client_frame::Body;

use super::fields_exist::assert_named;
use super::*;

fn within(ok: bool, what: &str) {
    assert!(ok, "{what} passed over its limit");
}

fn check_content(content: &MessageContent) {
    match &content.content {
        Content::Text(text) => within(
            (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.contains('\0'),
            "text",
        ),
        Content::Ciphertext { scheme, data } => {
            within((1..=64).contains(&scheme.len()), "scheme");
            within((1..=CIPHERTEXT_BYTES_MAX).contains(&data.len()), "ciphertext");
        }
    }
    within(content.media.len() <= MEDIA_MAX, "media");
    within(
        content.reply_to.is_none_or(|seq| seq.0 > 0 && seq.0 <= SEQ_MAX),
        "reply_to",
    );
}

fn check_change(change: &Change) {
    match change {
        Change::Message(content) | Change::Edit { content, .. } => check_content(content),
        Change::Redact { reason, .. } => within(reason.len() <= REASON_BYTES_MAX, "reason"),
        Change::React { reaction, .. } => within((1..=REACTION_BYTES_MAX).contains(&reaction.len()), "reaction"),
        Change::Pin { .. } | Change::SetMembers(_) | Change::RemoveMember(_) | Change::Rename(_) => {}
    }
    within(
        change.target().is_none_or(|seq| seq.0 > 0 && seq.0 <= SEQ_MAX),
        "target",
    );
}

/// Parses a frame of any kind, and checks what passes.
fn parse(body: Body) -> Result<(), Refusal> {
    match body {
        Body::Send(request) => message::send(request).map(|append| check_change(&append.change)),
        Body::Edit(request) => message::edit(request).map(|append| check_change(&append.change)),
        Body::Redact(request) => message::redact(request).map(|append| check_change(&append.change)),
        Body::React(request) => message::react(request).map(|append| check_change(&append.change)),
        Body::Pin(request) => message::pin(request).map(|append| check_change(&append.change)),
        Body::MarkDelivered(request) => {
            receipt::mark_delivered(&request).map(|(_, seq)| within(seq.0 <= SEQ_MAX, "seq"))
        }
        Body::MarkRead(request) => receipt::mark_read(&request).map(|mark| within(mark.seq.0 <= SEQ_MAX, "seq")),
        Body::MarkUnread(request) => receipt::mark_unread(&request).map(|_| ()),
        Body::Typing(request) => presence::set_typing(&request).map(|_| ()),
        Body::WatchPresence(request) => {
            presence::watch(&request).map(|(users, _)| within(users.len() <= WATCHED_USERS_MAX, "watched"))
        }
        Body::UnwatchPresence(request) => presence::unwatch(&request).map(|_| ()),
        Body::SetStatus(request) => presence::set_status(request).map(|_| ()),
        Body::SetAppState(request) => session::set_app_state(request).map(|_| ()),
        Body::Sync(request) => {
            conversation::list(request).map(|(_, rows)| within((1..=LIST_PAGE_MAX as usize).contains(&rows), "rows"))
        }
        Body::History(request) => message::history(&request)
            .map(|query| within((1..=HISTORY_PAGE_MAX as usize).contains(&query.limit), "page")),
        Body::Ack(frame) => session::ack(&frame).map(|(_, seq)| within(seq.0 <= SEQ_MAX, "seq")),
        Body::Reauthenticate(frame) => session::reauthenticate(frame).map(|_| ()),
        Body::Hello(frame) => session::hello(frame).map(|hello| {
            within((1..=WINDOW_MAX).contains(&hello.window), "window");
            within(hello.positions.len() <= 1_000, "positions");
            within(hello.client_name.chars().count() <= 64, "client_name");
        }),
        Body::Ping(_) | Body::Bye(_) => Ok(()),
    }
}

fn parse_bytes(bytes: &[u8]) {
    let Ok(frame) = v1::ClientFrame::decode(bytes) else {
        return;
    };
    let Some(body) = frame.body else { return };
    if let Err(refusal) = parse(body) {
        assert_eq!(refusal.effect, Effect::NotDone);
        assert_named(&refusal);
    }
}

/// One valid frame of each kind.
fn samples() -> Vec<v1::ClientFrame> {
    let bodies = append_samples()
        .into_iter()
        .chain(marker_samples())
        .chain(session_samples());
    bodies
        .map(|body| v1::ClientFrame {
            request_id: 1,
            body: Some(body),
        })
        .collect()
}

fn sealed() -> v1::MessageContent {
    v1::MessageContent {
        content: Some(v1::message_content::Content::Ciphertext(v1::Ciphertext {
            scheme: "megolm.v1".to_owned(),
            data: vec![0, 1, 255].into(),
        })),
        reply_to_seq: 3,
        media: vec![v1::MediaReference {
            uri: "media/1".to_owned(),
            content_type: "image/png".to_owned(),
            size_bytes: 10,
        }],
    }
}

fn append_samples() -> Vec<Body> {
    vec![
        Body::Send(v1::SendRequest {
            header: header(),
            content: text("hi"),
        }),
        Body::Edit(v1::EditRequest {
            header: header(),
            target_seq: 2,
            content: Some(sealed()),
        }),
        Body::Redact(v1::RedactRequest {
            header: header(),
            target_seq: 2,
            reason: "spam".to_owned(),
        }),
        Body::React(v1::ReactRequest {
            header: header(),
            target_seq: 2,
            reaction: "👍".to_owned(),
            remove: false,
        }),
        Body::Pin(v1::PinRequest {
            header: header(),
            target_seq: 2,
            unpin: true,
        }),
    ]
}

fn marker_samples() -> Vec<Body> {
    let conversation_id = CONVERSATION.to_owned();
    vec![
        Body::MarkDelivered(v1::MarkDeliveredRequest {
            conversation_id: conversation_id.clone(),
            seq: 2,
        }),
        Body::MarkRead(v1::MarkReadRequest {
            conversation_id: conversation_id.clone(),
            seq: 2,
            private: true,
        }),
        Body::MarkUnread(v1::MarkUnreadRequest {
            conversation_id: conversation_id.clone(),
            from_seq: 2,
        }),
        Body::Typing(v1::SetTypingRequest {
            conversation_id: conversation_id.clone(),
            stopped: false,
        }),
        Body::Sync(v1::ListConversationsRequest {
            cursor: vec![1, 2].into(),
            limit: 10,
        }),
        Body::History(v1::GetHistoryRequest {
            conversation_id: conversation_id.clone(),
            anchor: Some(v1::get_history_request::Anchor::AroundSeq(5)),
            limit: 10,
            until_seq: 9,
        }),
        Body::Ack(v1::Ack {
            conversation_id,
            seq: 4,
        }),
    ]
}

fn session_samples() -> Vec<Body> {
    let user_ids = vec!["ann".to_owned(), "bob@example.org".to_owned()];
    vec![
        Body::Hello(v1::Hello {
            token: "t".to_owned(),
            device_id: "d1".to_owned(),
            protocol_min: 1,
            protocol_max: 1,
            positions: vec![v1::ConversationPosition {
                conversation_id: CONVERSATION.to_owned(),
                seq: 4,
            }],
            client_name: "app 1".to_owned(),
            ..Default::default()
        }),
        Body::WatchPresence(v1::WatchPresence {
            user_ids: user_ids.clone(),
            replace: true,
        }),
        Body::UnwatchPresence(v1::UnwatchPresence { user_ids }),
        Body::SetStatus(v1::SetStatusRequest { status: 3 }),
        Body::SetAppState(v1::SetAppState { app_state: 2 }),
        Body::Reauthenticate(v1::Reauthenticate { token: "t".to_owned() }),
        Body::Ping(v1::Ping {}),
        Body::Bye(v1::Bye {}),
    ]
}

#[test]
fn every_sample_passes() {
    for sample in samples() {
        let body = sample.body.clone().unwrap();
        parse(body).unwrap_or_else(|refusal| panic!("{sample:?}: {refusal:?}"));
    }
}

proptest! {
    #[test]
    fn i8_any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        parse_bytes(&bytes);
    }

    #[test]
    fn i8_damaged_frames_are_parsed_or_refused(
        sample in proptest::sample::select(samples()),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = sample.encode_to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        parse_bytes(&bytes);
    }

    #[test]
    fn i9_lengths_around_each_limit_are_held(
        len in prop_oneof![
            0..300_usize,
            TEXT_BYTES_MAX - 2..TEXT_BYTES_MAX + 3,
            CIPHERTEXT_BYTES_MAX - 2..CIPHERTEXT_BYTES_MAX + 3,
        ],
        char in prop_oneof![Just('x'), Just('é'), Just('👍'), any::<char>()],
        media in 0..20_usize,
        seq in any::<u64>(),
        sealed in any::<bool>(),
    ) {
        let string: String = std::iter::repeat_n(char, len).collect();
        let inner = if sealed {
            v1::message_content::Content::Ciphertext(v1::Ciphertext {
                scheme: "s".repeat(len % 70),
                data: string.clone().into(),
            })
        } else {
            v1::message_content::Content::Text(string.clone())
        };
        let reference = v1::MediaReference { uri: string.clone(), ..Default::default() };
        let content = v1::MessageContent {
            content: Some(inner),
            reply_to_seq: seq,
            media: vec![reference; if len < 300 { media } else { 0 }],
        };
            let bodies = [
            Body::Edit(v1::EditRequest { header: header(), target_seq: seq, content: Some(content.clone()) }),
            Body::React(v1::ReactRequest { header: header(), target_seq: seq, reaction: string.clone(), remove: true }),
            Body::Redact(v1::RedactRequest { header: header(), target_seq: seq, reason: string }),
        ];
        for body in bodies {
            if let Err(refusal) = parse(body) {
                assert_named(&refusal);
            }
        }
        let parsed = message::send(v1::SendRequest { header: header(), content: Some(content.clone()) });
        if let Ok(append) = parsed {
            let Change::Message(kept) = append.change else { panic!("a send became something else") };
            let shown = content_to_proto(&kept);
            prop_assert_eq!(shown.content, content.content);
            prop_assert_eq!(shown.media, content.media);
        }
    }
}
