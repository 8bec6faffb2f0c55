//! Values of the embedded store: fixed-width numbers, big-endian. An entry's value is its wire form.

use super::fault::Fault;
use crate::domain::{ConversationId, Counted, Epoch, MarkerSet, Ordinal, Seq, UnixMillis};
use crate::storage::{ChangeStamp, Head, InboxHead, InboxRow, PayloadHash, Prior};

/// The state of the whole store that goes with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Commit {
    /// Number of the commit: 1, 2, 3 …
    pub(super) number: u64,
    /// Newest commit known to be durable when this one was written.
    pub(super) durable: u64,
    /// No change stamp above this was given out before this commit.
    pub(super) change_ceiling: u64,
}

fn pack<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(N * 8);
    for number in numbers {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes
}

fn unpack<const N: usize>(bytes: &[u8], what: &'static str) -> Result<[u64; N], Fault> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    if chunks.len() != N || !rest.is_empty() {
        return Err(Fault::damaged(format!("{what} has {} bytes", bytes.len())));
    }
    let mut numbers = [0; N];
    for (number, chunk) in numbers.iter_mut().zip(chunks) {
        *number = u64::from_be_bytes(*chunk);
    }
    Ok(numbers)
}

/// Times keep their bits; they are never compared as stored.
fn time_bits(time: UnixMillis) -> u64 {
    time.0.cast_unsigned()
}

fn time_of(bits: u64) -> UnixMillis {
    UnixMillis(bits.cast_signed())
}

pub(super) fn commit(commit: Commit) -> Vec<u8> {
    pack([commit.number, commit.durable, commit.change_ceiling])
}

pub(super) fn read_commit(bytes: &[u8]) -> Result<Commit, Fault> {
    let [number, durable, change_ceiling] = unpack(bytes, "the commit record")?;
    Ok(Commit {
        number,
        durable,
        change_ceiling,
    })
}

pub(super) fn head(head: Head) -> Vec<u8> {
    pack([
        head.seq.0,
        head.ordinal.0,
        head.epoch.0,
        time_bits(head.time),
        head.floor.0,
    ])
}

pub(super) fn read_head(bytes: &[u8]) -> Result<Head, Fault> {
    let [seq, ordinal, epoch, time, floor] = unpack(bytes, "a head")?;
    Ok(Head {
        seq: Seq(seq),
        ordinal: Ordinal(ordinal),
        epoch: Epoch(epoch),
        time: time_of(time),
        floor: Seq(floor),
    })
}

pub(super) fn prior(prior: &Prior) -> Vec<u8> {
    let mut bytes = pack([prior.seq.0]);
    bytes.extend_from_slice(&prior.payload);
    bytes
}

pub(super) fn read_prior(bytes: &[u8]) -> Result<Prior, Fault> {
    let damaged = || Fault::damaged(format!("a duplicate row has {} bytes", bytes.len()));
    let (seq, payload) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    Ok(Prior {
        seq: Seq(u64::from_be_bytes(*seq)),
        payload: PayloadHash::try_from(payload).map_err(|_| damaged())?,
    })
}

pub(super) fn number(number: u64) -> Vec<u8> {
    pack([number])
}

pub(super) fn read_number(bytes: &[u8]) -> Result<u64, Fault> {
    let [number] = unpack(bytes, "a number")?;
    Ok(number)
}

pub(super) fn markers(set: MarkerSet) -> Vec<u8> {
    pack([
        set.delivered.0,
        set.read.seq.0,
        set.read.ordinal.0,
        set.read_public.0,
        set.unread_floor.seq.0,
        set.unread_floor.ordinal.0,
    ])
}

pub(super) fn read_markers(bytes: &[u8]) -> Result<MarkerSet, Fault> {
    let [delivered, read, read_ordinal, public, floor, floor_ordinal] = unpack(bytes, "a marker row")?;
    let counted = |seq, ordinal| Counted {
        seq: Seq(seq),
        ordinal: Ordinal(ordinal),
    };
    Ok(MarkerSet {
        delivered: Seq(delivered),
        read: counted(read, read_ordinal),
        read_public: Seq(public),
        unread_floor: counted(floor, floor_ordinal),
    })
}

pub(super) fn row(row: &InboxRow) -> Vec<u8> {
    pack([
        row.head.seq.0,
        row.head.ordinal.0,
        time_bits(row.head.time),
        row.change.0,
    ])
}

pub(super) fn read_row(conversation: ConversationId, bytes: &[u8]) -> Result<InboxRow, Fault> {
    let [seq, ordinal, time, change] = unpack(bytes, "an inbox row")?;
    Ok(InboxRow {
        conversation,
        head: InboxHead {
            seq: Seq(seq),
            ordinal: Ordinal(ordinal),
            time: time_of(time),
        },
        change: ChangeStamp(change),
    })
}

pub(super) fn read_conversation(bytes: &[u8]) -> Result<ConversationId, Fault> {
    let id = bytes.try_into().map(ConversationId);
    id.map_err(|_| Fault::damaged(format!("a conversation id has {} bytes", bytes.len())))
}
