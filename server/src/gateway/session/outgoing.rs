//! The outgoing queue of one stream: bounded by frames and bytes, emptied by the HTTP/2 side.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;

use crate::gateway::limits::{QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX};

/// The queue itself, without waiting: what it holds and whether more may come in.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Whether a frame that nobody waits for may be added.
    pub(crate) fn has_room(&self) -> bool {
        !self.closed && self.frames.len() < QUEUE_FRAMES_MAX && self.bytes < QUEUE_BYTES_MAX
    }

    /// Whether the least important frames (typing, presence) must give way.
    pub(crate) fn is_half_full(&self) -> bool {
        self.closed || self.frames.len() >= QUEUE_FRAMES_MAX / 2 || self.bytes >= QUEUE_BYTES_MAX / 2
    }

    /// Adds a frame. Answers are added beyond the bounds too: their number was bounded when the requests were read.
    pub(crate) fn push(&mut self, frame: Bytes) {
        if !self.closed {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// The oldest frame.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        if self.frames.is_empty() {
            // An idle stream must not keep the buffer of its busiest moment.
            self.frames.shrink_to_fit();
        }
        Some(frame)
    }

    /// Nothing comes after `last`.
    pub(crate) fn close(&mut self, last: Option<Bytes>) {
        if let Some(frame) = last {
            self.push(frame);
        }
        self.closed = true;
    }

    /// Forgets what is queued.
    pub(crate) fn clear(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
    }

    /// How many frames and bytes it holds.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.frames.len(), self.bytes)
    }
}

struct Shared {
    state: Mutex<State>,
    reader: AtomicWaker,
    /// Told when a frame left, or when the reader went away.
    moved: Notify,
}

struct State {
    queue: Queue,
    reader_gone: bool,
    last_pop: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session's end of the queue.
pub(crate) struct Outgoing(Arc<Shared>);

/// The HTTP/2 side's end of the queue; ends after the last frame.
pub(crate) struct OutgoingStream(Arc<Shared>);

/// A queue and its two ends.
pub(crate) fn outgoing() -> (Outgoing, OutgoingStream) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            queue: Queue::default(),
            reader_gone: false,
            last_pop: stonechat_host::monotonic(),
        }),
        reader: AtomicWaker::new(),
        moved: Notify::new(),
    });
    (Outgoing(Arc::clone(&shared)), OutgoingStream(shared))
}

impl Outgoing {
    /// See [`Queue::push`].
    pub(crate) fn push(&self, frame: Bytes) {
        self.0.lock().queue.push(frame);
        self.0.reader.wake();
    }

    /// See [`Queue::has_room`].
    pub(crate) fn has_room(&self) -> bool {
        self.0.lock().queue.has_room()
    }

    /// See [`Queue::is_half_full`].
    pub(crate) fn is_half_full(&self) -> bool {
        self.0.lock().queue.is_half_full()
    }

    /// Since when a full queue has not moved; `None` while it has room.
    pub(crate) fn stuck_since(&self) -> Option<Instant> {
        let state = self.0.lock();
        (!state.queue.has_room()).then_some(state.last_pop)
    }

    /// Whether nobody reads any more: the client hung up.
    pub(crate) fn reader_gone(&self) -> bool {
        self.0.lock().reader_gone
    }

    /// Waits until a frame left or the reader went away. May return early.
    pub(crate) async fn moved(&self) {
        self.0.moved.notified().await;
    }

    /// Adds the last frame.
    pub(crate) fn close(&self, last: Option<Bytes>) {
        self.0.lock().queue.close(last);
        self.0.reader.wake();
    }

    /// Waits until everything was handed over, or the reader went away.
    pub(crate) async fn drained(&self) {
        loop {
            {
                let state = self.0.lock();
                if state.reader_gone || state.queue.frames.is_empty() {
                    return;
                }
            }
            self.moved().await;
        }
    }
}

impl Drop for Outgoing {
    /// A session that ended without its last frame (a panic) still ends the stream.
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if !state.queue.closed {
            state.queue.close(None);
        }
        drop(state);
        self.0.reader.wake();
    }
}

impl Outgoing {
    /// Forgets what a reader that does not read was owed, so that it costs nothing more.
    pub(crate) fn forget(&self) {
        self.0.lock().queue.clear();
        self.0.reader.wake();
    }
}

impl Stream for OutgoingStream {
    type Item = Result<Bytes, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.reader.register(context.waker());
        let mut state = self.0.lock();
        let Some(frame) = state.queue.pop() else {
            return if state.queue.closed {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        state.last_pop = stonechat_host::monotonic();
        drop(state);
        self.0.moved.notify_one();
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for OutgoingStream {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.reader_gone = true;
        state.queue.clear();
        drop(state);
        self.0.moved.notify_one();
    }
}
