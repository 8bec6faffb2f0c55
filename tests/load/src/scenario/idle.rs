//! Memory of a stream on which nothing happens.

use std::time::Duration;

use super::{Context, open_all};
use crate::Outcome;
use crate::link::Way;
use crate::population::Population;
use crate::process::Kind;
use crate::report::Series;
use crate::traffic::{Pace, Running};

/// Time for buffers of the openings to be given back, and for heartbeats to come.
const SETTLE: Duration = Duration::from_secs(30);
/// Streams between two looks at the memory.
const STEPS: usize = 10;

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let (bare, curve) = kib_per_stream(context, Kind::Bare).await?;
    let (own, own_curve) = kib_per_stream(context, Kind::Stonechat).await?;
    let row = context.report.row("idle", "memory per idle stream", "KiB", own);
    row.beside(bare).target("≤ bare, then 24 KiB");
    let series = |name: &str, points| Series {
        name: name.to_owned(),
        points,
    };
    context.report.plots.push(crate::report::Plot {
        title: "idle: resident memory over open streams".to_owned(),
        x: "streams",
        y: "MiB",
        series: vec![series("stonechat", own_curve), series("bare", curve)],
    });
    Ok(())
}

async fn kib_per_stream(context: &Context, kind: Kind) -> Outcome<(f64, Vec<(f64, f64)>)> {
    let server = context.server(kind, &[]).await?;
    let streams = context.size(10_000, 200);
    let pairs = Population::of(&server)?.pairs("idle", streams / 2).await?;
    let people: Vec<_> = pairs.into_iter().flatten().collect();
    let before = server.usage()?.rss;
    let (mut running, mut curve) = (Running::new()?, Vec::new());
    for (step, people) in people.chunks(streams / STEPS).enumerate() {
        for device in open_all(&server, people, Way::Native).await? {
            running.add(device, Pace::Listens);
        }
        curve.push((((step + 1) * streams / STEPS) as f64, mib(server.usage()?.rss)));
    }
    tokio::time::sleep(context.size(SETTLE, SETTLE / 10)).await;
    let grown = server.usage()?.rss.saturating_sub(before) as f64;
    running.end(0).await?;
    Ok((grown / 1_024.0 / streams as f64, curve))
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
