//! One entry to 500 streams, against bare tonic pushing prepared bytes to as many.

use super::{Context, open_all};
use crate::Outcome;
use crate::link::Way;
use crate::population::Population;
use crate::process::Kind;
use crate::traffic::{Measured, Pace, drive};

/// Deliveries that a member acknowledges with one ack.
const ACK_EVERY: u64 = 16;
/// Messages that may be on their way to members at a time: enough that no part ever waits for another.
const MESSAGES_UNDER_WAY: u64 = 16;

pub(super) async fn native(context: &mut Context) -> Outcome<()> {
    let bare = run(context, Kind::Bare, Way::Native).await?;
    let own = run(context, Kind::Stonechat, Way::Native).await?;
    let row = context.report.row("group500", "deliveries", "1/s", rate(&own));
    row.beside(rate(&bare)).target("≥ 0.6 × bare, then 0.8");
    let row = context
        .report
        .row("group500", "server CPU per delivery", "µs", own.cpu_us_per_delivery());
    row.beside(bare.cpu_us_per_delivery());
    context
        .report
        .latency("group500", "delivery", &own.counted.delivery, None);
    let series = vec![
        ("stonechat".to_owned(), own.counted.per_second),
        ("bare".to_owned(), bare.counted.per_second),
    ];
    context
        .report
        .over_time("group500: throughput".to_owned(), "deliveries/s", series);
    Ok(())
}

pub(super) async fn web(context: &mut Context) -> Outcome<()> {
    let native = run(context, Kind::Stonechat, Way::Native).await?;
    let web = run(context, Kind::Stonechat, Way::Web).await?;
    let row = context.report.row(
        "web",
        "server CPU per group delivery beside native",
        "µs",
        web.cpu_us_per_delivery(),
    );
    row.beside(native.cpu_us_per_delivery())
        .target("≤ 1.5 × native, then 1.2");
    Ok(())
}

fn rate(measured: &Measured) -> f64 {
    measured.delivered as f64 / measured.seconds
}

async fn run(context: &Context, kind: Kind, way: Way) -> Outcome<Measured> {
    let server = context
        .server(kind, &["--conversation-entries-per-second", "100000"])
        .await?;
    let members = context.size(500, 20);
    let people = Population::of(&server)?.group("member", members).await?;
    let devices = open_all(&server, &people, way).await?;
    // The bare server sends to the sender, too; what the real one tells its sender is not counted.
    let recipients = u64::try_from(if kind == Kind::Bare { members } else { members - 1 })?;
    let pace = |at| match at {
        0 => Pace::Undelivered {
            messages: MESSAGES_UNDER_WAY,
            recipients,
        },
        _ => Pace::Listens,
    };
    let devices = devices.into_iter().enumerate();
    let devices = devices
        .map(|(at, device)| (device.acking_every(ACK_EVERY), pace(at)))
        .collect();
    let (measured, _devices) = drive(&server, devices, context.span(3, 10), recipients).await?;
    if measured.delivered == 0 {
        return Err(format!("nothing was delivered: {:?}", measured.counted.refused).into());
    }
    Ok(measured)
}
