//! One group at five times its limit (F18): what the other conversations feel of it.

use super::direct::{Talk, every, talk};
use super::{Context, open_all};
use crate::Outcome;
use crate::link::Way;
use crate::population::Population;
use crate::process::Kind;
use crate::traffic::{Measured, drive};

/// Entries a second that a conversation may take.
const LIMIT: &str = "200";
/// Messages a second that the hot group's members send.
const HOT_PER_SECOND: u32 = 1_000;
/// Messages a second of all other conversations.
const OTHERS_PER_SECOND: u32 = 500;
/// Members of the hot group.
const HOT_MEMBERS: usize = 10;

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let server = context
        .server(Kind::Stonechat, &["--conversation-entries-per-second", LIMIT])
        .await?;
    let population = Population::of(&server)?;
    let pairs: Vec<_> = population
        .pairs("calm", context.size(50, 5))
        .await?
        .into_iter()
        .flatten()
        .collect();
    let hot = population.group("hot", HOT_MEMBERS).await?;
    let calm = open_all(&server, &pairs, Way::Native).await?;
    let (alone, calm) = talk(context, &server, calm, Talk::Rate(OTHERS_PER_SECOND)).await?;
    let members = open_all(&server, &hot, Way::Native).await?;
    let senders = u32::try_from(members.len())?;
    let pace = |at: usize| every(HOT_PER_SECOND, senders, u32::try_from(at).unwrap_or(0));
    let members = members
        .into_iter()
        .enumerate()
        .map(|(at, device)| (device, pace(at)))
        .collect();
    let recipients = u64::try_from(HOT_MEMBERS - 1)?;
    let heating = drive(&server, members, context.span(2, 10), recipients);
    let (beside, heated) = tokio::join!(talk(context, &server, calm, Talk::Rate(OTHERS_PER_SECOND)), heating);
    let (beside, (heated, _members)) = (beside?.0, heated?);
    let p99 = |of: &Measured| of.counted.delivery.value_at_quantile(0.99) as f64 / 1_000.0;
    let what = "delivery p99 of the others, beside without the hot one";
    let row = context.report.row("hot", what, "ms", p99(&beside));
    row.beside(p99(&alone)).target("≤ 1.2 ×, then 1.05");
    let latencies = [("alone", &alone.counted.delivery), ("beside", &beside.counted.delivery)];
    let title = "hot: delivery in the other conversations, distribution".to_owned();
    context.report.distribution(title, &latencies);
    let refused: u64 = heated.counted.refused.values().sum();
    context
        .report
        .row("hot", "refused of the hot one", "1/s", refused as f64 / heated.seconds);
    Ok(())
}
