//! The cluster with one rule of the server taken away (`stonechat_host::without`): the run says which promise broke, and is
//! clean with the rule.

use std::collections::BTreeSet;
use std::time::Duration;

use stonechat_host::without;
use stonechat_tests::checker::Check;
use stonechat_tests::simulation::cluster::{
    Again, Fate, Faults, Given, Outcome, PerMille, RULES, Setup, run, watch_presence,
};

use super::clocks::watched;

/// How a run shows that a rule is missing.
#[derive(Clone, Copy)]
enum Sign {
    /// "Certainly not done" was said of what is stored (C9).
    Lie,
    /// One of these checks failed.
    Broken(&'static [Check]),
}

impl Sign {
    fn shows(self, outcome: &Outcome) -> bool {
        match self {
            Self::Lie => !outcome.lies.is_empty(),
            Self::Broken(checks) => checks.iter().any(|check| outcome.verdict.failed().contains(check)),
        }
    }
}

/// Seeds that are tried until the missing rule shows.
const SEEDS_MAX: u64 = 20;

fn case(rule: &str) -> (Setup, Sign) {
    let setup = |faults| Setup {
        nodes: 2,
        people: 3,
        messages: 12,
        safety: Duration::from_secs(10),
        ..Setup::new(1, faults)
    };
    let astray = Faults {
        astray: PerMille(300),
        flap_every: Duration::from_millis(700),
        ..Faults::default()
    };
    match rule {
        // The driver tries again what was done, and hears of a conflict.
        "a_lost_append_is_looked_into" => {
            let mut done_twice = setup(Faults::default());
            done_twice.given = Some(Given {
                first: 1,
                count: 1,
                fate: Fate::DoneTwice,
            });
            (done_twice, Sign::Lie)
        }
        "doubt_is_told" => {
            let faults = Faults {
                late: PerMille(300),
                refused: PerMille(300),
                ..astray
            };
            (setup(faults), Sign::Lie)
        }
        "who_cannot_look_does_not_deny" => {
            let faults = Faults {
                untold: PerMille(200),
                unread: PerMille(200),
                ..astray
            };
            (setup(faults), Sign::Lie)
        }
        "members_are_read_again" => (setup(astray), Sign::Broken(&[Check::C12, Check::C13, Check::C16])),
        "acknowledged_by_whoever_took_it_in" => {
            let faults = Faults {
                untold: PerMille(300),
                unread: PerMille(300),
                bus_lost: PerMille(500),
                ..Faults::default()
            };
            let mut few = setup(faults);
            (few.rooms, few.messages, few.guests, few.pipeline) = (20, 2, 0, 1);
            few.again = Again::OtherNode;
            (few, Sign::Broken(&[Check::C14]))
        }
        "what_is_late_is_owed" => {
            let faults = Faults {
                bus_lost: PerMille(500),
                outage_every: Duration::from_secs(2),
                ..Faults::default()
            };
            let mut few = setup(faults);
            (few.nodes, few.rooms, few.messages, few.guests) = (1, 20, 3, 0);
            (few, Sign::Broken(&[Check::C14]))
        }
        other => panic!("{other} has no case"),
    }
}

/// Clean with the rule, for every seed up to the one that shows that it is missing.
fn is_noticed(rule: &'static str) {
    let (setup, sign) = case(rule);
    for seed in 1..=SEEDS_MAX {
        let setup = Setup { seed, ..setup };
        run(setup).assert_clean(&[]);
        let broken = without(rule, || run(setup));
        if sign.shows(&broken) {
            println!("without {rule}, seed {seed}: {}", broken.wrong().unwrap_or_default());
            return;
        }
    }
    panic!("{rule} is not missed in {SEEDS_MAX} seeds");
}

/// The same of who is shown as online.
fn is_noticed_by_watchers(rule: &'static str) {
    for seed in 1..=SEEDS_MAX {
        watch_presence(watched(seed)).verdict.assert_clean(&[Check::C15]);
        let broken = without(rule, || watch_presence(watched(seed)));
        if broken.verdict.failed().contains(&Check::C15) {
            println!("without {rule}, seed {seed}: {}", broken.verdict);
            return;
        }
    }
    panic!("{rule} is not missed in {SEEDS_MAX} seeds");
}

macro_rules! is_noticed {
    ($($test:ident = $judge:ident($rule:literal),)*) => {
        $(#[test]
        fn $test() {
            $judge($rule);
        })*

        #[test]
        fn every_rule_has_a_test() {
            let tested = BTreeSet::from([$($rule),*]);
            assert_eq!(tested, BTreeSet::from(RULES));
        }
    };
}

is_noticed! {
    c9_concluding_from_a_lost_append_is_noticed = is_noticed("a_lost_append_is_looked_into"),
    c9_denying_after_an_unknown_outcome_is_noticed = is_noticed("doubt_is_told"),
    c9_denying_without_having_looked_is_noticed = is_noticed("who_cannot_look_does_not_deny"),
    i7_taking_over_without_reading_the_members_is_noticed = is_noticed("members_are_read_again"),
    i5_acknowledging_what_was_not_taken_in_is_noticed = is_noticed("acknowledged_by_whoever_took_it_in"),
    i5_forgetting_what_a_store_did_not_take_is_noticed = is_noticed("what_is_late_is_owed"),
    c15_judging_presence_by_the_wall_clock_is_noticed = is_noticed_by_watchers("presence_keeps_its_own_time"),
}
