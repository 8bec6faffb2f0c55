//! A store that lasts as long as the process.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{ClientStore, Record, StoreError, Stored};

/// Remembers in memory. Keep the `Arc` to give the next client what this one knew.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Stored>);

#[async_trait]
impl ClientStore for MemoryStore {
    async fn load(&self) -> Result<Stored, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            stored.apply(record.clone());
        }
        Ok(())
    }
}
