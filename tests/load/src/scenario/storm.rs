//! Ten thousand clients dropped at once (F7): how soon they are back, and what it costs.

use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::{Context, open_all};
use crate::Outcome;
use crate::link::Way;
use crate::population::{Person, Population};
use crate::process::Kind;
use crate::traffic::Device;

/// Connects that are under way at a time: all that a process' descriptors allow.
const ALL_AT_ONCE: usize = 10_000;

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
    let (before, begun) = (server.usage()?.cpu, stonechat_host::monotonic());
    let opening = stream::iter(&people).map(|person| async {
        let device = Device::open(&server, person, Way::Native).await;
        device.map(|device| (device, begun.elapsed()))
    });
    let back: Vec<_> = opening.buffer_unordered(ALL_AT_ONCE).collect().await;
    let cpu = server.usage()?.cpu.saturating_sub(before);
    let mut times: Vec<Duration> = Vec::new();
    for device in &back {
        times.push(device.as_ref().map_err(|error| format!("not back: {error}"))?.1);
    }
    times.sort_unstable();
    let late = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    let row = context
        .report
        .row("storm", "99 % of the clients are back after", "s", late.as_secs_f64());
    row.target("≤ 60");
    let each = cpu.as_secs_f64() * 1_000.0 / clients as f64;
    context.report.row("storm", "server CPU per client", "ms", each);
    Ok(())
}
