//! The checker is itself tested: right histories are clean, and a history that is wrong in one way fails that check.

mod ways;
mod world;
mod wrong;

use proptest::prelude::*;
use stonechat_tests::checker::{Bounds, Check, History, Verdict, check};

use world::{Ending, World};
use wrong::{Case, spoil};

/// Exact to a step of the little world, so that every lie shows.
fn bounds() -> Bounds {
    Bounds {
        presence_slack: std::time::Duration::from_millis(1),
        presence_ttl: std::time::Duration::from_secs(35),
        ..Bounds::default()
    }
}

fn verdict(case: &Case) -> Verdict {
    check(&case.history, &case.logs, &bounds())
}

fn case(world: &World) -> Case {
    Case {
        history: world.history.clone(),
        logs: world.logs(),
    }
}

#[test]
fn a_rich_right_history_is_clean_and_gives_every_check_something_to_look_at() {
    verdict(&case(&world::rich())).assert_clean(&Check::ALL);
}

#[test]
fn a_history_wrong_in_one_way_fails_that_check_and_only_that() {
    for wanted in Check::ALL {
        let mut case = case(&world::rich());
        assert!(spoil(&mut case, wanted, 0), "{wanted:?} found no place");
        let verdict = verdict(&case);
        let failed: Vec<Check> = verdict.failed().into_iter().collect();
        assert_eq!(failed, [wanted], "\n{verdict}");
    }
}

#[test]
fn every_further_way_is_noticed_by_its_check() {
    for (name, wanted, make_wrong) in ways::WAYS {
        let mut case = case(&world::rich());
        make_wrong(&mut case);
        let verdict = verdict(&case);
        assert!(verdict.failed().contains(&wanted), "{name}: {wanted:?}\n{verdict}");
    }
}

#[test]
fn a_history_survives_its_lines_and_a_cut_last_line_is_left_out() {
    let history = world::rich().history;
    let mut lines = Vec::new();
    history.write_lines(&mut lines).expect("a vector takes everything");
    let mut read = History::default();
    read.read_lines(&mut lines.as_slice()).expect("own lines");
    assert_eq!(read, history);
    lines.truncate(lines.len() - 2);
    let mut cut = History::default();
    cut.read_lines(&mut lines.as_slice()).expect("own lines");
    assert_eq!(cut.events, history.events[..history.events.len() - 1]);
}

/// What the generator may do next.
#[derive(Debug, Clone)]
enum Step {
    Open(u8),
    Close(u8, bool),
    Send(u8, u8),
    Add(u8),
    Remove(u8),
    Page(u8),
    Head(u8),
    Mark(u8),
    Presence(u8),
}

const PEOPLE: [&str; 5] = ["alice", "bob", "carol", "dave", "mallory"];

fn person(index: u8) -> &'static str {
    PEOPLE[usize::from(index) % PEOPLE.len()]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<u8>().prop_map(Step::Open),
        1 => any::<(u8, bool)>().prop_map(|(stream, bye)| Step::Close(stream, bye)),
        8 => any::<(u8, u8)>().prop_map(|(who, ending)| Step::Send(who, ending)),
        1 => any::<u8>().prop_map(Step::Add),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => any::<u8>().prop_map(Step::Page),
        2 => any::<u8>().prop_map(Step::Head),
        2 => any::<u8>().prop_map(Step::Mark),
        1 => any::<u8>().prop_map(Step::Presence),
    ]
}

fn take(world: &mut World, number: usize, step: &Step) {
    match step {
        Step::Open(who) => drop(world.open(person(*who), "phone")),
        Step::Close(stream, bye) => {
            let index = usize::from(*stream) % world.streams().max(1);
            if world.is_open(index) {
                world.close(index, *bye);
            }
        }
        Step::Send(who, ending) if world.is_member("room", person(*who)) => {
            let endings = [
                Ending::Acked,
                Ending::Refused,
                Ending::UnknownStored,
                Ending::UnknownLost,
            ];
            let ending = endings[usize::from(*ending) % endings.len()];
            world.send("room", person(*who), &format!("m{number}"), "", ending);
        }
        // Mallory stays a stranger.
        Step::Add(who) if person(*who) != "mallory" && !world.is_member("room", person(*who)) => {
            world.add("room", person(*who));
        }
        Step::Remove(who) if world.is_member("room", person(*who)) => world.remove("room", person(*who)),
        Step::Page(who) => world.page("room", person(*who)),
        Step::Head(who) => world.read_head("room", person(*who)),
        Step::Mark(who) if world.is_member("room", person(*who)) => world.mark_read("room", person(*who)),
        Step::Presence(who) => world.read_presence(person(*who)),
        Step::Send(..) | Step::Add(_) | Step::Remove(_) | Step::Mark(_) => {}
    }
}

fn generated(steps: &[Step]) -> Case {
    let mut world = World::default();
    world.create("room", &["alice", "bob"]);
    world.create("solo", &["erin"]);
    for (number, step) in steps.iter().enumerate() {
        take(&mut world, number, step);
    }
    world::solo(&mut world);
    world.wait_seconds(16);
    world.say(stonechat_tests::checker::What::Ended);
    case(&world)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn generated_right_histories_are_clean(steps in prop::collection::vec(step(), 1..80)) {
        let verdict = verdict(&generated(&steps));
        prop_assert!(verdict.is_clean(), "\n{verdict}");
    }

    #[test]
    fn one_mutation_of_a_generated_history_is_caught(
        steps in prop::collection::vec(step(), 20..80),
        wanted in 0..Check::ALL.len(),
        pick in any::<usize>(),
    ) {
        let wanted = Check::ALL[wanted];
        let mut case = generated(&steps);
        if spoil(&mut case, wanted, pick) {
            let verdict = verdict(&case);
            prop_assert!(verdict.failed().contains(&wanted), "{wanted:?} was not noticed\n{verdict}");
        }
    }
}
