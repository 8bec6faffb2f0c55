//! What goes wrong during the safety phase, by the seed.

use std::time::Duration;

use stonechat_host::{Random, SeededRandom};
use turmoil::Sim;

use super::world::{PLAYERS, SERVER};

/// How much goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// One player is cut off from the server for a while, this often on average; zero for never.
    pub partition_every: Duration,
    /// The server loses its power and starts again, this often on average; zero for never.
    pub crash_every: Duration,
    /// Longest latency of a message.
    pub latency_max: Duration,
    /// Chance that a link breaks at a message (the simulated network has no retransmission: a loss ends a connection).
    pub loss: f64,
}

impl Faults {
    /// A healthy network and server.
    pub const NONE: Self = Self {
        partition_every: Duration::ZERO,
        crash_every: Duration::ZERO,
        latency_max: Duration::from_millis(5),
        loss: 0.0,
    };

    /// Everything at once.
    pub const ALL: Self = Self {
        partition_every: Duration::from_secs(7),
        crash_every: Duration::from_secs(11),
        latency_max: Duration::from_millis(200),
        loss: 0.0005,
    };
}

/// Longest cut and longest downtime.
const DOWN_MAX_MS: u64 = 4_000;

/// Decides when to break what.
pub(super) struct Schedule {
    faults: Faults,
    random: SeededRandom,
    next_partition: Duration,
    next_crash: Duration,
    cut: Option<(&'static str, Duration)>,
    down_until: Option<Duration>,
    pub(super) crashes: u32,
    pub(super) partitions: u32,
}

impl Schedule {
    pub(super) fn new(faults: Faults, seed: u64) -> Self {
        let mut schedule = Self {
            faults,
            random: SeededRandom::new(seed),
            next_partition: Duration::MAX,
            next_crash: Duration::MAX,
            cut: None,
            down_until: None,
            crashes: 0,
            partitions: 0,
        };
        schedule.next_partition = schedule.after(Duration::ZERO, faults.partition_every);
        schedule.next_crash = schedule.after(Duration::ZERO, faults.crash_every);
        schedule
    }

    /// Half to one and a half times `every` after `now`.
    fn after(&self, now: Duration, every: Duration) -> Duration {
        let millis = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            Duration::MAX
        } else {
            now.saturating_add(Duration::from_millis(millis / 2 + self.random.below(millis)))
        }
    }

    fn while_down(&self, now: Duration) -> Duration {
        now + Duration::from_millis(100 + self.random.below(DOWN_MAX_MS))
    }

    /// Breaks and mends what is due.
    pub(super) fn step(&mut self, sim: &mut Sim<'_>, now: Duration) {
        self.mend(sim, now);
        if now >= self.next_partition && self.cut.is_none() {
            let player = PLAYERS[usize::try_from(self.random.below(PLAYERS.len() as u64)).unwrap_or(0)];
            sim.partition(player, SERVER);
            self.cut = Some((player, self.while_down(now)));
            self.partitions += 1;
        }
        if now >= self.next_crash && self.down_until.is_none() {
            self.crash(sim);
            self.down_until = Some(self.while_down(now));
            self.crashes += 1;
        }
    }

    /// As when the power fails: no connection says goodbye. It is not only harsher. A runtime that ends drops its tasks in
    /// an order that depends on how many the process ever had, so goodbyes, each of which draws a latency, would make a
    /// run depend on the runs before it.
    fn crash(&self, sim: &mut Sim<'_>) {
        sim.set_fail_rate(0.0);
        for player in PLAYERS {
            sim.partition(player, SERVER);
        }
        sim.crash(SERVER);
        for player in PLAYERS
            .into_iter()
            .filter(|player| self.cut.is_none_or(|(cut, _)| cut != *player))
        {
            sim.repair(player, SERVER);
        }
        sim.set_fail_rate(self.faults.loss);
    }

    fn mend(&mut self, sim: &mut Sim<'_>, now: Duration) {
        if let Some((player, until)) = self.cut
            && now >= until
        {
            sim.repair(player, SERVER);
            self.cut = None;
            self.next_partition = self.after(now, self.faults.partition_every);
        }
        if self.down_until.is_some_and(|until| now >= until) {
            sim.bounce(SERVER);
            self.down_until = None;
            self.next_crash = self.after(now, self.faults.crash_every);
        }
    }

    /// Ends the safety phase: everything works from now on.
    pub(super) fn heal(&mut self, sim: &mut Sim<'_>) {
        self.mend(sim, Duration::MAX);
        self.next_partition = Duration::MAX;
        self.next_crash = Duration::MAX;
        sim.set_fail_rate(0.0);
        for player in PLAYERS {
            sim.repair(player, SERVER);
        }
    }
}
