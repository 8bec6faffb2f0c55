//! A tiny correct chat world: it writes the histories that a right server would let clients see.

use std::collections::{BTreeMap, BTreeSet};

use stonechat_tests::checker::{
    BodyHash, Conversation, Device, FinalEntry, FinalLog, History, MarkerValues, Membership, MessageId, MessageKey,
    Moment, OpId, Register, Seq, SessionRef, Sighting, Start, User, What,
};

/// Microseconds that every step takes.
const STEP: u64 = 1_000;

#[derive(Clone)]
struct Stream {
    user: User,
    device: Device,
    open: bool,
}

/// How a send ends for its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Acked,
    Refused,
    UnknownStored,
    UnknownLost,
}

/// The world: one log per conversation, streams that get everything at once.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) history: History,
    logs: BTreeMap<Conversation, Vec<FinalEntry>>,
    members: BTreeMap<Conversation, BTreeSet<User>>,
    streams: Vec<Stream>,
    positions: BTreeMap<(User, Device, Conversation), Seq>,
    markers: BTreeMap<(User, Conversation), MarkerValues>,
    now: u64,
    ops: u64,
}

impl World {
    pub(crate) fn tick(&mut self) -> Moment {
        self.now += STEP;
        Moment(self.now)
    }

    pub(crate) fn wait_seconds(&mut self, seconds: u64) {
        self.now += seconds * 1_000_000;
    }

    pub(crate) fn say(&mut self, what: What) {
        let at = self.tick();
        self.history.push(at, what);
    }

    pub(crate) fn logs(&self) -> Vec<FinalLog> {
        let log = |(conversation, entries): (&Conversation, &Vec<FinalEntry>)| FinalLog {
            conversation: conversation.clone(),
            entries: entries.clone(),
        };
        self.logs.iter().map(log).collect()
    }

    pub(crate) fn is_member(&self, conversation: &str, user: &str) -> bool {
        self.members
            .get(&conversation.into())
            .is_some_and(|members| members.contains(&user.into()))
    }

    pub(crate) fn create(&mut self, conversation: &str, founders: &[&str]) {
        let users: Vec<User> = founders.iter().map(|user| User::from(*user)).collect();
        self.members
            .insert(conversation.into(), users.iter().cloned().collect());
        self.append(
            system_key(conversation, "create"),
            BodyHash(1),
            Membership::Joined(users),
        );
    }

    pub(crate) fn add(&mut self, conversation: &str, user: &str) {
        self.members.entry(conversation.into()).or_default().insert(user.into());
        let id = format!("add-{}", self.now);
        let seq = self.append(
            system_key(conversation, &id),
            BodyHash(2),
            Membership::Joined(vec![user.into()]),
        );
        self.membership_acked(conversation, user, true, seq);
    }

    pub(crate) fn remove(&mut self, conversation: &str, user: &str) {
        let id = format!("remove-{}", self.now);
        let seq = self.append(
            system_key(conversation, &id),
            BodyHash(3),
            Membership::Left(user.into()),
        );
        self.members
            .entry(conversation.into())
            .or_default()
            .remove(&user.into());
        self.membership_acked(conversation, user, false, seq);
    }

    fn membership_acked(&mut self, conversation: &str, user: &str, joined: bool, seq: Seq) {
        self.say(What::MembershipAcked {
            conversation: conversation.into(),
            user: user.into(),
            joined,
            seq,
        });
    }

    /// Members at this moment hear of the entry, the one who just left or came among them.
    fn append(&mut self, key: MessageKey, body: BodyHash, membership: Membership) -> Seq {
        let conversation = key.conversation.clone();
        let entries = self.logs.entry(conversation.clone()).or_default();
        let seq = Seq(entries.len() as u64 + 1);
        entries.push(FinalEntry {
            seq,
            key: key.clone(),
            body: Some(body),
            membership,
        });
        let sighting = Sighting {
            seq,
            key,
            body: Some(body),
        };
        for index in 0..self.streams.len() {
            let stream = self.streams[index].clone();
            let member = self
                .members
                .get(&conversation)
                .is_some_and(|members| members.contains(&stream.user));
            if stream.open && member {
                self.deliver(index, sighting.clone());
            }
        }
        seq
    }

    fn deliver(&mut self, index: usize, entry: Sighting) {
        let session = SessionRef(index as u64);
        let (conversation, seq) = (entry.key.conversation.clone(), entry.seq);
        self.say(What::Delivered { session, entry });
        let stream = self.streams[index].clone();
        self.positions
            .insert((stream.user.clone(), stream.device, conversation.clone()), seq);
        let known = self.markers.entry((stream.user, conversation.clone())).or_default();
        known.delivered = known.delivered.max(seq);
        self.say(What::DeliveryAcked {
            session,
            conversation,
            seq,
        });
    }

