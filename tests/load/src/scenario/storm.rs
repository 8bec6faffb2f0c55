//! Ten thousand clients dropped at once (F7): how soon they are back, and what it costs.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Context, open_all};
use crate::Outcome;
use crate::link::Way;
use crate::population::{Person, Population};
use crate::process::{Kind, Server};
use crate::report::{Plot, Series};
use crate::traffic::Device;

/// Connects that are under way at a time: all that a process' descriptors allow.
const ALL_AT_ONCE: usize = 10_000;

/// The server's count of questions to its store.
const STORE_READS: &str = "stonechat_store_reads_total";

/// Tries of one client: far more than it should need.
const TRIES_MAX: usize = 20;
/// Shortest pause after a failed try.
const PAUSE_MIN_MS: u64 = 500;
/// How far pauses are spread.
const PAUSE_SPREAD_MS: u64 = 5_000;
/// A step that gives neighbours pauses far apart.
const STRIDE: u64 = 7_919;

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let server = context.server(Kind::Stonechat, &[]).await?;
    let clients = context.size(ALL_AT_ONCE, 100);
    let pairs = Population::of(&server)?.pairs("storm", clients / 2).await?;
    let mut people: Vec<Person> = pairs.into_iter().flatten().collect();
    let devices = open_all(&server, &people, Way::Native).await?;
    for (person, device) in people.iter_mut().zip(&devices) {
        person.hello = device.resume.clone();
    }
    drop(devices);
    let reads_before = server.counter(STORE_READS).await?;
    let (before, begun) = (server.usage()?.cpu, stonechat_host::monotonic());
    let opening = stream::iter(people.iter().enumerate());
    let server = &server;
    let opening = opening.map(|(number, person)| async move {
        let (device, tries) = come_back(server, person, number).await?;
        Ok::<_, crate::Failure>((device, tries, begun.elapsed()))
    });
    let back: Vec<_> = opening.buffer_unordered(ALL_AT_ONCE).try_collect().await?;
    let cpu = server.usage()?.cpu.saturating_sub(before);
    let mut times: Vec<Duration> = back.iter().map(|(_, _, took)| *took).collect();
    let tries: usize = back.iter().map(|(_, tries, _)| tries).sum();
    times.sort_unstable();
    let late = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    let row = context
        .report
        .row("storm", "99 % of the clients are back after", "s", late.as_secs_f64());
    row.target("≤ 60");
    let each = cpu.as_secs_f64() * 1_000.0 / clients as f64;
    context.report.row("storm", "server CPU per client", "ms", each);
    let reads = server.counter(STORE_READS).await? - reads_before;
    let row = context
        .report
        .row("storm", "store reads per client", "", reads as f64 / clients as f64);
    row.target("≤ 3, then 1");
    plot(context, &times);
    let tries = tries as f64 / clients as f64;
    context.report.row("storm", "connects tried by each client", "", tries);
    Ok(())
}

fn plot(context: &mut Context, times: &[Duration]) {
    let points = times.iter().enumerate();
    let points = points.map(|(back, took)| (took.as_secs_f64(), (back + 1) as f64));
    context.report.plots.push(Plot {
        title: "storm: clients that are back".to_owned(),
        x: "seconds",
        y: "clients",
        series: vec![Series {
            name: "stonechat".to_owned(),
            points: points.collect(),
        }],
    });
}

/// Connects until it is welcome again, as clients do: after a failure with a pause, each its own. Says how often it tried.
async fn come_back(server: &Server, person: &Person, number: usize) -> Outcome<(Device, usize)> {
    let pause = Duration::from_millis(PAUSE_MIN_MS + number as u64 * STRIDE % PAUSE_SPREAD_MS);
    let mut failure = None;
    for tries in 1..=TRIES_MAX {
        match Device::open(server, person, Way::Native).await {
            Ok(device) => return Ok((device, tries)),
            Err(error) => failure = Some(error),
        }
        tokio::time::sleep(pause).await;
    }
    Err(failure.unwrap_or_else(|| "never tried".into()))
}
