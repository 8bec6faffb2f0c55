//! R8, R9: a large group whose members all flap makes a bounded number of events.

use super::*;

/// The largest group.
const MEMBERS: usize = 500;
/// How long everybody flaps.
const SWEEPS: u64 = 10;
/// Changes of each member in that time, from the fore to the back and again: ten a sweep.
const FLAPS: u64 = 10 * SWEEPS;

/// I9: each member tells their watchers a few changes a sweep, however often they go away and come back, and in the end what is true.
#[tokio::test]
async fn i9_a_group_that_flaps_costs_a_few_events_a_member_and_sweep() {
    let mut world = World::paused().await;
    let node = world.node("g1");
    let members: Vec<UserId> = (0..MEMBERS).map(|number| user(&format!("member{number}"))).collect();
    let mut watched = Vec::new();
    for member in &members {
        watched.push(world.watch(member).await);
    }
    for round in 0..FLAPS {
        for member in &members {
            node.session_alive(member, &session("phone"), round % 2 == 0).await;
        }
        world.pass(SWEEP / 10).await;
    }
    for member in &members {
        node.session_alive(member, &session("phone"), false).await;
    }
    world.pass(2 * SWEEP).await;
    let mut events = 0;
    for (member, watch) in members.iter().zip(&mut watched) {
        let told = told(watch).await;
        assert_eq!(told.last(), Some(&Status::Online), "{member} is online in the end");
        events += told.len() as u64;
    }
    // One sweep more for what was under way at either end, and one change told late by each.
    let most = MEMBERS as u64 * (SWEEPS + 2) * (u64::from(CHANGES_PER_SWEEP) + 1);
    let changes = MEMBERS as u64 * FLAPS;
    println!("{changes} changes of {MEMBERS} members, {events} events; at most {most}");
    assert!(events <= most && most < changes, "{events} events of {changes} changes");
    assert!(
        events >= MEMBERS as u64 * SWEEPS,
        "{events} events: watchers were left behind"
    );
}
