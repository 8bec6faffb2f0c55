//! The outgoing queue of one stream: bounded by frames and bytes, emptied by the HTTP/2 side.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::task::AtomicWaker;
use stonechat_host::rule_holds;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;

use super::close;
use crate::gateway::edge::StreamTask;
use crate::gateway::frames::Frame;
use crate::gateway::limits::{QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX};
use crate::telemetry::meters::meters;

/// The queue itself, without waiting: what it holds and whether more may come in.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Whether a frame that nobody waits for may be added.
    pub(crate) fn has_room(&self) -> bool {
        !self.closed && (!self.is_full() || !rule_holds("queue_is_bounded"))
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= QUEUE_FRAMES_MAX || self.bytes >= QUEUE_BYTES_MAX
    }

    /// Whether the least important frames (typing, presence) must give way.
    pub(crate) fn is_half_full(&self) -> bool {
        self.closed || self.frames.len() >= QUEUE_FRAMES_MAX / 2 || self.bytes >= QUEUE_BYTES_MAX / 2
    }

    /// Adds a frame. Answers are added beyond the bounds too: their number was bounded when the requests were read.
    pub(crate) fn push(&mut self, frame: Frame) {
        if !self.closed {
            self.bytes += frame.len();
            waiting(1, frame.len().cast_signed());
            self.frames.push_back(frame);
        }
    }

    /// The oldest frame.
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        waiting(-1, -frame.len().cast_signed());
        if self.frames.is_empty() {
            // An idle stream must not keep the buffer of its busiest moment.
            self.frames.shrink_to_fit();
        }
        Some(frame)
    }

    /// Nothing comes after `last`.
    pub(crate) fn close(&mut self, last: Option<Frame>) {
        if let Some(frame) = last {
            self.push(frame);
        }
        self.closed = true;
    }

    /// Forgets what is queued, all but the last frame.
    pub(crate) fn abandon(&mut self) {
        let last = self.frames.back().cloned();
        self.clear();
        self.bytes = last.as_ref().map_or(0, Frame::len);
        waiting(last.iter().len().cast_signed(), self.bytes.cast_signed());
        self.frames = last.into_iter().collect();
    }

    /// Forgets all that is queued.
    fn clear(&mut self) {
        waiting(-self.frames.len().cast_signed(), -self.bytes.cast_signed());
        self.frames = VecDeque::new();
        self.bytes = 0;
    }
}

impl Drop for Queue {
    /// What a stream leaves behind waits no more.
    fn drop(&mut self) {
        self.clear();
    }
}

/// So many frames and bytes more wait in all streams together. Two additions; a queue is under its own lock then.
fn waiting(frames: isize, bytes: isize) {
    meters().stream_queue_frames.change(frames);
    meters().stream_queue_bytes.change(bytes);
}

struct Shared {
    state: Mutex<State>,
    reader: AtomicWaker,
    /// Told when a full queue is half empty again, when a closed one is empty, or when the reader went away.
    moved: Notify,
    task: StreamTask,
}

struct State {
    queue: Queue,
    reader_gone: bool,
    /// The session found the queue full and waits for room.
    wanted: bool,
    /// When the queue became full, or last moved since; `None` while it has room.
    stuck_since: Option<Instant>,
}

impl State {
    fn push(&mut self, frame: Frame) {
        self.queue.push(frame);
        if self.queue.is_full() {
            self.stuck_since.get_or_insert_with(stonechat_host::monotonic);
        }
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.queue.pop()?;
        self.stuck_since = self.queue.is_full().then(stonechat_host::monotonic);
        Some(frame)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader has something to look at. In the task of the session it looks anyway, after the session.
    fn wake_reader(&self) {
        if !self.task.is_inside() {
            self.reader.wake();
        }
    }
}

/// The session's end of the queue.
pub(crate) struct Outgoing(Arc<Shared>);

/// The HTTP/2 side's end of the queue; ends after the last frame.
pub(crate) struct OutgoingStream(Arc<Shared>);

/// A queue and its two ends, on a stream of HTTP.
pub(in crate::gateway) fn outgoing(task: StreamTask) -> (Outgoing, OutgoingStream) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            queue: Queue::default(),
            reader_gone: false,
            wanted: false,
            stuck_since: None,
        }),
        reader: AtomicWaker::new(),
        moved: Notify::new(),
        task,
    });
    (Outgoing(Arc::clone(&shared)), OutgoingStream(shared))
}

impl Outgoing {
    /// See [`Queue::push`].
    pub(crate) fn push(&self, frame: Frame) {
        self.0.lock().push(frame);
        self.0.wake_reader();
    }

    /// See [`Queue::has_room`]. After a "no", [`Outgoing::moved`] returns once there is room for a while.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.0.lock();
        let room = state.queue.has_room();
        if !room && !state.wanted {
            meters().stream_queues_full.inc();
        }
        state.wanted |= !room;
        room
    }

    /// See [`Queue::is_half_full`].
    pub(crate) fn is_half_full(&self) -> bool {
        self.0.lock().queue.is_half_full()
    }

    /// Since when a full queue has not moved; `None` while it has room.
    pub(crate) fn stuck_since(&self) -> Option<Instant> {
        self.0.lock().stuck_since
    }

    /// Whether nobody reads any more: the client hung up.
    pub(crate) fn reader_gone(&self) -> bool {
        self.0.lock().reader_gone
    }

    /// Waits until there is room again, or the reader went away. May return early.
    pub(crate) async fn moved(&self) {
        self.0.moved.notified().await;
    }

    /// Forgets what a reader that does not read was owed, all but the last frame, so that it costs nothing more.
    pub(crate) fn abandon(&self) {
        self.0.lock().queue.abandon();
    }

    /// Adds the last frame.
    pub(crate) fn close(&self, last: Option<Frame>) {
        self.0.lock().queue.close(last);
        self.0.wake_reader();
    }

    /// After `close`: the stream of HTTP below ends so long from now, whatever its reader does.
    pub(crate) fn end_within(&self, patience: Duration) {
        self.0.task.end_within(patience);
        self.0.wake_reader();
    }

    /// After `close`: waits until everything was handed over, or the reader went away.
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
    /// A session that ended without its last frame (a panic) still ends the stream with a reason (I8).
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if !state.queue.closed {
            state.queue.close(Some(close::fault()));
        }
        drop(state);
        self.0.wake_reader();
    }
}

