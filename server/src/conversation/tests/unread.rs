//! Unread counts against a plain model, whatever people do (I6): derived, never incremented and reset.

use proptest::prelude::*;

use super::bed::{Bed, caller, member, text, user};
use crate::conversation::{Limits, OwnMarkers};
use crate::domain::{Change, ConversationId, Role, Seq};

/// The first owns the group and stays; the last is no member at the start.
const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];

#[derive(Debug, Clone)]
enum Step {
    Send(usize),
    /// The same id and text as the newest message of that person: a retry.
    SendAgain(usize),
    Edit(usize, u8),
    React(usize, u8),
    Redact(usize, u8),
    /// Reads up to some share of what they may read.
    Read(usize, u8, bool),
    /// Shows as unread from some share of it.
    Unread(usize, u8),
    Join(usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..PEOPLE.len();
    prop_oneof![
        6 => who().prop_map(Step::Send),
        1 => who().prop_map(Step::SendAgain),
        1 => (who(), any::<u8>()).prop_map(|(who, pick)| Step::Edit(who, pick)),
        1 => (who(), any::<u8>()).prop_map(|(who, pick)| Step::React(who, pick)),
        2 => (who(), any::<u8>()).prop_map(|(who, pick)| Step::Redact(who, pick)),
        4 => (who(), any::<u8>(), any::<bool>()).prop_map(|(who, share, private)| Step::Read(who, share, private)),
        2 => (who(), any::<u8>()).prop_map(|(who, share)| Step::Unread(who, share)),
        2 => (1..PEOPLE.len()).prop_map(Step::Join),
        1 => (1..PEOPLE.len()).prop_map(Step::Leave),
    ]
}

/// What one person must be shown.
#[derive(Debug, Clone, Copy, Default)]
struct Person {
    member: bool,
    /// Where they joined last; 0 for never.
    joined: u64,
    /// Where they left last.
    left: u64,
    read: u64,
    unread_from: Option<u64>,
    /// Their own newest message.
    wrote: u64,
}

struct Model {
    /// Seqs of everything that was once a message.
    messages: Vec<u64>,
    head: u64,
    people: [Person; PEOPLE.len()],
}

impl Model {
    fn new() -> Self {
        let person = |index: usize| Person {
            member: index < 3,
            joined: u64::from(index < 3),
            ..Person::default()
        };
        Self {
            messages: Vec::new(),
            head: 1,
            people: std::array::from_fn(person),
        }
    }

    /// The newest seq that somebody may read.
    fn readable(&self, who: usize) -> u64 {
        let person = self.people[who];
        if person.member { self.head } else { person.left }
    }

    fn unread(&self, who: usize) -> usize {
        let person = self.people[who];
        let seen = person.read.max(person.wrote).max(person.joined);
        let unread = self
            .messages
            .iter()
            .filter(|seq| **seq > seen && **seq <= self.readable(who));
        unread.count()
    }

    fn message(&self, pick: u8) -> Option<u64> {
        let index = usize::from(pick) % self.messages.len().max(1);
        self.messages.get(index).copied()
    }
}

struct Walk {
    bed: Bed,
    group: ConversationId,
    model: Model,
    sent: usize,
    newest: [Option<(String, u64)>; PEOPLE.len()],
}

impl Walk {
    async fn start() -> Self {
        let bed = Bed::with(&PEOPLE, Limits::unpaced(), |log| log).await;
        let members = [member("bob", Role::Member), member("carol", Role::Member)];
        let group = bed.group(PEOPLE[0], &members).await;
        Self {
            bed,
            group,
            model: Model::new(),
            sent: 0,
            newest: Default::default(),
        }
    }

    fn id(&mut self) -> String {
        self.sent += 1;
        format!("id-{}", self.sent)
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Send(who) => self.send(who).await,
            Step::SendAgain(who) => self.send_again(who).await,
            Step::Edit(who, pick) => self.on_message(who, pick, edit).await,
            Step::React(who, pick) => self.on_message(who, pick, react).await,
            Step::Redact(who, pick) => self.on_message(who, pick, redact).await,
            Step::Read(who, share, private) => self.read(who, share, private).await,
            Step::Unread(who, share) => self.mark_unread(who, share).await,
            Step::Join(who) => self.join(who).await,
            Step::Leave(who) => self.leave(who).await,
        }
    }

    async fn append(&mut self, who: usize, id: &str, change: Change) -> Option<u64> {
        let appended = self.bed.append(PEOPLE[who], self.group, id, change).await.ok()?;
        if !appended.duplicate {
            self.model.head = appended.seq.0;
        }
        Some(appended.seq.0)
    }

