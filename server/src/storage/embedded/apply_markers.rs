//! How the writer applies raises of registers and inbox rows.

use stonechat_host::rule_holds;

use super::fault::Fault;
use super::group::Group;
use super::keys::{self, Space};
use super::rows;
use crate::domain::{ConversationId, DeviceId, MarkerSet, Seq, UserId};
use crate::storage::rules::raised_head;
use crate::storage::{ChangeStamp, FanoutRecord, InboxHead, InboxRow, MarkerRaise};

type Result<T> = std::result::Result<T, Fault>;

/// Merges registers into what is stored; writes nothing when nothing rises.
pub(super) fn raise(group: &mut Group<'_>, raises: &[MarkerRaise]) -> Result<()> {
    for raise in raises {
        let key = keys::marker(&raise.user, raise.conversation);
        let stored = group.get(Space::Users, &key)?;
        let before = stored.map_or_else(|| Ok(MarkerSet::default()), |bytes| rows::read_markers(&bytes))?;
        let after = if rule_holds("registers_only_rise") {
            before.merge(raise.markers)
        } else {
            raise.markers
        };
        if after != before {
            group.put(Space::Users, key, rows::markers(after));
        }
        if let Some((device, seq)) = &raise.device {
            let key = keys::position(&raise.user, device, raise.conversation);
            raise_number(group, key, seq.0)?;
        }
    }
    Ok(())
}

fn raise_number(group: &mut Group<'_>, key: Vec<u8>, number: u64) -> Result<()> {
    let stored = group.get(Space::Users, &key)?;
    let before = stored.map_or(Ok(0), |bytes| rows::read_number(&bytes))?;
    if number > before {
        group.put(Space::Users, key, rows::number(number));
    }
    Ok(())
}

pub(super) fn set_positions(
    group: &mut Group<'_>,
    user: &UserId,
    device: &DeviceId,
    positions: &[(ConversationId, Seq)],
) -> Result<()> {
    for (conversation, seq) in positions {
        let key = keys::position(user, device, *conversation);
        let stored = group.get(Space::Users, &key)?;
        let before = stored.map_or(Ok(0), |bytes| rows::read_number(&bytes))?;
        if seq.0 < before {
            group.remove(Space::Users, keys::synced(user, device));
        }
        group.put(Space::Users, key, rows::number(seq.0));
    }
    Ok(())
}

pub(super) fn forget_device(group: &mut Group<'_>, user: &UserId, device: &DeviceId) -> Result<()> {
    for (key, _) in group.scan(Space::Users, &keys::positions(user, device))? {
        group.remove(Space::Users, key);
    }
    group.remove(Space::Users, keys::synced(user, device));
    Ok(())
}

pub(super) fn raise_synced(group: &mut Group<'_>, user: &UserId, device: &DeviceId, change: ChangeStamp) -> Result<()> {
    raise_number(group, keys::synced(user, device), change.0)
}

/// Writes what fan-out leaves behind.
pub(super) fn record_fanout(group: &mut Group<'_>, conversation: ConversationId, record: &FanoutRecord) -> Result<()> {
    raise(group, &record.floors)?;
    for rows in &record.rows {
        raise_inbox(group, &rows.users, conversation, rows.head, false)?;
    }
    Ok(())
}

/// Raises or touches one row of each user; a row that changes moves to a new stamp.
pub(super) fn raise_inbox(
    group: &mut Group<'_>,
    users: &[UserId],
    conversation: ConversationId,
    head: InboxHead,
    touch: bool,
) -> Result<()> {
    for user in users {
        let key = keys::row(user, conversation);
        let stored = group.get(Space::Users, &key)?;
        let before = stored.map(|bytes| rows::read_row(conversation, &bytes)).transpose()?;
        let Some(head) = raised_head(before.map(|row| row.head), head, touch) else {
            continue;
        };
        let change = group.next_change();
        if let Some(before) = before {
            group.remove(Space::Users, keys::change(user, before.change));
        }
        group.put(Space::Users, keys::change(user, change), conversation.0);
        let row = InboxRow {
            conversation,
            head,
            change,
        };
        group.put(Space::Users, key, rows::row(&row));
    }
    Ok(())
}
