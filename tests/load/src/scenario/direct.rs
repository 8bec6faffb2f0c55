//! Pairs that talk 1:1: CPU per message at a fixed rate, messages a second at saturation, latency at 80 % of that.

use std::time::Duration;

use super::{Context, open_all};
use crate::Outcome;
use crate::link::Way;
use crate::population::Population;
use crate::process::{Kind, Server};
use crate::traffic::{Device, Measured, Pace, drive};

/// Messages a second of the fixed rate.
const STEADY_PER_SECOND: u32 = 1_000;
/// Unanswered messages of each sender at saturation.
const UNANSWERED: usize = 8;

/// Whether a message comes back to the stream that sent it, as a delivery to acknowledge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    /// No: its answer stands for the delivery.
    No,
    /// Yes, as to every other device.
    Yes,
}

pub(super) async fn native(context: &mut Context) -> Outcome<()> {
    let bare = run(context, Kind::Bare, Way::Native, Echo::No).await?;
    let own = run(context, Kind::Stonechat, Way::Native, Echo::No).await?;
    let echoed = run(context, Kind::Stonechat, Way::Native, Echo::Yes).await?;
    let report = &mut context.report;
    for (what, own, bare) in [
        ("server CPU per message", &own.steady, &bare.steady),
        ("server CPU per message, saturated", &own.full, &bare.full),
        ("server CPU per message, each at 80 %", &own.most, &bare.most),
    ] {
        let row = report.row("direct", what, "ms", own.cpu_ms_per_message());
        row.beside(bare.cpu_ms_per_message()).target("≤ 0.1, then 0.05");
    }
    let what = "the same, each also delivered to its sender's stream";
    let row = report.row("direct", what, "ms", echoed.full.cpu_ms_per_message());
    row.beside(bare.full.cpu_ms_per_message());
    report
        .row("direct", "messages acknowledged", "1/s", own.rate())
        .beside(bare.rate());
    report.latency("direct", "ack at 80 %", &own.most.counted.ack, None);
    let delivery = &own.most.counted.delivery;
    report.latency("direct", "delivery at 80 %", delivery, Some("< 50, then 20"));
    let counts = |name: &str, measured: &Measured| (name.to_owned(), measured.counted.per_second.clone());
    let series = vec![counts("stonechat", &own.full), counts("bare", &bare.full)];
    report.over_time("direct: throughput at saturation".to_owned(), "deliveries/s", series);
    Ok(())
}

pub(super) async fn web(context: &mut Context) -> Outcome<()> {
    let native = run(context, Kind::Stonechat, Way::Native, Echo::Yes).await?;
    let web = run(context, Kind::Stonechat, Way::Web, Echo::Yes).await?;
    let what = "server CPU per 1:1 message, beside native";
    let row = context.report.row("web", what, "ms", web.steady.cpu_ms_per_message());
    row.beside(native.steady.cpu_ms_per_message())
        .target("≤ 1.5 × native, then 1.2");
    let delivery = |runs: &Runs| runs.steady.counted.delivery.clone();
    let latencies = [("web", &delivery(&web)), ("native", &delivery(&native))];
    let title = format!("web: 1:1 delivery at {STEADY_PER_SECOND}/s, distribution");
    context.report.distribution(title, &latencies);
    Ok(())
}

struct Runs {
    steady: Measured,
    full: Measured,
    most: Measured,
}

impl Runs {
    fn rate(&self) -> f64 {
        self.full.answered as f64 / self.full.seconds
    }
}

async fn run(context: &Context, kind: Kind, way: Way, echo: Echo) -> Outcome<Runs> {
    let server = context
        .server(kind, &["--conversation-entries-per-second", "100000"])
        .await?;
    let people = Population::of(&server)?.pairs("direct", context.size(100, 5)).await?;
    let mut people: Vec<_> = people.into_iter().flatten().collect();
    for person in &mut people {
        person.hello.answers_are_deliveries = kind == Kind::Stonechat && echo == Echo::No;
    }
    let devices = open_all(&server, &people, way).await?;
    let (steady, devices) = talk(context, &server, devices, Talk::Rate(STEADY_PER_SECOND)).await?;
    let (full, devices) = talk(context, &server, devices, Talk::Full).await?;
    let most = full.answered as f64 / full.seconds * 0.8;
    let (most, _devices) = talk(context, &server, devices, Talk::Rate((most as u32).max(1))).await?;
    Ok(Runs { steady, full, most })
}

/// How much the senders of all pairs say.
#[derive(Clone, Copy)]
pub(super) enum Talk {
    /// Messages a second, together.
    Rate(u32),
    /// As much as goes.
    Full,
}

/// Lets pairs talk, one of each to the other.
pub(super) async fn talk(
    context: &Context,
    server: &Server,
    devices: Vec<Device>,
    talk: Talk,
) -> Outcome<(Measured, Vec<Device>)> {
    let senders = u32::try_from(devices.len() / 2)?;
    let pace = |at: usize| match talk {
        _ if at % 2 == 1 => Pace::Listens,
        Talk::Full => Pace::Unanswered(UNANSWERED),
        Talk::Rate(rate) => every(rate, senders, u32::try_from(at / 2).unwrap_or(0)),
    };
    let devices = devices
        .into_iter()
        .enumerate()
        .map(|(at, device)| (device, pace(at)))
        .collect();
    drive(server, devices, context.span(2, 10), 1).await
}

/// The pace of one of so many senders that make up a rate together, each at its own phase.
pub(super) fn every(rate: u32, senders: u32, number: u32) -> Pace {
    let apart = Duration::from_secs(1) / rate;
    Pace::Every {
        first: apart * number,
        every: apart * senders,
    }
}
