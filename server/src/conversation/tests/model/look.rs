//! What must hold in every state of the model, and how states are told apart.

use super::super::bed::{caller, id, user};
use super::table::Table;
use super::world::{Node, Phase, Said, World};
use crate::domain::{Entry, Roster, Seq};
use crate::storage::AppendBatch;

fn words(said: &[Said]) -> Vec<String> {
    let word = |said: &Said| match said {
        Said::Index(index) => format!("{index}"),
        Said::Answer(answer) => format!("{:?}", answer.as_ref().map_err(|no| no.effect)),
    };
    said.iter().map(word).collect()
}

impl World {
    /// What must hold in every state.
    pub(super) fn check(&self) -> Result<(), String> {
        let seqs = self.table.entries.keys().map(|seq| seq.0);
        if !seqs.eq(1..=self.table.head.seq.0) {
            return Err(format!("I3: a hole below {}", self.table.head.seq));
        }
        for (number, letter) in self.letters.iter().enumerate() {
            let (sender, msg_id, _) = self.scope.letters[number];
            let (sender, msg_id) = (caller(sender).sender(), id(msg_id));
            let entries = self.table.entries.values().map(|stored| &stored.entry);
            let places = entries.filter(|entry| entry.sender == sender && entry.client_msg_id == msg_id);
            let places: Vec<Seq> = places.map(|entry| entry.seq).collect();
            if places.len() > 1 {
                return Err(format!("I2: letter {number} lies at {places:?}"));
            }
            if letter.acked.is_some_and(|acked| !places.contains(&acked)) {
                return Err(format!(
                    "I1: letter {number} was acknowledged at {:?}, it lies at {places:?}",
                    letter.acked
                ));
            }
            if places.iter().any(|seq| *seq <= letter.above) {
                return Err(format!(
                    "I3: letter {number} at {places:?} was sent after {} was acknowledged",
                    letter.above
                ));
            }
            let is_denied = letter.tries > 0 && letter.denied == letter.tries;
            if is_denied && !places.is_empty() {
                return Err(format!(
                    "C9: every try of letter {number} was refused as not done, it lies at {places:?}"
                ));
            }
        }
        self.check_senders()
    }

    /// I4: each device's letters in their order; I7: nobody says anything behind their own removal.
    fn check_senders(&self) -> Result<(), String> {
        let mut roster = Roster::default();
        let mut newest: Vec<(&str, usize)> = Vec::new();
        for stored in self.table.entries.values() {
            let entry = &stored.entry;
            let letter = self
                .scope
                .letters
                .iter()
                .position(|(_, msg_id, _)| id(msg_id) == entry.client_msg_id);
            if let Some(letter) = letter {
                let sender = self.scope.letters[letter].0;
                if roster.role(&user(sender)).is_none() {
                    return Err(format!(
                        "I7: letter {letter} at {} is of nobody who is a member",
                        entry.seq
                    ));
                }
                if newest.iter().any(|(by, before)| *by == sender && *before >= letter) {
                    return Err(format!("I4: letter {letter} at {} lies behind a later one", entry.seq));
                }
                newest.push((sender, letter));
            }
            roster.apply(entry);
        }
        Ok(())
    }

    /// Two states with one key are the same.
    pub(super) fn key(&self) -> Vec<u8> {
        let entry = |entry: &Entry| entry.client_msg_id.as_str().to_owned();
        let batch = |batch: &AppendBatch| {
            let entries: Vec<String> = batch.entries.iter().map(|pending| entry(&pending.entry)).collect();
            (batch.expected.seq.0, batch.expected.epoch, entries)
        };
        let node = |node: &Node| {
            let phase = match &node.phase {
                Phase::Ready => "ready".to_owned(),
                Phase::Behind(said) => format!("behind {:?}", words(said)),
                Phase::Flying(flight) => format!("{:?} {:?}", batch(&flight.batch), words(&flight.said)),
            };
            let members: Vec<_> = node.state.roster.members().map(|(user, _)| user.to_string()).collect();
            let head = (node.state.head.seq.0, node.state.head.epoch);
            format!("{head:?}{members:?}{:?}{phase}", node.waiting)
        };
        let mut nodes: Vec<String> = self.nodes.iter().map(node).collect();
        // Nodes are alike: which is which makes no difference.
        nodes.sort_unstable();
        let entries: Vec<String> = self.table.entries.values().map(|stored| entry(&stored.entry)).collect();
        let air: Vec<_> = self.air.iter().map(batch).collect();
        format!(
            "{entries:?}{air:?}{nodes:?}{:?}{}{}",
            self.letters, self.unknowns, self.crashes
        )
        .into_bytes()
    }

    /// Everything that is in the log, and the batches on their way to it: what a real store must answer as the table does.
    pub(super) fn appends(&self) -> (Vec<AppendBatch>, &Table) {
        let flying = self.nodes.iter().filter_map(|node| match &node.phase {
            Phase::Flying(flight) => Some(flight.batch.clone()),
            _ => None,
        });
        (self.air.iter().cloned().chain(flying).collect(), &self.table)
    }
}
