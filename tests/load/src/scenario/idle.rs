//! Memory of a stream on which nothing happens.

use super::{Context, open_all};
use crate::Outcome;
use crate::link::Way;
use crate::population::Population;
use crate::process::Kind;
use crate::report::Series;
use crate::traffic::{Pace, drive};

/// Streams between two looks at the memory.
const STEPS: usize = 10;

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let (bare, curve) = kib_per_stream(context, Kind::Bare).await?;
    let (own, own_curve) = kib_per_stream(context, Kind::Stonechat).await?;
    let row = context.report.row("idle", "memory per idle stream", "KiB", own);
    (row.bare, row.target) = (Some(bare), Some("≤ bare, then 24 KiB"));
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
    let (mut devices, mut curve) = (Vec::new(), Vec::new());
    for step in people.chunks(streams / STEPS) {
        devices.extend(open_all(&server, step, Way::Native).await?);
        curve.push((devices.len() as f64, mib(server.usage()?.rss)));
    }
    let devices = devices.into_iter().map(|device| (device, Pace::Listens)).collect();
    let span = context.span(30, 10);
    let (measured, _devices) = drive(&server, devices, span, 0).await?;
    let grown = measured.usage.rss.saturating_sub(before) as f64;
    Ok((grown / 1_024.0 / streams as f64, curve))
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