    /// Opens a stream, which replaces an open one of the device; what the device has not got comes at once.
    pub(crate) fn open(&mut self, user: &str, device: &str) -> usize {
        let index = self.streams.len();
        for older in 0..index {
            let stream = &self.streams[older];
            if stream.open && (stream.user.0.as_str(), stream.device.0.as_str()) == (user, device) {
                self.close(older, false);
            }
        }
        self.streams.push(Stream {
            user: user.into(),
            device: device.into(),
            open: true,
        });
        self.say(What::SessionOpened {
            session: SessionRef(index as u64),
            user: user.into(),
            device: device.into(),
            start: Start::default(),
        });
        let conversations: Vec<Conversation> = self.logs.keys().cloned().collect();
        for conversation in conversations {
            self.backlog(index, &conversation);
        }
        index
    }

    fn backlog(&mut self, index: usize, conversation: &Conversation) {
        let stream = self.streams[index].clone();
        let position = (stream.user.clone(), stream.device, conversation.clone());
        let after = self.positions.get(&position).copied().unwrap_or_default();
        for entry in self.visible(conversation, &stream.user) {
            if entry.seq > after {
                self.deliver(index, entry);
            }
        }
    }

    /// What a user may read.
    pub(crate) fn visible(&self, conversation: &Conversation, user: &User) -> Vec<Sighting> {
        let (mut member, mut visible) = (false, Vec::new());
        for entry in self.logs.get(conversation).into_iter().flatten() {
            let leaves = matches!(&entry.membership, Membership::Left(who) if who == user);
            let joins = matches!(&entry.membership, Membership::Joined(who) if who.contains(user));
            if member || joins {
                visible.push(Sighting {
                    seq: entry.seq,
                    key: entry.key.clone(),
                    body: entry.body,
                });
            }
            member = (member || joins) && !leaves;
        }
        visible
    }

