//! Every history of a small scope: nodes that believe they own a conversation, devices that send again, crashes, outcomes
//! that nobody learns. The planner is the real one; the log's rule is a table whose conditions can be taken away.

mod look;
mod table;
mod world;

use std::collections::BTreeSet;

use futures_util::FutureExt;

use self::table::{ALL, Rules, Table};
use self::world::{HERE, Scope, Step, World, untouched};
use crate::storage::memory::MemoryStore;
use crate::storage::{AppendBatch, Head, MessageLog, PendingAppend};

/// States of one scope: the search ends where a mistake in the model would make it endless.
const STATES_MAX: usize = 200_000;

/// Two nodes; bob says something and alice removes him.
const REMOVAL: Scope = Scope {
    nodes: 2,
    letters: &[("bob", "m1", false), ("alice", "r", true)],
    tries: 2,
    unknowns: 1,
    crashes: 0,
};

/// Two nodes and one message that is sent three times.
const PERSISTENT: Scope = Scope {
    nodes: 2,
    letters: &[("bob", "m1", false)],
    tries: 3,
    unknowns: 2,
    crashes: 1,
};

/// Two nodes and two messages, one behind the other.
const PIPELINED: Scope = Scope {
    nodes: 2,
    letters: &[("bob", "m1", false), ("bob", "m2", false)],
    tries: 2,
    unknowns: 1,
    crashes: 0,
};

/// Three nodes and two senders.
const THREE_NODES: Scope = Scope {
    nodes: 3,
    letters: &[("alice", "m1", false), ("bob", "m2", false)],
    tries: 1,
    unknowns: 2,
    crashes: 1,
};

struct Explored {
    states: usize,
    /// The first promise that broke, and how.
    broken: Option<(String, Vec<Step>)>,
}

/// Looks at every state that can be reached, each once.
fn explore(scope: Scope, rules: Rules, mut look: impl FnMut(&World)) -> Explored {
    let others = untouched();
    let start = World::start(scope, rules);
    let mut seen = BTreeSet::from([start.key()]);
    // Each with the step that led to it and where that began.
    let mut trail: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut open = vec![(0, start)];
    while let Some((at, world)) = open.pop() {
        look(&world);
        for step in world.steps() {
            let mut next = world.clone();
            let taken = next.take(step, &others);
            trail.push((at, Some(step)));
            if let Err(broken) = taken {
                let (states, steps) = (seen.len(), steps_to(&trail, trail.len() - 1));
                let broken = Some((broken, steps));
                return Explored { states, broken };
            }
            if seen.insert(next.key()) {
                open.push((trail.len() - 1, next));
            }
        }
        assert!(seen.len() < STATES_MAX, "the scope is too large");
    }
    let states = seen.len();
    Explored { states, broken: None }
}

fn steps_to(trail: &[(usize, Option<Step>)], mut at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let (before, Some(step)) = trail[at] {
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}

/// I1, I2, I3, I4, I7 and C9 hold in every state, whatever comes in whatever order.
#[test]
fn i1_i2_i3_i4_c9_every_history_of_a_small_scope_keeps_the_promises() {
    for scope in [REMOVAL, PERSISTENT, PIPELINED, THREE_NODES] {
        let explored = explore(scope, ALL, |_| {});
        println!("{} states of {scope:?}", explored.states);
        assert!(explored.broken.is_none(), "{:#?}", explored.broken);
        assert!(explored.states > 500);
    }
}

/// The model notices when a condition is missing: each is needed.
#[test]
fn without_one_of_its_conditions_the_append_rule_breaks_a_promise() {
    let without_head = Rules { head: false, ..ALL };
    let without_epoch = Rules { epoch: false, ..ALL };
    let without_ids = Rules { ids: false, ..ALL };
    for (scope, rules, promise) in [
        (PIPELINED, without_head, "I3"),
        (REMOVAL, without_epoch, "I7"),
        (PERSISTENT, without_ids, "I2"),
    ] {
        let explored = explore(scope, rules, |_| {});
        let (broken, steps) = explored.broken.expect("a broken promise");
        println!("{rules:?}: after {} states: {broken}: {steps:?}", explored.states);
        assert!(broken.starts_with(promise), "{broken}");
    }
}

/// The table is what a real store does: each batch that a node tries in any state is answered alike.
#[test]
fn the_models_log_answers_as_the_one_in_memory() {
    let mut tried = BTreeSet::new();
    let mut answers = [0, 0];
    let scope = Scope { tries: 1, ..REMOVAL };
    explore(scope, ALL, |world| {
        let (batches, table) = world.appends();
        for batch in batches {
            if tried.insert(format!("{:?} {batch:?}", table.entries)) {
                let said = table.clone().append(&batch).is_ok();
                assert_eq!(said, really_appends(table, batch));
                answers[usize::from(said)] += 1;
            }
        }
    });
    println!("{} appends alike, {} of them lost", answers[0] + answers[1], answers[0]);
    assert!(answers.iter().all(|count| *count > 0));
}

fn really_appends(table: &Table, batch: AppendBatch) -> bool {
    let store = MemoryStore::new(&stonechat_host::Host::system());
    let entries = table.entries.values().map(|stored| PendingAppend {
        entry: stored.entry.clone(),
        payload: [0; 32],
    });
    let whole = AppendBatch {
        conversation: HERE,
        expected: Head::default(),
        entries: entries.collect(),
        head: table.head,
    };
    let before = store.append(whole).now_or_never().expect("at once");
    before.expect("an empty log takes it");
    store.append(batch).now_or_never().expect("at once").is_ok()
}