impl Stream for OutgoingStream {
    type Item = Result<Frame, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.reader.register(context.waker());
        let mut state = self.0.lock();
        let Some(frame) = state.pop() else {
            return if state.queue.closed {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        let emptied = state.queue.closed && state.queue.frames.is_empty();
        let roomy = state.wanted && !state.queue.is_half_full();
        if roomy || emptied {
            state.wanted = false;
            self.0.moved.notify_one();
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for OutgoingStream {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.reader_gone = true;
        state.queue.clear();
        state.stuck_since = None;
        drop(state);
        self.0.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use proptest::prelude::*;

    use super::*;

    fn own(bytes: impl Into<Vec<u8>>) -> Frame {
        Frame::Own(bytes.into().into())
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Pop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..200_000usize).prop_map(Step::Push),
            (0..2_000usize).prop_map(Step::Push),
            Just(Step::Pop),
        ]
    }

    proptest! {
        /// I9: who asks for room first never takes the queue further than one frame above its bounds, and what comes
        /// out is what went in, in order.
        #[test]
        fn a_writer_that_asks_for_room_stays_within_the_bounds(steps in prop::collection::vec(step(), 0..400)) {
            let mut queue = Queue::default();
            let mut model = VecDeque::new();
            for step in steps {
                match step {
                    Step::Push(size) if queue.has_room() => {
                        let frame = own(vec![0; size]);
                        model.push_back(frame.clone());
                        queue.push(frame);
                    }
                    Step::Push(_) => prop_assert!(
                        model.len() >= QUEUE_FRAMES_MAX || model.iter().map(Frame::len).sum::<usize>() >= QUEUE_BYTES_MAX
                    ),
                    Step::Pop => prop_assert_eq!(queue.pop(), model.pop_front()),
                }
                prop_assert!(queue.frames.len() <= QUEUE_FRAMES_MAX);
                prop_assert!(queue.bytes < QUEUE_BYTES_MAX + 200_000);
                prop_assert_eq!(queue.bytes, model.iter().map(Frame::len).sum::<usize>());
            }
        }
    }

    #[tokio::test]
    async fn nothing_comes_after_the_last_frame() {
        let (writer, mut reader) = outgoing(StreamTask::default());
        writer.push(own(b"one"));
        writer.close(Some(own(b"last")));
        writer.push(own(b"late"));
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await {
            frames.push(frame.expect("a frame"));
        }
        assert_eq!(frames, [own(b"one"), own(b"last")]);
    }

    /// I9: a reader that had nothing to read for long is not slow once there is much at once; one that then reads nothing is.
    #[tokio::test(start_paused = true)]
    async fn a_quiet_reader_is_not_taken_for_a_slow_one() {
        let (writer, mut reader) = outgoing(StreamTask::default());
        tokio::time::sleep(Duration::from_secs(60)).await;
        writer.push(own(vec![0; QUEUE_BYTES_MAX / 2]));
        assert_eq!(writer.stuck_since(), None);
        writer.push(own(vec![0; QUEUE_BYTES_MAX / 2]));
        let full = stonechat_host::monotonic();
        assert_eq!(writer.stuck_since(), Some(full));
        tokio::time::sleep(Duration::from_secs(20)).await;
        writer.push(own(vec![0; QUEUE_BYTES_MAX / 2]));
        assert_eq!(writer.stuck_since(), Some(full), "what is added moves nothing");
        reader.next().await;
        assert_eq!(
            writer.stuck_since(),
            Some(stonechat_host::monotonic()),
            "full, but it moves"
        );
        reader.next().await;
        assert_eq!(writer.stuck_since(), None);
    }

    /// I8: also of a queue whose reader did not read, the reason is the last thing that is forgotten.
    #[tokio::test]
    async fn an_abandoned_queue_keeps_its_last_frame() {
        let (writer, mut reader) = outgoing(StreamTask::default());
        for _ in 0..QUEUE_FRAMES_MAX {
            writer.push(own(b"delivery"));
        }
        assert!(!writer.has_room());
        writer.close(Some(own(b"closed")));
        writer.abandon();
        assert_eq!(reader.next().await.transpose().expect("no error"), Some(own(b"closed")));
        assert!(reader.next().await.is_none());
    }

    /// I8: a session that panics leaves a reason behind.
    #[tokio::test]
    async fn a_dropped_session_ends_its_stream_with_a_reason() {
        let (writer, mut reader) = outgoing(StreamTask::default());
        drop(writer);
        assert_eq!(reader.next().await.transpose().expect("no error"), Some(close::fault()));
        assert!(reader.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_wakes_the_session() {
        let (writer, reader) = outgoing(StreamTask::default());
        drop(reader);
        writer.moved().await;
        assert!(writer.reader_gone());
    }
}
