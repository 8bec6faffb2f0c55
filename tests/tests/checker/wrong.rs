//! One way each to make a right history wrong.

use std::collections::BTreeMap;

use stonechat_tests::checker::{
    Check, Conversation, Event, FinalLog, History, Membership, MessageId, Moment, OpId, Seq, SessionRef, Sighting,
    User, What,
};

/// A history with its logs.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) history: History,
    pub(crate) logs: Vec<FinalLog>,
}

/// Makes a case wrong in the way of `check`; false when it offers no place for that. `pick` chooses among places.
pub(crate) fn spoil(case: &mut Case, check: Check, pick: usize) -> bool {
    let spoiled = match check {
        Check::C1 => lose_acked(case, pick),
        Check::C2 => store_twice(case, pick),
        Check::C3 => show_other(case, pick),
        Check::C4 => skip_delivery(case, pick),
        Check::C5 => deliver_again(case, pick),
        Check::C6 => read_old_head(case, pick),
        Check::C7 => swap_places(case, pick, &["one", "two"]),
        Check::C8 => swap_places(case, pick, &["piped-1", "piped-2"]),
        Check::C9 => refuse_stored(case, pick),
        Check::C10 => lower_marker(case, pick),
        Check::C11 => raise_marker(case, pick),
        Check::C12 => leak(case, pick, true),
        Check::C13 => withhold_join(case, pick),
        Check::C14 => withhold_tail(case, pick),
        Check::C15 => hide_presence(case, pick),
        Check::C16 => leak(case, pick, false),
        Check::C19 => silence(case, pick),
    };
    spoiled.is_some()
}

fn choose<T>(places: Vec<T>, pick: usize) -> Option<T> {
    let count = places.len().max(1);
    places.into_iter().nth(pick % count)
}

fn places(case: &Case, matches: impl Fn(&What) -> bool) -> Vec<usize> {
    let events = case.history.events.iter().enumerate();
    events
        .filter(|(_, event)| matches(&event.what))
        .map(|(index, _)| index)
        .collect()
}

fn log_mut<'a>(case: &'a mut Case, name: &str) -> Option<&'a mut FinalLog> {
    case.logs.iter_mut().find(|log| log.conversation.0 == name)
}

/// The newest entry of a log that nobody read is gone, though acknowledged.
fn lose_acked(case: &mut Case, _pick: usize) -> Option<()> {
    log_mut(case, "solo")?.entries.pop().map(drop)
}

fn store_twice(case: &mut Case, pick: usize) -> Option<()> {
    let log = log_mut(case, "solo")?;
    let mut copy = choose(log.entries.iter().skip(1).cloned().collect(), pick)?;
    copy.seq = Seq(log.entries.len() as u64 + 1);
    log.entries.push(copy);
    Some(())
}

fn show_other(case: &mut Case, pick: usize) -> Option<()> {
    let place = choose(places(case, |what| matches!(what, What::Delivered { .. })), pick)?;
    if let What::Delivered { entry, .. } = &mut case.history.events[place].what {
        entry.key.id = MessageId::from("another");
    }
    Some(())
}

/// Deliveries of one stream and conversation, in order, as places in the history.
fn runs(case: &Case) -> Vec<Vec<usize>> {
    let mut runs: BTreeMap<(SessionRef, Conversation), Vec<usize>> = Default::default();
    for (index, event) in case.history.events.iter().enumerate() {
        if let What::Delivered { session, entry } = &event.what {
            runs.entry((*session, entry.key.conversation.clone()))
                .or_default()
                .push(index);
        }
    }
    runs.into_values().collect()
}

/// One in the middle of a run never comes.
fn skip_delivery(case: &mut Case, pick: usize) -> Option<()> {
    let inner = |run: &Vec<usize>| run.get(1..run.len().saturating_sub(1)).unwrap_or_default().to_vec();
    let middles: Vec<usize> = runs(case)
        .iter()
        .flat_map(inner)
        .filter(|place| !joins(case, *place))
        .collect();
    let place = choose(middles, pick)?;
    case.history.events.remove(place);
    Some(())
}

/// Whether the delivery at a place is the one that begins a stay of its reader.
fn joins(case: &Case, place: usize) -> bool {
    let What::Delivered { session, entry } = &case.history.events[place].what else {
        return false;
    };
    let Some(user) = owner(case, *session) else {
        return false;
    };
    let log = case.logs.iter().find(|log| log.conversation == entry.key.conversation);
    let found = log.and_then(|log| log.entries.iter().find(|found| found.seq == entry.seq));
    found.is_some_and(|found| matches!(&found.membership, Membership::Joined(users) if users.contains(&user)))
}

fn owner(case: &Case, wanted: SessionRef) -> Option<User> {
    case.history.events.iter().find_map(|event| match &event.what {
        What::SessionOpened { session, user, .. } if *session == wanted => Some(user.clone()),
        _ => None,
    })
}

