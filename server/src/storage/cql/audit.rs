//! Whether the rows of a bucket agree with each other (D3): a conflict of the servers' own conditional writes, or a hand that
//! wrote past them, shows here.

use std::collections::{BTreeMap, BTreeSet};

use scylla::value::CqlValue;

use super::log_table::{Place, Strength, place_key};
use super::read::{ROWS_PER_REQUEST, decode};
use super::rows::{id_key, number, read_number, sender_key};
use super::{CqlError, Inner};
use crate::domain::{ConversationId, Entry, Seq};
use crate::storage::CONTRADICTIONS_MAX;

type WrittenRow = (i64, Option<Vec<u8>>, Option<Vec<u8>>);
type ClaimRow = (Vec<u8>, Option<i64>);
type NewestRow = (Vec<u8>, Option<Vec<u8>>);

/// What lies beside the entries of a bucket.
struct Beside {
    /// Append id of the head.
    token: Option<Vec<u8>>,
    /// Key of a sender's id, and the seq it leads to.
    claims: BTreeMap<Vec<u8>, Seq>,
    /// Key of a sender, and their newest id in the bucket.
    newest: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Inner {
    /// Every bucket up to the one of `up_to`, by itself and in its place.
    pub(super) async fn contradictions(
        &self,
        conversation: ConversationId,
        up_to: Seq,
    ) -> Result<Vec<String>, CqlError> {
        let newest = self.bucket_of(up_to);
        let mut found = Vec::new();
        for bucket in 0..=newest {
            let place = Place { conversation, bucket };
            let full = bucket < newest;
            // A quorum read may show a part of a batch (D6): only what a serial one says counts.
            if !self.look_over(place, full, Strength::Quorum).await?.is_empty() {
                found.extend(self.look_over(place, full, Strength::Serial).await?);
            }
            if found.len() >= CONTRADICTIONS_MAX {
                found.truncate(CONTRADICTIONS_MAX);
                break;
            }
        }
        Ok(found)
    }

    async fn look_over(&self, place: Place, full: bool, strength: Strength) -> Result<Vec<String>, CqlError> {
        let Some(head) = self.head_of(place, strength).await? else {
            return Ok(vec![format!("bucket {} has no head", place.bucket)]);
        };
        if full && head.seq != self.last_of(place.bucket) {
            let why = format!("bucket {} ends at {}, and there are later ones", place.bucket, head.seq);
            return Ok(vec![why]);
        }
        let mut look = Look::default();
        let mut next = Seq((place.bucket * self.bucket_seqs).max(1));
        while next <= head.seq {
            let rows = self.written(place, next, head.seq, strength).await?;
            if rows.is_empty() {
                break;
            }
            for (seq, wire, token) in rows {
                let seq = Seq(read_number(seq, "a seq")?);
                if seq != next {
                    look.found.push(format!("entry {next} is missing"));
                }
                match wire {
                    Some(wire) => look.take_in(&decode(place.conversation, seq, wire)?.entry, token),
                    None => look.found.push(format!("entry {seq} is empty")),
                }
                next = seq.next();
            }
        }
        // Read last: what was appended since has its place above the head.
        look.compare(&self.beside(place, strength).await?, head.seq);
        Ok(look.found)
    }

    async fn written(&self, place: Place, from: Seq, to: Seq, strength: Strength) -> Result<Vec<WrittenRow>, CqlError> {
        let mut values = place_key(place);
        let rows = i32::try_from(ROWS_PER_REQUEST).unwrap_or(i32::MAX);
        values.extend([number(from.0), number(to.0), CqlValue::Int(rows)]);
        let whole = self.log.whole(&self.client).await?;
        self.client.rows(whole.written.at(strength), values).await
    }

    async fn beside(&self, place: Place, strength: Strength) -> Result<Beside, CqlError> {
        let (key, whole) = (place_key(place), self.log.whole(&self.client).await?);
        let newest: Vec<NewestRow> = self.client.rows(whole.newest_ids.at(strength), key.clone()).await?;
        let token: Option<(Option<Vec<u8>>,)> = self.client.row(whole.tokens.at(strength), key.clone()).await?;
        let claimed: Vec<ClaimRow> = self.client.rows(whole.claimed.at(strength), key).await?;
        let mut claims = BTreeMap::new();
        for (key, at) in claimed {
            claims.insert(key, Seq(read_number(at.unwrap_or(0), "the place of an id")?));
        }
        Ok(Beside {
            token: token.and_then(|(token,)| token),
            claims,
            newest: newest
                .into_iter()
                .map(|(key, id)| (key, id.unwrap_or_default()))
                .collect(),
        })
    }
}

/// One look through a bucket.
#[derive(Default)]
struct Look {
    found: Vec<String>,
    /// By key of a sender's id: the entry.
    ids: BTreeMap<Vec<u8>, Seq>,
    /// By key of a sender: their newest id.
    newest: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Append ids of batches that ended.
    ended: BTreeSet<Vec<u8>>,
    /// That of the newest entry.
    token: Option<Vec<u8>>,
}

impl Look {
    fn take_in(&mut self, entry: &Entry, token: Option<Vec<u8>>) {
        if token.is_none() {
            self.found.push(format!("entry {} is of no batch", entry.seq));
        }
        if token != self.token {
            self.ended.extend(self.token.take());
            if token.as_ref().is_some_and(|token| self.ended.contains(token)) {
                let why = format!("the batch of entry {} has one of another batch in it", entry.seq);
                self.found.push(why);
            }
            self.token = token;
        }
        let key = id_key(&entry.sender, &entry.client_msg_id);
        if let Some(before) = self.ids.insert(key, entry.seq) {
            self.found
                .push(format!("entries {before} and {} have one id", entry.seq));
        }
        let id = entry.client_msg_id.as_str().as_bytes().to_vec();
        self.newest.insert(sender_key(&entry.sender), id);
    }

    fn compare(&mut self, beside: &Beside, head: Seq) {
        let moved_on = beside.claims.values().any(|at| *at > head);
        if beside.token != self.token && !moved_on {
            self.found
                .push(format!("the head at {head} is not of the newest entry's batch"));
        }
        for (key, seq) in &self.ids {
            if beside.claims.get(key) != Some(seq) {
                let at = beside
                    .claims
                    .get(key)
                    .map_or_else(|| "nowhere".to_owned(), ToString::to_string);
                self.found.push(format!("the id of entry {seq} leads to {at}"));
            }
        }
        let strange = |(key, at): &(&Vec<u8>, &Seq)| **at <= head && !self.ids.contains_key(*key);
        for (_, at) in beside.claims.iter().filter(strange) {
            self.found.push(format!("an id leads to entry {at}, which has another"));
        }
        for (sender, id) in self.newest.iter().filter(|_| !moved_on) {
            if beside.newest.get(sender) != Some(id) {
                let id = String::from_utf8_lossy(id);
                self.found
                    .push(format!("{id} is its sender's newest id in the bucket, and not noted"));
            }
        }
    }
}