    async fn send(&mut self, who: usize) {
        let id = self.id();
        let seq = self.append(who, &id, text(&id)).await;
        assert_eq!(seq.is_some(), self.model.people[who].member, "members alone send");
        if let Some(seq) = seq {
            self.model.messages.push(seq);
            self.model.people[who].wrote = seq;
            self.newest[who] = Some((id, seq));
        }
    }

    async fn send_again(&mut self, who: usize) {
        let Some((id, seq)) = self.newest[who].clone() else {
            return;
        };
        let again = self.append(who, &id, text(&id)).await;
        assert!(again.is_none_or(|again| again == seq), "I2: {again:?} and {seq}");
    }

    /// Something that is said of a message, if its author may say it: nothing of it counts.
    async fn on_message(&mut self, who: usize, pick: u8, change: fn(Seq) -> Change) {
        if let Some(target) = self.model.message(pick) {
            let id = self.id();
            self.append(who, &id, change(Seq(target))).await;
        }
    }

    fn share(&self, who: usize, share: u8) -> u64 {
        self.model.readable(who) * u64::from(share) / u64::from(u8::MAX)
    }

    async fn read(&mut self, who: usize, share: u8, private: bool) {
        let seq = self.share(who, share);
        let conversations = &self.bed.conversations;
        let marked = conversations
            .mark_read(&caller(PEOPLE[who]), self.group, Seq(seq), private)
            .await;
        let person = &mut self.model.people[who];
        assert_eq!(
            marked.is_ok(),
            person.joined > 0,
            "who belongs or belonged marks: {marked:?}"
        );
        if let Ok(marked) = marked {
            person.read = person.read.max(seq);
            person.unread_from = None;
            self.check(who, marked);
        }
    }

    async fn mark_unread(&mut self, who: usize, share: u8) {
        let from = self.share(who, share).max(1);
        let conversations = &self.bed.conversations;
        let marked = conversations
            .mark_unread(&caller(PEOPLE[who]), self.group, Some(Seq(from)))
            .await;
        if let Ok(marked) = marked {
            self.model.people[who].unread_from = Some(from);
            self.check(who, marked);
        }
    }

    async fn join(&mut self, who: usize) {
        if self.model.people[who].member {
            return;
        }
        let id = self.id();
        let add = Change::SetMembers(vec![member(PEOPLE[who], Role::Member)]);
        let joined = self.append(0, &id, add).await.expect("the owner adds anybody");
        let person = &mut self.model.people[who];
        (person.member, person.joined) = (true, joined);
    }

    async fn leave(&mut self, who: usize) {
        let id = self.id();
        let left = self.append(who, &id, Change::RemoveMember(user(PEOPLE[who]))).await;
        let person = &mut self.model.people[who];
        assert_eq!(left.is_some(), person.member);
        if let Some(left) = left {
            (person.member, person.left) = (false, left);
        }
    }

    fn check(&self, who: usize, shown: OwnMarkers) {
        let person = self.model.people[who];
        let told = (shown.unread_count, shown.unread_from, shown.read);
        let wanted = (
            self.model.unread(who) as u64,
            person.unread_from.map(Seq),
            Seq(person.read),
        );
        assert_eq!(told, wanted, "{}: {person:?}", PEOPLE[who]);
        assert!(shown.read <= shown.delivered, "read <= delivered: {shown:?}");
        assert!(
            shown.delivered.0 <= self.model.readable(who),
            "delivered <= head: {shown:?}"
        );
    }

    /// Everybody's row says what the model says.
    async fn check_all(&self) {
        for (who, name) in PEOPLE.into_iter().enumerate() {
            let row = self.bed.conversations.summary(&user(name), None, self.group).await;
            match row.expect("the store answers") {
                Some(row) => self.check(who, row.markers),
                None => assert_eq!(self.model.people[who].joined, 0, "{name} has no row"),
            }
        }
    }
}

fn edit(target: Seq) -> Change {
    match text("edited") {
        Change::Message(content) => Change::Edit { target, content },
        other => other,
    }
}

fn react(target: Seq) -> Change {
    Change::React {
        target,
        reaction: "👍".to_owned(),
        remove: false,
    }
}

fn redact(target: Seq) -> Change {
    Change::Redact {
        target,
        reason: String::new(),
    }
}

fn walk(steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut walk = Walk::start().await;
        for step in steps {
            walk.take(step).await;
            walk.check_all().await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn i6_unread_counts_are_those_of_a_plain_model(steps in prop::collection::vec(step(), 1..60)) {
        walk(&steps);
    }
}