fn deliver_again(case: &mut Case, pick: usize) -> Option<()> {
    let place = choose(places(case, |what| matches!(what, What::Delivered { .. })), pick)?;
    let copy = case.history.events[place].clone();
    case.history.events.insert(place + 1, copy);
    Some(())
}

/// A reader who had an own send acknowledged before sees an empty log.
fn read_old_head(case: &mut Case, pick: usize) -> Option<()> {
    let acks = own_acks(case);
    let late = |what: &What| match what {
        What::HeadRead { user, invoked, .. } => acks.iter().any(|(at, who)| at < invoked && who == user),
        _ => false,
    };
    let place = choose(places(case, late), pick)?;
    if let What::HeadRead { head, .. } = &mut case.history.events[place].what {
        *head = Seq(0);
    }
    Some(())
}

/// When whose sends to the room were acknowledged.
fn own_acks(case: &Case) -> Vec<(Moment, User)> {
    let mut senders = BTreeMap::new();
    let mut acks = Vec::new();
    for event in &case.history.events {
        match &event.what {
            What::SendInvoked { op, key, .. } if key.conversation.0 == "room" => {
                drop(senders.insert(*op, key.user.clone()))
            }
            What::SendAcked { op, .. } => acks.extend(senders.get(op).map(|user| (event.at, user.clone()))),
            _ => {}
        }
    }
    acks
}

/// Two entries of a log that nobody read change places, in the acks too.
pub(crate) fn swap_places(case: &mut Case, _pick: usize, ids: &[&str; 2]) -> Option<()> {
    let log = log_mut(case, "solo")?;
    let find = |id: &str| log.entries.iter().position(|entry| entry.key.id.0 == id);
    let (one, two) = (find(ids[0])?, find(ids[1])?);
    let (first, second) = (log.entries[one].seq, log.entries[two].seq);
    log.entries.swap(one, two);
    log.entries[one].seq = first;
    log.entries[two].seq = second;
    let ops: BTreeMap<_, _> = solo_ops(case, ids, first, second);
    for event in &mut case.history.events {
        if let What::SendAcked { op, seq } = &mut event.what
            && let Some(moved) = ops.get(op)
        {
            *seq = *moved;
        }
    }
    Some(())
}

fn solo_ops(case: &Case, ids: &[&str; 2], first: Seq, second: Seq) -> BTreeMap<OpId, Seq> {
    let moved = |event: &Event| match &event.what {
        What::SendInvoked { op, key, .. } if key.conversation.0 == "solo" && key.id.0 == ids[0] => Some((*op, second)),
        What::SendInvoked { op, key, .. } if key.conversation.0 == "solo" && key.id.0 == ids[1] => Some((*op, first)),
        _ => None,
    };
    case.history.events.iter().filter_map(moved).collect()
}

/// The one try of a message that lies in the log was answered "not done".
fn refuse_stored(case: &mut Case, _pick: usize) -> Option<()> {
    let piped = |event: &Event| match &event.what {
        What::SendInvoked { op, key, .. } if key.id.0 == "piped-2" => Some(*op),
        _ => None,
    };
    let wanted = case.history.events.iter().find_map(piped)?;
    let place = choose(
        places(case, |what| matches!(what, What::SendAcked { op, .. } if *op == wanted)),
        0,
    )?;
    case.history.events[place].what = What::SendFailed { op: wanted };
    Some(())
}

/// A later read shows less than an earlier one.
fn lower_marker(case: &mut Case, pick: usize) -> Option<()> {
    let place = choose(
        places(
            case,
            |what| matches!(what, What::MarkersRead { values, .. } if values.read.0 > 0),
        ),
        pick,
    )?;
    let mut later = case.history.events[place].clone();
    let at = case.history.events.last()?.at;
    if let What::MarkersRead { invoked, values, .. } = &mut later.what {
        *invoked = at;
        values.read = Seq(0);
    }
    later.at = Moment(at.0 + 1);
    case.history.events.push(later);
    Some(())
}

/// The last read of somebody's markers says they read more than was delivered.
fn raise_marker(case: &mut Case, pick: usize) -> Option<()> {
    let place = choose(places(case, |what| matches!(what, What::MarkersRead { .. })), pick)?;
    let mut later = case.history.events[place].clone();
    let at = case.history.events.last()?.at;
    if let What::MarkersRead { invoked, values, .. } = &mut later.what {
        *invoked = at;
        values.delivered = Seq(1_000);
        values.read = Seq(1_000);
    }
    later.at = Moment(at.0 + 1);
    case.history.events.push(later);
    Some(())
}

