//! What breaks during the safety phase besides single operations: nodes, devices, whole stores, clocks.

use std::sync::Arc;
use std::time::Duration;

use super::weather::Store;
use super::world::World;

/// How often it is decided what breaks.
const TICK: Duration = Duration::from_millis(50);
/// Longest time a node is down, stands still, or a store is out.
const DOWN_MAX: Duration = Duration::from_secs(4);
/// How far a clock jumps at most.
const JUMP_MAX_MS: u64 = 3_600_000;

/// Breaks things until it is aborted.
pub(super) async fn rage(world: Arc<World>) {
    loop {
        tokio::time::sleep(TICK).await;
        let faults = world.weather.faults();
        if is_due(&world, faults.crash_every) {
            crash(&world);
        }
        if is_due(&world, faults.freeze_every) {
            freeze(&world);
        }
        if is_due(&world, faults.outage_every) {
            cut_store(&world);
        }
        if is_due(&world, faults.device_crash_every) {
            world.weather.count("devices without power");
            world.people[world.dice.index(world.people.len())].cut_power();
        }
        if is_due(&world, faults.clock_jump_every) {
            let by = i64::try_from(world.dice.below(2 * JUMP_MAX_MS)).unwrap_or(0) - JUMP_MAX_MS.cast_signed();
            world.weather.count("jumps of clocks");
            world.cluster.clock(world.dice.index(world.cluster.len())).jump(by);
        }
    }
}

fn is_due(world: &World, every: Duration) -> bool {
    let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let tick = u64::try_from(TICK.as_millis()).unwrap_or(1);
    every > 0 && world.dice.below(every) < tick
}

fn crash(world: &Arc<World>) {
    let number = world.dice.index(world.cluster.len());
    if !world.cluster.crash(number) {
        return;
    }
    world.weather.count("crashes");
    let (world, down) = (Arc::clone(world), world.dice.millis(DOWN_MAX));
    tokio::spawn(async move {
        tokio::time::sleep(down).await;
        world.cluster.start(number).await;
    });
}

fn freeze(world: &Arc<World>) {
    let number = world.dice.index(world.cluster.len());
    world.weather.count("freezes");
    world.cluster.freeze(number, true);
    let (world, down) = (Arc::clone(world), world.dice.millis(DOWN_MAX));
    tokio::spawn(async move {
        tokio::time::sleep(down).await;
        world.cluster.freeze(number, false);
    });
}

fn cut_store(world: &Arc<World>) {
    let store = [Store::Log, Store::Markers, Store::Directory][world.dice.index(3)];
    world.weather.count("outages of a store");
    world.weather.set_out(Some(store));
    let (world, down) = (Arc::clone(world), world.dice.millis(DOWN_MAX));
    tokio::spawn(async move {
        tokio::time::sleep(down).await;
        world.weather.set_out(None);
    });
}
