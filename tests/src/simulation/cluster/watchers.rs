//! Devices come and go at all nodes, and at each node somebody watches everybody: presence and C15.
//!
//! Nobody chooses what to show: which of two choices is the newer is told by the wall clocks of the nodes that took them.

use std::sync::Arc;
use std::time::Duration;

use stonechat_host::monotonic;
use stonechat_server::bus::{Bus, Event, Status, Topic};
use stonechat_server::domain::{SessionId, UserId};
use stonechat_server::presence::Ending;
use tokio::task::JoinSet;

use super::chaos::rage;
use super::dice::Dice;
use super::node::Node;
use super::people::Person;
use super::setup::{PerMille, Setup};
use super::weather::Counts;
use super::world::World;
use crate::checker::{Bounds, Device, SessionRef, Start, User, Verdict, What, check};

/// Devices of each person.
const DEVICES: [&str; 2] = ["phone", "tablet"];
/// Between two signs of life of a client.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Longest time that a device is away, and that it stays: often longer than what it said holds.
const AWAY_MAX: Duration = Duration::from_secs(200);
const STAY_MAX: Duration = Duration::from_secs(200);
/// Longest time between two looks at everybody.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// A node that is down is looked for again after this.
const DOWN: Duration = Duration::from_millis(500);
/// Where nodes die, a session may have been silent for all of its time when its node does; what it said then holds for as long
/// as the lease of the node, and some seconds of sweeping.
const SLACK_OF_THE_DEAD: Duration = Duration::from_secs(65);
/// Heartbeats of an app in the background: away is not offline.
const BACKGROUND: PerMille = PerMille(200);

/// What a run ended with.
pub struct PresenceOutcome {
    /// The checker's verdict.
    pub verdict: Verdict,
    /// How often what happened.
    pub counts: Counts,
}

/// Plays one run: of a setup counts what is said of nodes, people, clocks and faults, and how long it lasts (`safety`).
///
/// # Panics
/// The simulation itself fails.
#[must_use]
pub fn watch_presence(setup: Setup) -> PresenceOutcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(watch(setup))
}

async fn watch(setup: Setup) -> PresenceOutcome {
    let world = Arc::new(World::build(setup, |log| log).await);
    world.weather.set(setup.faults);
    let mut parts = JoinSet::new();
    parts.spawn(rage(Arc::clone(&world)));
    for (number, person) in world.people.iter().enumerate() {
        for (of_person, name) in DEVICES.into_iter().enumerate() {
            let visitor = Visitor {
                world: Arc::clone(&world),
                person: Arc::clone(person),
                device: Device(name.to_owned()),
                dice: Dice::new(setup.seed, (200 + DEVICES.len() * number + of_person) as u64),
            };
            parts.spawn(visitor.come_and_go());
        }
    }
    for node in 0..world.cluster.len() {
        parts.spawn(look(Arc::clone(&world), node, Dice::new(setup.seed, 100 + node as u64)));
        for person in &world.people {
            parts.spawn(hear(Arc::clone(&world), node, Arc::clone(person)));
        }
    }
    tokio::time::sleep(setup.safety).await;
    drop(parts);
    world.record(What::Ended);
    PresenceOutcome {
        verdict: check(&world.recorder.take(), &[], &bounds(&setup)),
        counts: world.weather.counts(),
    }
}

fn bounds(setup: &Setup) -> Bounds {
    let mut bounds = Bounds::default();
    if !setup.faults.crash_every.is_zero() {
        bounds.presence_slack = SLACK_OF_THE_DEAD;
    }
    bounds
}

/// Reads the presence of everybody at one node.
async fn look(world: Arc<World>, number: usize, dice: Dice) {
    let users: Vec<UserId> = world.people.iter().map(|person| person.user.clone()).collect();
    loop {
        tokio::time::sleep(dice.millis(LOOK_MAX)).await;
        let Some(node) = world.cluster.node(number) else {
            continue;
        };
        let invoked = world.recorder.now();
        let read = tokio::select! {
            biased;
            () = node.gate.died() => continue,
            read = node.presence.current(&users) => read,
        };
        for presence in read {
            world.weather.count("looks");
            world.record(What::PresenceRead {
                subject: User(presence.user.to_string()),
                invoked,
                online: presence.status != Status::Offline,
            });
        }
    }
}

/// Hears at one node what is told of one person.
async fn hear(world: Arc<World>, number: usize, person: Arc<Person>) {
    loop {
        let Some(node) = world.cluster.node(number) else {
            tokio::time::sleep(DOWN).await;
            continue;
        };
        let mut told = node.bus.subscribe(Topic::Presence(person.user.clone())).await;
        loop {
            let event = tokio::select! {
                biased;
                () = node.gate.died() => break,
                event = told.next() => event,
            };
            let Some(Event::Presence(presence)) = event else { break };
            world.weather.count("changes told");
            world.record(What::PresencePushed {
                subject: person.name.clone(),
                online: presence.status != Status::Offline,
            });
        }
        tokio::time::sleep(DOWN).await;
    }
}

/// A device that opens a stream at some node, stays for a while, and goes in one of three ways.
struct Visitor {
    world: Arc<World>,
    person: Arc<Person>,
    device: Device,
    dice: Dice,
}

impl Visitor {
    async fn come_and_go(self) {
        loop {
            tokio::time::sleep(self.dice.millis(AWAY_MAX)).await;
            if let Some(node) = self.world.any_node() {
                self.visit(&node).await;
            }
        }
    }

    async fn visit(&self, node: &Node) {
        let session = self.world.recorder.session();
        self.world.record(What::SessionOpened {
            session,
            user: self.person.name.clone(),
            device: self.device.clone(),
            start: Start::default(),
        });
        tokio::select! {
            biased;
            () = node.gate.died() => self.closed(session, false, "streams of dead nodes"),
            () = self.stay(node, session) => {}
        }
    }

    async fn stay(&self, node: &Node, session: SessionRef) {
        let name = format!("{}-{}", self.device.0, session.0);
        let id = SessionId::parse(&name).unwrap_or_else(|error| panic!("{error}"));
        let until = monotonic() + self.dice.millis(STAY_MAX);
        while monotonic() < until {
            self.world.record(What::Heartbeat { session });
            let background = self.dice.chance(BACKGROUND);
            node.presence.session_alive(&self.person.user, &id, background).await;
            tokio::time::sleep_until(until.min(monotonic() + HEARTBEAT)).await;
        }
        let ending = match self.dice.below(3) {
            0 => Ending::Bye,
            1 => Ending::Lost,
            // Nobody tells the node.
            _ => return self.closed(session, false, "devices that fell silent"),
        };
        self.closed(session, ending == Ending::Bye, "streams that ended");
        node.presence.session_ended(&self.person.user, &id, ending).await;
    }

    fn closed(&self, session: SessionRef, bye: bool, how: &'static str) {
        self.world.weather.count(how);
        self.world.record(What::SessionClosed { session, bye });
    }
}