/// The newest entry of the room reaches somebody who left before it (`removed`), or who never was a member.
fn leak(case: &mut Case, pick: usize, removed: bool) -> Option<()> {
    let newest = log_mut(case, "room")?.entries.last()?.clone();
    let strangers: Vec<SessionRef> = case
        .history
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::SessionOpened { session, user, .. } if relation(case, user) == Some(removed) => Some(*session),
            _ => None,
        })
        .collect();
    let session = choose(strangers, pick)?;
    let at = Moment(case.history.events.last()?.at.0 + 1);
    let entry = Sighting {
        seq: newest.seq,
        key: newest.key,
        body: newest.body,
    };
    case.history.push(at, What::Delivered { session, entry });
    Some(())
}

/// `Some(true)`: left the room before its newest entry; `Some(false)`: never was there; `None`: is there.
fn relation(case: &Case, user: &User) -> Option<bool> {
    let room = case.logs.iter().find(|log| log.conversation.0 == "room")?;
    let (newest, before) = room.entries.split_last()?;
    if matches!(&newest.membership, Membership::Joined(users) if users.contains(user)) {
        return None;
    }
    let mut relation = Some(false);
    for entry in before {
        match &entry.membership {
            Membership::Joined(users) if users.contains(user) => relation = None,
            Membership::Left(who) if who == user => relation = Some(true),
            _ => {}
        }
    }
    relation
}

/// The entry that added somebody never reaches one of their streams, which lives to the end.
fn withhold_join(case: &mut Case, pick: usize) -> Option<()> {
    let late = |what: &What| matches!(what, What::Delivered { entry, .. } if entry.seq > Seq(1));
    let added = |place: &usize| joins(case, *place) && lives(case, *place);
    let place = choose(places(case, late).into_iter().filter(added).collect(), pick)?;
    case.history.events.remove(place);
    Some(())
}

/// The newest entry never reaches a stream that lives to the end.
fn withhold_tail(case: &mut Case, pick: usize) -> Option<()> {
    let tails = runs(case)
        .into_iter()
        .filter(|run| run.len() > 1)
        .filter_map(|run| run.last().copied());
    let missed = |place: &usize| lives(case, *place) && !joins(case, *place);
    let place = choose(tails.filter(missed).collect(), pick)?;
    case.history.events.remove(place);
    Some(())
}

/// Whether the stream of the delivery at a place was never closed.
fn lives(case: &Case, place: usize) -> bool {
    let What::Delivered { session: wanted, .. } = &case.history.events[place].what else {
        return false;
    };
    let closes = |what: &What| matches!(what, What::SessionClosed { session, .. } if session == wanted);
    places(case, closes).is_empty()
}

/// Somebody whose stream lives shows as offline.
fn hide_presence(case: &mut Case, pick: usize) -> Option<()> {
    let streams = lasting_streams(case);
    let surely = |what: &What| match what {
        What::PresenceRead { subject, invoked, .. } => {
            let settled = |(at, user): &(Moment, User)| user == subject && at.0 + 10_000 < invoked.0;
            streams.iter().any(settled)
        }
        _ => false,
    };
    let place = choose(places(case, surely), pick)?;
    if let What::PresenceRead { online, .. } = &mut case.history.events[place].what {
        *online = false;
    }
    Some(())
}

/// When whose streams opened that were never closed.
fn lasting_streams(case: &Case) -> Vec<(Moment, User)> {
    let opened = |event: &Event| match &event.what {
        What::SessionOpened { session, user, .. } => Some((event.at, user.clone(), *session)),
        _ => None,
    };
    let lasts = |wanted: SessionRef| {
        let closes = |what: &What| matches!(what, What::SessionClosed { session, .. } if *session == wanted);
        places(case, closes).is_empty()
    };
    let all = case.history.events.iter().filter_map(opened);
    all.filter(|(_, _, session)| lasts(*session))
        .map(|(at, user, _)| (at, user))
        .collect()
}

/// An answer got lost, though the stream went on and later ones came.
fn silence(case: &mut Case, pick: usize) -> Option<()> {
    let mut lanes = BTreeMap::new();
    for event in &case.history.events {
        if let What::SendInvoked { op, key, lane, .. } = &event.what {
            let lane = (
                key.conversation.clone(),
                key.user.clone(),
                key.device.clone(),
                lane.clone(),
            );
            lanes.insert(*op, lane);
        }
    }
    let answered = |index: usize| match case.history.events[index].what {
        What::SendAcked { op, .. } | What::SendFailed { op } => Some(op),
        _ => None,
    };
    let answers = places(case, |what| {
        matches!(what, What::SendAcked { .. } | What::SendFailed { .. })
    });
    let has_later = |place: &usize| {
        let op = answered(*place);
        let later = answers
            .iter()
            .filter_map(|other| answered(*other))
            .filter(|other| Some(*other) > op);
        op.is_some_and(|op| later.into_iter().any(|later| lanes.get(&later) == lanes.get(&op)))
    };
    let place = choose(answers.iter().copied().filter(has_later).collect(), pick)?;
    case.history.events.remove(place);
    Some(())
}
