//! One run: a server, three players, a group, faults, then peace; and the checker's verdict.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::Host;
use stonechat_server::auth::{AuthOptions, Authenticator, Secret};
use stonechat_server::bus::embedded::EmbeddedBus;
use stonechat_server::conversation::Backends;
use stonechat_server::domain::{Body, ConversationId, Seq as DomainSeq};
use stonechat_server::storage::memory::MemoryStore;
use stonechat_server::storage::memory::directory::MemoryDirectory;
use stonechat_server::storage::{MessageLog, PageLimit, StoredEntry};

use super::faults::{Faults, Schedule};
use super::net;
use super::player::{Part, play};
use super::recorder::{Recorder, sighting};
use super::server;
use crate::checker::{BodyHash, Bounds, Conversation, FinalEntry, FinalLog, Membership, User, Verdict, What, check};

/// The server's host.
pub(super) const SERVER: &str = "server";
/// The players' hosts, which are their users too.
pub(super) const PLAYERS: [&str; 3] = ["alice", "bob", "carol"];
/// Simulated time in which the healthy system must finish.
const LIVENESS: Duration = Duration::from_secs(300);

/// A run.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Everything follows from it.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// How long it goes wrong, in simulated time.
    pub safety: Duration,
    /// Messages of each player.
    pub messages: usize,
}

/// What a run ended with.
pub struct Outcome {
    /// The checker's verdict.
    pub verdict: Verdict,
    /// Hash of every event with its simulated time: equal for equal seeds (F20).
    pub hash: BodyHash,
    /// Crashes of the server.
    pub crashes: u32,
    /// Cuts between a player and the server.
    pub partitions: u32,
    /// Simulated time it took.
    pub simulated: Duration,
}

/// What outlives a crash of the server, as a disk would.
pub(super) struct Disk {
    pub(super) store: Arc<MemoryStore>,
    pub(super) directory: Arc<MemoryDirectory>,
}

impl Disk {
    fn new(seed: u64) -> Self {
        let host = net::host(seed);
        Self {
            store: Arc::new(MemoryStore::new(&host)),
            directory: Arc::new(MemoryDirectory::new()),
        }
    }

    /// The backends of a server that starts now: the bus is new, it lives in the process.
    pub(super) fn backends(&self) -> Backends {
        Backends {
            log: Arc::clone(&self.store) as Arc<_>,
            markers: Arc::clone(&self.store) as Arc<_>,
            directory: Arc::clone(&self.directory) as Arc<_>,
            bus: Arc::new(EmbeddedBus::default()),
        }
    }
}

/// Plays one run.
///
/// # Panics
/// The simulation itself fails: a player gives up, or not everything is done within the liveness phase.
#[must_use]
pub fn run(setup: Setup) -> Outcome {
    println!("simulation: seed {} faults {:?}", setup.seed, setup.faults);
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(setup.seed)
        .epoch(std::time::UNIX_EPOCH + net::EPOCH)
        .simulation_duration(setup.safety + LIVENESS)
        .tick_duration(Duration::from_millis(1))
        .max_message_latency(setup.faults.latency_max)
        .fail_rate(setup.faults.loss)
        .repair_rate(1.0);
    let mut sim = builder.build();
    let disk = Rc::new(Disk::new(setup.seed));
    let recorder = Recorder::default();
    let conversation = prepare(&disk, setup.seed);
    let hosted = Rc::clone(&disk);
    sim.host(SERVER, move || server::serve(Rc::clone(&hosted), setup.seed));
    let head = 1 + PLAYERS.len() as u64 * setup.messages as u64;
    for (number, user) in PLAYERS.into_iter().enumerate() {
        let part = Part {
            user,
            number: number as u64 + 1,
            seed: setup.seed.wrapping_mul(31).wrapping_add(number as u64),
            token: server::token(&disk, user, setup.seed),
            endpoint: format!("http://{SERVER}:{}", server::PORT),
            conversation: conversation.to_string(),
            messages: setup.messages,
            head,
            recorder: recorder.clone(),
        };
        sim.client(user, play(part));
    }
    let mut schedule = Schedule::new(setup.faults, setup.seed ^ 0x5eed);
    let mut healed = false;
    while !sim
        .step()
        .unwrap_or_else(|error| panic!("seed {}: {error}", setup.seed))
    {
        let now = sim.elapsed();
        if now < setup.safety {
            schedule.step(&mut sim, now);
        } else if !healed {
            schedule.heal(&mut sim);
            healed = true;
        }
    }
    judge(&setup, &disk, conversation, &recorder, &schedule, sim.elapsed())
}

/// Makes the group before the network exists.
fn prepare(disk: &Disk, seed: u64) -> ConversationId {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(server::create_group(disk, &PLAYERS, seed))
}

fn judge(
    setup: &Setup,
    disk: &Disk,
    conversation: ConversationId,
    recorder: &Recorder,
    schedule: &Schedule,
    simulated: Duration,
) -> Outcome {
    let mut history = recorder.take();
    let mut lines = Vec::new();
    if let Err(error) = history.write_lines(&mut lines) {
        panic!("seed {}: {error}", setup.seed);
    }
    let log = final_log(disk, conversation);
    let end = u64::try_from(simulated.as_micros()).unwrap_or(u64::MAX);
    history.push(crate::checker::Moment(end), What::Ended);
    Outcome {
        verdict: check(&history, &[log], &Bounds::default()),
        hash: BodyHash::of(&lines),
        crashes: schedule.crashes,
        partitions: schedule.partitions,
        simulated,
    }
}

fn final_log(disk: &Disk, conversation: ConversationId) -> FinalLog {
    let limit = PageLimit {
        entries: usize::MAX,
        bytes: usize::MAX,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let entries = runtime.block_on(async {
        let head = disk.store.head(conversation).await.ok().flatten().unwrap_or_default();
        disk.store.read(conversation, DomainSeq(1), head.seq, limit).await
    });
    let entries = entries.unwrap_or_else(|error| panic!("the log cannot be read: {error}"));
    FinalLog {
        conversation: Conversation(conversation.to_string()),
        entries: entries.iter().map(|stored| final_entry(stored)).collect(),
    }
}

fn final_entry(stored: &StoredEntry) -> FinalEntry {
    use prost::Message;
    let proto = stonechat_proto::v1::Entry::decode(stored.wire.clone());
    let proto = proto.unwrap_or_else(|error| panic!("a stored entry cannot be decoded: {error}"));
    let seen = sighting(&proto);
    let membership = match &stored.entry.body {
        Body::Created { members, .. } | Body::Members(members) => {
            let users: BTreeSet<String> = members.iter().map(|member| member.user.to_string()).collect();
            Membership::Joined(users.into_iter().map(User).collect())
        }
        Body::Left { user, .. } => Membership::Left(User(user.to_string())),
        _ => Membership::Unchanged,
    };
    FinalEntry {
        seq: seen.seq,
        key: seen.key,
        body: seen.body,
        membership,
    }
}

/// The server's machine, outside of a run too.
pub(super) fn server_host(seed: u64) -> Host {
    net::host(seed ^ 0x5e17e5)
}

pub(super) fn authenticator(backends: &Backends, host: &Host) -> Arc<Authenticator> {
    let options = AuthOptions {
        issuer: "stonechat".to_owned(),
        audience: "stonechat".to_owned(),
        require_known_users: true,
    };
    let secret = Secret::from_bytes([7; 32]);
    Arc::new(Authenticator::with_secret(
        secret,
        options,
        Arc::clone(&backends.directory),
        host.clone(),
    ))
}
