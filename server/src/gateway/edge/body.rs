//! Bodies: requests taken in as a whole, answers handed over so that none is forgotten before its reader took it.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::gateway::limits::REQUEST_BYTES_FREE;
use crate::room::Share;

/// Pieces up to this many bytes go out as they are: 64 streams of a connection with one each are a MiB.
const PIECE_BYTES: usize = 16 * 1024;

/// Why a body is not there as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incomplete {
    /// It has more bytes than may be.
    TooLarge,
    /// There is no room for it now.
    NoRoom,
    /// Its sender went away, or broke the protocol.
    Broken,
}

/// All bytes of a body. Most come in one piece, which is not copied. What is beyond [`REQUEST_BYTES_FREE`] takes room.
///
/// # Errors
/// They do not come, or there are more than `bytes_max` or than there is room for.
pub(super) async fn collect<B: Body<Data = Bytes>>(
    body: B,
    bytes_max: usize,
    share: &mut Share,
) -> Result<Bytes, Incomplete> {
    let mut body = pin!(body);
    let beyond = |bytes: usize| bytes.saturating_sub(REQUEST_BYTES_FREE);
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(piece) = frame.map_err(|_| Incomplete::Broken)?.into_data() else {
            continue;
        };
        let had = first.len() + all.len();
        let has = had + piece.len();
        if has > bytes_max {
            return Err(Incomplete::TooLarge);
        }
        if !share.grow(beyond(has) - beyond(had)) {
            return Err(Incomplete::NoRoom);
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
            continue;
        }
        all.extend_from_slice(&std::mem::take(&mut first));
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

pin_project! {
    /// A body whose large pieces come with their last byte by itself. HTTP/2 takes a piece as a whole once its reader's
    /// window has room for one byte, and then calls the stream done, although the rest may wait for ever. It takes the
    /// last byte only when all before it fits the window; until then the stream can still be ended.
    pub(super) struct LastByteLast<B> {
        #[pin]
        body: B,
        last: Option<Bytes>,
    }
}

impl<B> LastByteLast<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, last: None }
    }
}

impl<B: Body<Data = Bytes>> Body for LastByteLast<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if let Some(last) = this.last.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let polled = this.body.poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = polled else {
            return polled;
        };
        Poll::Ready(Some(Ok(frame.map_data(|mut piece| {
            if piece.len() > PIECE_BYTES {
                *this.last = Some(piece.split_off(piece.len() - 1));
            }
            piece
        }))))
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.last.as_ref().map_or(0, |last| last.len() as u64);
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + held);
        }
        hint.set_lower(hint.lower() + held);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use futures_util::StreamExt;

    use super::*;
    use crate::room::Room;

    struct Pieces(Vec<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
        }
    }

    #[tokio::test]
    async fn a_body_is_whole_or_refused() {
        let pieces = |text: &'static str| {
            let pieces = text.split(',').rev().map(|piece| Bytes::from_static(piece.as_bytes()));
            Pieces(pieces.collect())
        };
        let room = Room::new(0);
        for (given, whole) in [("", ""), ("one", "one"), (",one,,two,three", "onetwothree")] {
            let collected = collect(pieces(given), 11, &mut room.share()).await;
            assert_eq!(collected.as_deref(), Ok(whole.as_bytes()));
        }
        for given in ["one,two", "onetwo"] {
            let collected = collect(pieces(given), 5, &mut room.share()).await;
            assert_eq!(collected, Err(Incomplete::TooLarge));
        }
    }

    /// I9: a body takes its room as it comes, piece by piece.
    #[tokio::test]
    async fn i9_a_body_without_room_is_not_taken_in() {
        let room = Room::new(2);
        let pieces = |bytes: &[usize]| Pieces(bytes.iter().map(|length| Bytes::from(vec![0; *length])).collect());
        let mut share = room.share();
        let collected = collect(pieces(&[1, 1, REQUEST_BYTES_FREE]), usize::MAX, &mut share).await;
        assert_eq!(collected.map(|body| body.len()), Ok(REQUEST_BYTES_FREE + 2));
        let beyond = collect(pieces(&[1, REQUEST_BYTES_FREE]), usize::MAX, &mut room.share()).await;
        assert_eq!(beyond, Err(Incomplete::NoRoom));
        drop(share);
        let again = collect(pieces(&[1, REQUEST_BYTES_FREE]), usize::MAX, &mut room.share()).await;
        assert!(again.is_ok());
    }

    #[tokio::test]
    async fn large_pieces_end_with_their_last_byte() {
        let whole: Vec<u8> = (0..PIECE_BYTES + 2).map(|at| at.to_le_bytes()[0]).collect();
        let pieces = vec![Bytes::from(whole.clone()), Bytes::from_static(b"small")];
        let mut body = pin!(LastByteLast::new(Pieces(pieces)));
        let mut left = body.size_hint().exact().expect("a size");
        let mut pieces = Vec::new();
        let mut frames = futures_util::stream::poll_fn(|context| {
            let polled = body.as_mut().poll_frame(context);
            polled.map(|frame| frame.map(|frame| (frame, body.is_end_stream(), body.size_hint().exact())))
        });
        while let Some((frame, ended, size)) = frames.next().await {
            let piece = frame.expect("a frame").into_data().expect("data");
            left -= piece.len() as u64;
            assert_eq!((ended, size), (left == 0, Some(left)));
            pieces.push(piece);
        }
        let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [5, PIECE_BYTES + 1, 1]);
        assert_eq!(pieces[1..].concat(), whole);
    }
}
