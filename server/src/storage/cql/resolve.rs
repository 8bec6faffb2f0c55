//! What became of a conditional batch: applied, refused, or unknown, and then found out (D1, D2).

use std::time::Duration;

use tracing::{debug, warn};

use super::log_table::{ENTRY, Place, Strength, Write, row_key};
use super::{CqlError, Inner};
use crate::storage::{AppendBatch, AppendError};

/// How often an unknown outcome is looked into: with the pauses some two seconds, and what is unknown then stays so
/// until whoever asked tries again.
const LOOKS_MAX: u32 = 5;
/// The first pause; it doubles. Rivals of a contended partition need some milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What a look at the log says about a batch.
enum Found {
    /// Its entries are there.
    Ours,
    /// Its first seq holds another batch's entry.
    Others,
    /// Its first seq holds nothing: it may still come.
    Nothing,
}

impl Inner {
    /// Sends the batch, and does not return before its outcome is known or may not be known for long.
    pub(super) async fn settle_append(
        &self,
        batch: &AppendBatch,
        place: Place,
        writes: &[Write],
        append_id: [u8; 16],
    ) -> Result<(), AppendError> {
        let mut doubt = match self.log.decide(&self.client, place, writes).await {
            Ok(true) => return Ok(()),
            // Somebody on the way may have sent it twice: the second time it is refused by its own first (D2).
            Ok(false) => return self.refused(batch, place, append_id).await,
            Err(error) if error.is_refusal() => return Err(AppendError::NotDone(error.to_string())),
            Err(error) => error,
        };
        let mut pause = FIRST_PAUSE;
        for look in 0..LOOKS_MAX {
            debug!(conversation = %batch.conversation, look, %doubt, "outcome of an append is unknown");
            match self.look(batch, place, append_id).await {
                Ok(Found::Ours) => return Ok(()),
                Ok(Found::Others) => return Err(AppendError::Conflict),
                // A serial read need not end what only a minority has accepted. The same batch at the same head does: it
                // is applied now, or refused by itself.
                Ok(Found::Nothing) => match self.log.decide(&self.client, place, writes).await {
                    Ok(true) => return Ok(()),
                    // What refuses it stands for ever: the head never comes back, nor is an id let go. So the first
                    // sending will not be applied any more either, if it was not before.
                    Ok(false) => return self.refused(batch, place, append_id).await,
                    Err(error) => doubt = error,
                },
                Err(error) => doubt = error,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        warn!(conversation = %batch.conversation, %doubt, "outcome of an append stays unknown");
        Err(AppendError::Unknown(doubt.to_string()))
    }

    /// A batch that was refused: by others as a rule, by its own first sending at times.
    async fn refused(&self, batch: &AppendBatch, place: Place, append_id: [u8; 16]) -> Result<(), AppendError> {
        match self.look(batch, place, append_id).await {
            Ok(Found::Ours) => Ok(()),
            Ok(Found::Others | Found::Nothing) => Err(AppendError::Conflict),
            Err(CqlError::Damaged(why)) => Err(AppendError::Corrupt(why)),
            Err(error) => Err(AppendError::Unknown(error.to_string())),
        }
    }

    async fn look(&self, batch: &AppendBatch, place: Place, append_id: [u8; 16]) -> Result<Found, CqlError> {
        let first = batch.expected.seq.next();
        let statement = self.log.writers.at(Strength::Serial);
        let key = row_key(place, ENTRY, first, &[]);
        let writer: Option<(Option<Vec<u8>>,)> = self.client.row(statement, key).await?;
        Ok(match writer {
            Some((Some(writer),)) if writer == append_id => Found::Ours,
            Some(_) => Found::Others,
            None => Found::Nothing,
        })
    }
}