    pub(crate) fn is_open(&self, index: usize) -> bool {
        self.streams.get(index).is_some_and(|stream| stream.open)
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn close(&mut self, index: usize, bye: bool) {
        self.streams[index].open = false;
        let session = SessionRef(index as u64);
        self.say(What::SessionClosed { session, bye });
    }

    pub(crate) fn heartbeat(&mut self, index: usize) {
        let session = SessionRef(index as u64);
        self.say(What::Heartbeat { session });
    }

    pub(crate) fn invoke(&mut self, conversation: &str, user: &str, id: &str, lane: &str) -> (OpId, MessageKey) {
        self.ops += 1;
        let op = OpId(self.ops);
        let key = MessageKey {
            conversation: conversation.into(),
            user: user.into(),
            device: "d".into(),
            id: MessageId::from(id),
        };
        self.say(What::SendInvoked {
            op,
            key: key.clone(),
            lane: lane.to_owned(),
            body: BodyHash::of(id.as_bytes()),
        });
        (op, key)
    }

    /// Stores what was invoked, or finds it stored.
    pub(crate) fn store(&mut self, key: &MessageKey) -> Seq {
        let stored = self
            .logs
            .get(&key.conversation)
            .into_iter()
            .flatten()
            .find(|entry| entry.key == *key);
        match stored {
            Some(entry) => entry.seq,
            None => self.append(key.clone(), BodyHash::of(key.id.0.as_bytes()), Membership::Unchanged),
        }
    }

    pub(crate) fn ack(&mut self, op: OpId, seq: Seq) {
        self.say(What::SendAcked { op, seq });
    }

    pub(crate) fn send(&mut self, conversation: &str, user: &str, id: &str, lane: &str, ending: Ending) {
        let (op, key) = self.invoke(conversation, user, id, lane);
        match ending {
            Ending::Acked => {
                let seq = self.store(&key);
                self.ack(op, seq);
            }
            Ending::Refused => self.say(What::SendFailed { op }),
            Ending::UnknownStored => {
                self.store(&key);
                self.say(What::SendUnknown { op });
            }
            Ending::UnknownLost => self.say(What::SendUnknown { op }),
        }
    }

    pub(crate) fn page(&mut self, conversation: &str, user: &str) {
        let entries = self.visible(&conversation.into(), &user.into());
        self.say(What::PageRead {
            user: user.into(),
            entries,
        });
    }

    pub(crate) fn read_head(&mut self, conversation: &str, user: &str) {
        let invoked = self.tick();
        let seen = self.visible(&conversation.into(), &user.into());
        self.say(What::HeadRead {
            user: user.into(),
            conversation: conversation.into(),
            invoked,
            head: seen.last().map_or(Seq(0), |entry| entry.seq),
            listed: false,
        });
    }

    /// Marks as read what was delivered, tells the others, and reads the markers.
    pub(crate) fn mark_read(&mut self, conversation: &str, user: &str) {
        let slot = (User::from(user), Conversation::from(conversation));
        let known = self.markers.entry(slot.clone()).or_default();
        known.read = known.delivered;
        let values = *known;
        self.say(What::MarkInvoked {
            user: slot.0.clone(),
            device: None,
            conversation: slot.1.clone(),
            seq: values.read,
        });
        for index in 0..self.streams.len() {
            let stream = self.streams[index].clone();
            if stream.open && stream.user != slot.0 && self.is_member(conversation, &stream.user.0) {
                self.say(What::MarkersPushed {
                    session: SessionRef(index as u64),
                    subject: slot.0.clone(),
                    conversation: slot.1.clone(),
                    register: Register::Public,
                    values,
                });
            }
        }
        self.read_markers(conversation, user);
    }

    pub(crate) fn read_markers(&mut self, conversation: &str, user: &str) {
        let slot = (User::from(user), Conversation::from(conversation));
        let values = self.markers.get(&slot).copied().unwrap_or_default();
        let invoked = self.tick();
        self.say(What::MarkersRead {
            subject: slot.0,
            conversation: slot.1,
            register: Register::Own,
            invoked,
            values,
        });
    }

    pub(crate) fn read_presence(&mut self, user: &str) {
        let invoked = self.tick();
        let online = self.streams.iter().any(|stream| stream.open && stream.user.0 == user);
        self.say(What::PresenceRead {
            subject: user.into(),
            invoked,
            online,
        });
    }
}

fn system_key(conversation: &str, id: &str) -> MessageKey {
    MessageKey {
        conversation: conversation.into(),
        user: "".into(),
        device: "".into(),
        id: id.into(),
    }
}

/// A world in which everything the checker looks at happens, all of it right.
pub(crate) fn rich() -> World {
    let mut world = World::default();
    world.create("room", &["alice", "bob", "carol"]);
    world.create("solo", &["erin"]);
    let alice = world.open("alice", "phone");
    let bob = world.open("bob", "phone");
    world.open("carol", "phone");
    world.open("mallory", "phone");
    world.send("room", "alice", "a1", "", Ending::Acked);
    world.send("room", "bob", "b1", "", Ending::Acked);
    world.mark_read("room", "bob");
    world.send("room", "alice", "refused", "", Ending::Refused);
    world.send("room", "alice", "a2", "", Ending::UnknownStored);
    world.send("room", "alice", "a2", "", Ending::Acked);
    world.send("room", "alice", "lost", "", Ending::UnknownLost);
    world.read_head("room", "bob");
    world.remove("room", "carol");
    world.add("room", "dave");
    world.open("dave", "phone");
    world.open("alice", "tablet");
    world.send("room", "bob", "b2", "", Ending::Acked);
    world.mark_read("room", "alice");
    world.close(bob, true);
    world.send("room", "alice", "a3", "", Ending::Acked);
    world.wait_seconds(31);
    world.heartbeat(alice);
    world.read_presence("alice");
    world.read_presence("bob");
    world.open("bob", "phone");
    solo(&mut world);
    held(&mut world);
    world.page("room", "bob");
    world.read_markers("room", "bob");
    world.wait_seconds(16);
    world.say(What::Ended);
    world
}

/// Sends that nobody reads: one after the other on lanes of their own, then two pipelined on one lane.
pub(crate) fn solo(world: &mut World) {
    for lane in ["one", "two"] {
        world.send("solo", "erin", lane, lane, Ending::Acked);
    }
    let (first, first_key) = world.invoke("solo", "erin", "piped-1", "pipe");
    let (second, second_key) = world.invoke("solo", "erin", "piped-2", "pipe");
    let seq = world.store(&first_key);
    world.ack(first, seq);
    let seq = world.store(&second_key);
    world.ack(second, seq);
}

/// Sends of one stream and lane that got no place at first: one was refused, of the other nobody could say. By tries that count the
/// second would have been sent first; the stream kept their order.
pub(crate) fn held(world: &mut World) {
    for round in ["first", "second"] {
        let tries = ["held-1", "held-2"].map(|id| {
            let (op, key) = world.invoke("solo", "erin", id, "held");
            let session = SessionRef(9_000);
            world.say(What::SendInLine {
                op,
                session,
                named: false,
            });
            (op, key)
        });
        for (op, key) in tries {
            if round == "first" {
                world.say(match key.id.0.as_str() {
                    "held-1" => What::SendFailed { op },
                    _ => What::SendUnknown { op },
                });
                world.say(What::SendHeld { op });
            } else {
                let seq = world.store(&key);
                world.ack(op, seq);
            }
        }
    }
}
