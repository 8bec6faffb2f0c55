//! Compares what was copied with what it was copied from.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::conversation::at_head;
use super::log::{BATCH_ENTRIES, BUCKET, prior_of};
use super::own::{Rows, settings};
use super::{Migrated, Refused, Result, Route, Verify};
use crate::domain::{ConversationId, Seq, UserId};
use crate::storage::{ChangeStamp, Head, MessageLog, PageLimit, Prior, StoredEntry, UserRecord};

/// Looks for duplicate rows at a time: each is a round trip to a remote log.
const FINDS_AT_ONCE: usize = 16;

/// Compares a conversation: record, head, entries with their duplicate rows, markers.
pub(super) async fn conversation(route: Route<'_>, id: ConversationId, verify: Verify) -> Result<Migrated> {
    let mut found = Migrated::default();
    let differs = |why: &str| Refused::new(format!("conversation {id}"), why);
    let (ours, theirs) = (
        route.source.directory.conversation(id).await?,
        route.target.directory.conversation(id).await?,
    );
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        found.differences.push(differs("it is not in both directories"));
        return Ok(found);
    };
    let (head, there) = (route.source.log.head(id).await?, route.target.log.head(id).await?);
    if head != there {
        found.differences.push(differs("the heads differ"));
        return Ok(found);
    }
    let Some(head) = head else {
        return Ok(found);
    };
    let ours = at_head(&*route.source.log, ours, head.seq).await?;
    let theirs = at_head(&*route.target.log, theirs, head.seq).await?;
    if ours != theirs {
        found.differences.push(differs("name, members or pins differ"));
    }
    for from in places(head, verify) {
        let to = Seq((from.0 + BATCH_ENTRIES as u64 - 1).min(head.seq.0));
        if let Some(why) = compare_entries(route, id, from, to, &mut found.compared).await? {
            found.differences.push(differs(&why));
            break;
        }
    }
    let users: Vec<UserId> = ours.roster.standings().map(|(user, _)| user.clone()).collect();
    let (ours, theirs) = (
        route.source.markers.of_users(id, &users).await?,
        route.target.markers.of_users(id, &users).await?,
    );
    if ours != theirs {
        found.differences.push(differs("markers differ"));
    }
    Ok(found)
}

/// Where runs of entries begin that are compared.
fn places(head: Head, verify: Verify) -> Vec<Seq> {
    let run = BATCH_ENTRIES as u64;
    let every = if verify == Verify::All { run } else { BUCKET };
    let step = usize::try_from(every).unwrap_or(usize::MAX);
    let mut places: BTreeSet<Seq> = (1..=head.seq.0).step_by(step).map(Seq).collect();
    if verify != Verify::All {
        places.insert(Seq(head.seq.0.saturating_sub(run - 1).max(1)));
    }
    places.into_iter().collect()
}

async fn compare_entries(
    route: Route<'_>,
    id: ConversationId,
    from: Seq,
    to: Seq,
    compared: &mut u64,
) -> Result<Option<String>> {
    let ours = read(&*route.source.log, id, from, to).await?;
    let theirs = read(&*route.target.log, id, from, to).await?;
    let mut both = ours.iter().zip(&theirs);
    if let Some((ours, _)) = both.find(|(ours, theirs)| ours.entry != theirs.entry) {
        return Ok(Some(format!("entry {} differs", ours.entry.seq)));
    }
    if ours.len() != theirs.len() {
        return Ok(Some(format!("entries from {from} are not all there")));
    }
    *compared += ours.len() as u64;
    let ours = priors(&*route.source.log, &ours).await?;
    let theirs = priors(&*route.target.log, &theirs).await?;
    let other = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
    Ok(other.map(|(ours, _)| format!("the duplicate row of entry {} differs", ours.seq)))
}

async fn read(log: &dyn MessageLog, id: ConversationId, from: Seq, to: Seq) -> Result<Vec<Arc<StoredEntry>>> {
    let limit = PageLimit {
        entries: BATCH_ENTRIES,
        bytes: usize::MAX,
    };
    Ok(log.read(id, from, to, limit).await?)
}

async fn priors(log: &dyn MessageLog, entries: &[Arc<StoredEntry>]) -> Result<Vec<Prior>> {
    let finding = stream::iter(entries.iter().map(|stored| prior_of(log, &stored.entry)));
    finding.buffered(FINDS_AT_ONCE).try_collect().await
}

/// Compares what belongs to one user: profile, blocks, rows, settings, positions. Times of devices are exact to a minute.
pub(super) async fn user(route: Route<'_>, user: &UserRecord, skipped: &BTreeSet<ConversationId>) -> Result<Migrated> {
    let (source, target) = (route.source, route.target);
    let mut found = Migrated::default();
    let mut differs = |what: &str| found.differences.push(Refused::new(format!("user {}", user.id), what));
    let id = &user.id;
    if target.directory.users(std::slice::from_ref(id)).await?.pop().as_ref() != Some(user) {
        differs("name, deactivation or revocation differs");
    }
    let there = target.directory.blocks(id).await?;
    if source
        .directory
        .blocks(id)
        .await?
        .iter()
        .any(|block| !there.contains(block))
    {
        differs("a block is missing");
    }
    let devices = source.directory.devices(id).await?;
    let there = target.directory.devices(id).await?;
    if devices
        .iter()
        .any(|device| there.iter().all(|other| other.id != device.id))
    {
        differs("a device is missing");
    }
    let mut rows = Rows {
        markers: &*source.markers,
        user: id,
        skipped,
        after: ChangeStamp::default(),
    };
    while let Some(page) = rows.next().await? {
        let ids: Vec<ConversationId> = page.iter().map(|row| row.conversation).collect();
        for row in &page {
            let there = target.markers.inbox_row(id, row.conversation).await?;
            if there.map(|there| there.head) != Some(row.head) {
                differs("an inbox row differs");
            }
        }
        if settings(&*source.directory, id, &ids).await? != settings(&*target.directory, id, &ids).await? {
            differs("settings differ");
        }
        for device in &devices {
            let ours = source.markers.device_positions(id, &device.id, &ids).await?;
            if target.markers.device_positions(id, &device.id, &ids).await? != ours {
                differs("positions of a device differ");
            }
        }
    }
    Ok(found)
}
