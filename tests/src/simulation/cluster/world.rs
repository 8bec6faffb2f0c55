//! Everything of one run that its parts share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stonechat_server::conversation::CreateRequest;
use stonechat_server::domain::{ClientMsgId, Kind, Member, Role, UnixMillis};
use stonechat_server::storage::MessageLog;
use stonechat_server::storage::memory::MemoryStore;
use stonechat_server::storage::memory::directory::MemoryDirectory;

use super::dice::Dice;
use super::log::Truth;
use super::node::{BUCKET, Cluster, Node};
use super::people::{Person, Room};
use super::recorder::Recorder;
use super::setup::{Again, Faults, Setup};
use super::weather::Weather;
use crate::checker::{Conversation, What};

/// What the names of guests begin with.
pub(super) const GUEST: &str = "guest";

/// Shared by all tasks of a run.
pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) weather: Weather,
    pub(super) cluster: Cluster,
    pub(super) recorder: Recorder,
    pub(super) rooms: Vec<Room>,
    pub(super) people: Vec<Arc<Person>>,
    pub(super) dice: Dice,
    healed: AtomicBool,
}

/// Puts a log in front of the true one.
pub type Wrap = fn(Arc<dyn MessageLog>) -> Arc<dyn MessageLog>;

impl World {
    /// Starts the nodes, and makes everybody and the conversations while nothing goes wrong.
    pub(super) async fn build(setup: Setup, wrap: Wrap) -> Self {
        let host = stonechat_host::Host {
            random: Arc::new(stonechat_host::SeededRandom::new(setup.seed)),
            ..stonechat_host::Host::system()
        };
        let store = Arc::new(MemoryStore::new(&host));
        let directory = Arc::new(MemoryDirectory::new());
        let weather = Weather::new(Faults::default(), Dice::new(setup.seed, 1));
        let truth = Truth::new(wrap(Arc::clone(&store) as Arc<_>), weather.clone(), setup.given, BUCKET);
        let off: Vec<i64> = (0..setup.nodes)
            .map(|node| setup.clocks[node % setup.clocks.len()])
            .collect();
        let mut world = Self {
            cluster: Cluster::new(Arc::new(truth), store, directory, weather.clone(), setup.seed, &off),
            weather,
            recorder: Recorder::new(),
            rooms: Vec::new(),
            people: Vec::new(),
            dice: Dice::new(setup.seed, 2),
            healed: AtomicBool::new(false),
            setup,
        };
        for node in 0..setup.nodes {
            world.cluster.start(node).await;
        }
        for number in 0..setup.people + setup.guests {
            let name = if number < setup.people {
                format!("p{number}")
            } else {
                format!("{GUEST}{number}")
            };
            let person = Person::new(&name, setup.rooms);
            let made = world.cluster.directory.ensure_user(&person.user, UnixMillis(0)).await;
            made.unwrap_or_else(|error| panic!("{error}"));
            world.people.push(Arc::new(person));
        }
        for number in 0..setup.rooms {
            let room = world.create(number).await;
            world.rooms.push(room);
        }
        world
    }

    async fn create(&self, number: usize) -> Room {
        let members = &self.people[..self.setup.people];
        let member = |person: &Arc<Person>| Member {
            user: person.user.clone(),
            role: Role::Member,
        };
        let request = CreateRequest {
            client_msg_id: id(&format!("create{number}")),
            owner: members[0].user.clone(),
            kind: Kind::Group,
            name: format!("room {number}"),
            members: members[1..].iter().map(member).collect(),
            created: None,
        };
        let node = self.any_node().unwrap_or_else(|| panic!("no node runs"));
        let made = node.rules.create(&members[0].caller(), request).await;
        let id = made.unwrap_or_else(|refusal| panic!("{refusal}")).id;
        Room {
            id,
            name: Conversation(id.to_string()),
        }
    }

    pub(super) fn record(&self, what: What) {
        self.recorder.push(what);
    }

    /// Any node that runs.
    pub(super) fn any_node(&self) -> Option<Arc<Node>> {
        let first = self.dice.index(self.cluster.len());
        let mut around = (0..self.cluster.len()).map(|step| (first + step) % self.cluster.len());
        around.find_map(|number| self.cluster.node(number))
    }

    /// Where a request about a room goes in this round of its sender.
    pub(super) fn node_for(&self, room: usize, round: u64) -> Option<Arc<Node>> {
        let wanted = match self.setup.again {
            Again::Anywhere if self.dice.chance(self.weather.faults().astray) => return self.any_node(),
            Again::Anywhere => self.owner(room),
            Again::SameNode | Again::AfterPowerCut => room % self.cluster.len(),
            Again::OtherNode => (room + usize::try_from(round).unwrap_or(0)) % self.cluster.len(),
        };
        self.cluster.node(wanted).or_else(|| self.any_node())
    }

    fn owner(&self, room: usize) -> usize {
        let every = self.weather.faults().flap_every.as_micros();
        let turns = u128::from(self.recorder.now().0).checked_div(every).unwrap_or(0);
        (room + usize::try_from(turns).unwrap_or(0)) % self.cluster.len()
    }

    pub(super) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    /// The safety phase is over: nothing goes wrong from here on.
    pub(super) async fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        self.weather.set(Faults::default());
        for node in 0..self.cluster.len() {
            self.cluster.freeze(node, false);
        }
        self.cluster.truth.settle().await;
    }
}

pub(super) fn id(text: &str) -> ClientMsgId {
    ClientMsgId::parse(text).unwrap_or_else(|error| panic!("{error}"))
}
