//! What a run is made of, and what goes wrong in it.

use std::time::Duration;

/// A chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerMille(pub u32);

/// How much goes wrong during the safety phase. Intervals are averages; zero is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Appends that are lost on the way, of which nobody learns the outcome: nothing was done.
    pub lost: PerMille,
    /// Appends that are done, but nobody is told.
    pub untold: PerMille,
    /// Appends that are half done, and that the next operation on the conversation completes.
    pub half: PerMille,
    /// Appends that hang in the air, and that some later operation may do, if the head is still where they expect it.
    pub late: PerMille,
    /// Appends that the store refuses.
    pub refused: PerMille,
    /// Reads of the log that the store cannot answer.
    pub unread: PerMille,
    /// Operations of the log that take up to half a second.
    pub slow: PerMille,
    /// Pages that end before their limit: not all of a batch is visible at once.
    pub short_pages: PerMille,
    /// Calls of directory and markers that fail; half of the writes among them happen nevertheless.
    pub side_stores: PerMille,
    /// Events of the bus that one user does not get.
    pub bus_lost: PerMille,
    /// Events of the bus that come up to two seconds late, with everything behind them.
    pub bus_late: PerMille,
    /// Events of the bus that come twice.
    pub bus_doubled: PerMille,
    /// Requests and answers that never arrive.
    pub net_lost: PerMille,
    /// Requests and answers that take up to two seconds.
    pub net_late: PerMille,
    /// Requests of which a second copy arrives, up to twenty seconds later, at any node.
    pub net_doubled: PerMille,
    /// Requests that go to a node other than the one their sender should take for the owner.
    pub astray: PerMille,
    /// A node loses its power and comes back.
    pub crash_every: Duration,
    /// A node stands still and goes on.
    pub freeze_every: Duration,
    /// Directory, markers or log answer nothing but errors for up to four seconds.
    pub outage_every: Duration,
    /// A device loses its power and comes back.
    pub device_crash_every: Duration,
    /// The clock of a node jumps by up to an hour, in either direction.
    pub clock_jump_every: Duration,
    /// Every conversation gets another owner.
    pub flap_every: Duration,
}

impl Faults {
    /// Everything at once.
    pub const ALL: Self = Self {
        lost: PerMille(20),
        untold: PerMille(20),
        half: PerMille(10),
        late: PerMille(10),
        refused: PerMille(20),
        unread: PerMille(20),
        slow: PerMille(30),
        short_pages: PerMille(100),
        side_stores: PerMille(15),
        bus_lost: PerMille(100),
        bus_late: PerMille(20),
        bus_doubled: PerMille(50),
        net_lost: PerMille(30),
        net_late: PerMille(50),
        net_doubled: PerMille(20),
        astray: PerMille(200),
        crash_every: Duration::from_secs(9),
        freeze_every: Duration::from_secs(13),
        outage_every: Duration::from_secs(17),
        device_crash_every: Duration::from_secs(7),
        clock_jump_every: Duration::from_secs(11),
        flap_every: Duration::from_secs(3),
    };
}

/// What becomes of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Done, and said so.
    Told,
    /// Refused as not done.
    Refused,
    /// Never done; nobody knows.
    Lost,
    /// Half done, completed by the next operation on the conversation; nobody knows.
    Half,
    /// Done; nobody knows.
    Untold,
    /// Done, and the reply fails to come for longer than anybody waits; nobody knows.
    Silent,
    /// Perhaps done by a later append, after reads have shown nothing of it; nobody knows.
    Late,
    /// Done, then tried again by the driver, which is told that somebody else was faster.
    DoneTwice,
}

/// How a sender tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Again {
    /// Mostly at the node that owns the conversation, now and then at another one.
    #[default]
    Anywhere,
    /// At the same node.
    SameNode,
    /// At another node each time.
    OtherNode,
    /// It gives up, loses its power, comes back and sends again.
    AfterPowerCut,
}

/// Appends of each conversation whose fate is given, whatever chance says.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// The first of them, counted from the first append of a conversation.
    pub first: u64,
    /// How many in a row.
    pub count: u64,
    /// What becomes of them.
    pub fate: Fate,
}

/// A run.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Everything follows from it.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// How long it goes wrong, in simulated time; people write what they have to say in that time.
    pub safety: Duration,
    /// Nodes.
    pub nodes: usize,
    /// Conversations: groups of everybody, guests not counted.
    pub rooms: usize,
    /// Members from the start, each with one device; the first owns the groups.
    pub people: usize,
    /// Users who are added and removed all the time, each with one device.
    pub guests: usize,
    /// Messages that each member's device sends to each conversation.
    pub messages: usize,
    /// Changes of members that the owner makes in each conversation, among the messages.
    pub changes: usize,
    /// Messages a device may have unanswered in a conversation.
    pub pipeline: usize,
    /// How far the nodes' clocks are off, in milliseconds: the first for node 0, and round again.
    pub clocks: [i64; 3],
    /// How senders try again.
    pub again: Again,
    /// Appends whose fate is given.
    pub given: Option<Given>,
}

impl Setup {
    /// Three nodes, two groups of four and two guests, for half a simulated minute.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            faults,
            safety: Duration::from_secs(30),
            nodes: 3,
            rooms: 2,
            people: 4,
            guests: 2,
            messages: 40,
            changes: 12,
            pipeline: 8,
            clocks: [0; 3],
            again: Again::Anywhere,
            given: None,
        }
    }
}
