//! What a Redis says by itself, told apart from what it answers (RESP3): messages to subscribers are taken out of its bytes.

/// How a message on a sharded channel begins; confirmations of subscriptions are pushes of another name.
const MESSAGE: &[u8] = b">3\r\n$8\r\nsmessage\r\n";

/// Takes messages out of bytes that come in pieces.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    /// The beginning of a value whose end has not come yet.
    begun: Vec<u8>,
}

impl Pushes {
    /// Whole values without the messages among them, and how many of those there were.
    pub(super) fn take_out(&mut self, piece: &[u8]) -> (Vec<u8>, u64) {
        self.begun.extend_from_slice(piece);
        let (mut kept, mut lost, mut at) = (Vec::new(), 0, 0);
        while let Some(length) = value_length(&self.begun[at..]) {
            let value = &self.begun[at..at + length];
            if value.starts_with(MESSAGE) {
                lost += 1;
            } else {
                kept.extend_from_slice(value);
            }
            at += length;
        }
        self.begun.drain(..at);
        (kept, lost)
    }

    /// What was held back, once nothing is taken out any more.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.begun)
    }
}

/// Length of the first value with all that is in it; `None` when not all of it is there.
fn value_length(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut open) = (0, 1_usize);
    while open > 0 {
        let line = bytes.get(at..)?;
        let end = line.windows(2).position(|pair| pair == b"\r\n")?;
        let (kind, number) = line[..end].split_first()?;
        let number = std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse::<usize>().ok());
        at += end + 2;
        open -= 1;
        match (kind, number) {
            (b'$' | b'=' | b'!', Some(length)) => at += length + 2,
            (b'*' | b'~' | b'>', Some(count)) => open += count,
            (b'%', Some(count)) => open += 2 * count,
            // Attributes stand before the value that they are about.
            (b'|', Some(count)) => open += 2 * count + 1,
            _ => {}
        }
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: [&[u8]; 7] = [
        b"+OK\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"$-1\r\n",
        b"_\r\n",
        b"*2\r\n:1\r\n%1\r\n+a\r\n*0\r\n",
        b">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n",
        b"|1\r\n+a\r\n+b\r\n:7\r\n",
    ];

    /// Wherever the bytes are cut, answers stay and messages go.
    #[test]
    fn messages_go_and_answers_stay() {
        let message: &[u8] = b">3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$4\r\n\r\n>3\r\n";
        let mixed: Vec<u8> = ANSWERS.iter().flat_map(|answer| [*answer, message].concat()).collect();
        for piece in [1, 2, 3, 7, mixed.len()] {
            let (mut pushes, mut kept, mut lost) = (Pushes::default(), Vec::new(), 0);
            for bytes in mixed.chunks(piece) {
                let (some, gone) = pushes.take_out(bytes);
                kept.extend(some);
                lost += gone;
            }
            assert_eq!(
                (kept, lost),
                (ANSWERS.concat(), ANSWERS.len() as u64),
                "pieces of {piece}"
            );
            assert!(pushes.rest().is_empty());
        }
        let mut pushes = Pushes::default();
        assert_eq!(pushes.take_out(&message[..9]), (Vec::new(), 0));
        assert_eq!(pushes.rest(), message[..9]);
    }
}
