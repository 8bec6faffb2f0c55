//! A thousand readers that do not read: memory stays where it was once their windows are full.

use std::time::Duration;

use super::idle::mib;
use super::{Context, open_all};
use crate::Outcome;
use crate::link::Way;
use crate::population::Population;
use crate::process::Kind;
use crate::report::{Plot, Series};
use crate::traffic::{Pace, Span, drive};

/// Groups, each with one who talks and reads.
const GROUPS: usize = 2;
/// Between two messages of a group.
const EVERY: Duration = Duration::from_millis(50);
/// Looks at the memory over the run.
const LOOKS: u32 = 60;

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let server = context.server(Kind::Stonechat, &[]).await?;
    let population = Population::of(&server)?;
    let members = context.size(500, 20);
    let mut devices = Vec::new();
    for group in 0..GROUPS {
        let people = population.group(&format!("slow{group}-"), members).await?;
        for (at, device) in open_all(&server, &people, Way::Native).await?.into_iter().enumerate() {
            let pace = if at == 0 {
                Pace::Every {
                    first: EVERY,
                    every: EVERY,
                }
            } else {
                Pace::Stalls
            };
            devices.push((device, pace));
        }
    }
    let whole = Duration::from_secs(context.size(context.slow_seconds, 3));
    let span = Span {
        warm_up: Duration::ZERO,
        measure: whole,
    };
    let mut curve = Vec::new();
    let look = async {
        for at in 1..=LOOKS {
            tokio::time::sleep(whole / LOOKS).await;
            let usage = server.usage()?;
            curve.push(((whole / LOOKS * at).as_secs_f64(), mib(usage.rss)));
        }
        Ok::<_, crate::Failure>(())
    };
    let (driven, looked) = tokio::join!(drive(&server, devices, span, 0), look);
    driven?;
    looked?;
    let at = |part: usize| curve.get(curve.len() * part / 6).map_or(0.0, |point| point.1);
    let row = context.report.row(
        "slow",
        "memory in the end beside after a sixth",
        "MiB",
        curve.last().map_or(0.0, |point| point.1),
    );
    row.beside(at(1)).target("flat");
    let series = vec![Series {
        name: "stonechat".to_owned(),
        points: curve,
    }];
    let title = "slow: resident memory beside stalled readers".to_owned();
    context.report.plots.push(Plot {
        title,
        x: "seconds",
        y: "MiB",
        series,
    });
    Ok(())
}
