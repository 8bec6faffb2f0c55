//! One conversation: that it exists, its log, what the directory says of it, its members' markers.

use futures_util::StreamExt;

use super::log::{self, Copied};
use super::{Migrated, Refused, Result, Route};
use crate::domain::{ConversationId, MarkerSet, Seq, UserId};
use crate::storage::walk::entries;
use crate::storage::{ConversationRecord, DirectoryError, MarkerRaise, MessageLog, Projection};

/// Marker sets of one read and one write.
const MARKERS_PAGE: usize = 500;

/// Copies what the target lacks. A refusal is in the report, and then it is the only thing there.
pub(super) async fn copy(route: Route<'_>, id: ConversationId) -> Result<Migrated> {
    let refused = |why: String| Migrated {
        refused: vec![Refused::new(format!("conversation {id}"), why)],
        ..Migrated::default()
    };
    let Some(record) = route.source.directory.conversation(id).await? else {
        return Ok(refused("it went away meanwhile".to_owned()));
    };
    let head = route.source.log.head(id).await?;
    if let Some(head) = head.filter(|head| head.floor > Seq(1)) {
        let why = format!("its log begins at seq {}: only whole logs can be moved", head.floor);
        return Ok(refused(why));
    }
    if let Some(why) = create(route, &record).await? {
        return Ok(refused(why));
    }
    let mut done = Migrated {
        conversations: 1,
        ..Migrated::default()
    };
    // A crash came between the decision to create it and its first entry: whoever opens it first appends that.
    let Some(head) = head else {
        return Ok(done);
    };
    match log::copy(route, id, head).await? {
        Copied::Refused(why) => return Ok(refused(why)),
        Copied::Whole { known, new } => (done.known, done.entries) = (known, new),
    }
    let record = at_head(&*route.source.log, record, head.seq).await?;
    project(route, &record).await?;
    done.markers = copy_markers(route, &record).await?;
    // Rows and floors come from the source: nobody need hear of it again.
    route.target.log.fanout_done(id, head.seq).await;
    Ok(done)
}

/// Sees to it that the target has this conversation; says why it has another one.
async fn create(route: Route<'_>, record: &ConversationRecord) -> Result<Option<String>> {
    let first = &record.first;
    let directory = &route.target.directory;
    let there = match directory.conversation(first.id).await? {
        Some(there) => there,
        None => match directory.create_conversation(first.clone()).await {
            Ok(there) => there,
            Err(DirectoryError::IdReused) => {
                return Ok(Some("the target holds another one of the same request".to_owned()));
            }
            Err(error) => return Err(error.into()),
        },
    };
    Ok((there.first != *first).then(|| {
        if there.first.id == first.id {
            "the target holds another history: it was created otherwise".to_owned()
        } else {
            format!("the target holds {} in its place", there.first.id)
        }
    }))
}

/// The record as of the log's head: it may lag behind by entries that change little.
pub(super) async fn at_head(
    log: &dyn MessageLog,
    mut record: ConversationRecord,
    head: Seq,
) -> Result<ConversationRecord> {
    let mut missing = entries(log, record.first.id, record.applied.next(), head);
    while let Some(stored) = missing.next().await {
        record.take_in(&stored?.entry);
    }
    Ok(record)
}

/// Brings the target's record to where the source's is.
async fn project(route: Route<'_>, record: &ConversationRecord) -> Result<()> {
    let id = record.first.id;
    let there = route.target.directory.conversation(id).await?;
    let there = there.ok_or_else(|| DirectoryError::Unavailable(format!("it lost conversation {id}")))?;
    if there.applied >= record.applied {
        return Ok(());
    }
    // All are taken down first: one that is there keeps its place, and the order may be another one now.
    let down = there.pins.iter().map(|pin| (*pin, false));
    let up = record.pins.iter().map(|pin| (*pin, true));
    let standings = record.roster.standings();
    let projection = Projection {
        applied: record.applied,
        standings: standings
            .map(|(user, standing)| (user.clone(), standing.clone()))
            .collect(),
        name: Some(record.name.clone()),
        pins: down.chain(up).collect(),
    };
    Ok(route.target.directory.apply(id, projection).await?)
}

/// Raises the markers of everybody who is or was a member; returns how many sets were raised.
async fn copy_markers(route: Route<'_>, record: &ConversationRecord) -> Result<u64> {
    let id = record.first.id;
    let users: Vec<UserId> = record.roster.standings().map(|(user, _)| user.clone()).collect();
    let mut raised = 0;
    for users in users.chunks(MARKERS_PAGE) {
        let ours = route.source.markers.of_users(id, users).await?;
        let theirs = route.target.markers.of_users(id, users).await?;
        let lacking = |(ours, theirs): &(MarkerSet, MarkerSet)| theirs.merge(*ours) != *theirs;
        let both = users.iter().zip(ours.into_iter().zip(theirs));
        let raises: Vec<MarkerRaise> = both
            .filter(|(_, both)| lacking(both))
            .map(|(user, (markers, _))| MarkerRaise {
                user: user.clone(),
                conversation: id,
                markers,
                device: None,
            })
            .collect();
        raised += raises.len() as u64;
        if !raises.is_empty() {
            route.target.markers.raise(raises).await?;
        }
    }
    Ok(raised)
}
