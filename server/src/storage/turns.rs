//! Turns that nodes take at what only one of them may do at a time.

use std::any::Any;

use async_trait::async_trait;

use super::DirectoryError;

/// Who gives the turns; all nodes that share a store must ask the same.
#[async_trait]
pub trait Turns: Send + Sync {
    /// Waits for this node's turn at `what`. It ends when it is dropped, and when this node dies.
    ///
    /// # Errors
    /// Nobody gives turns now, or others did not finish in time; nothing was done.
    async fn take(&self, what: &str) -> Result<Turn, DirectoryError>;
}

/// A turn, until it is dropped.
pub struct Turn {
    _held: Box<dyn Any + Send>,
}

impl Turn {
    /// A turn that ends when `held` is dropped.
    #[must_use]
    pub fn new(held: impl Any + Send) -> Self {
        Self { _held: Box::new(held) }
    }
}
