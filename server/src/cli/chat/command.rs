//! What a typed line asks for.

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing.
    Empty,
    /// Send this.
    Say(String),
    /// Send this as an answer to a message.
    Reply(u64, String),
    /// Everything is read.
    Read,
    /// Tell that one types.
    Typing,
    /// Who is here.
    Who,
    /// Replace a message of one's own.
    Edit(u64, String),
    /// Remove a message.
    Redact(u64, String),
    /// React to a message, or take it back.
    React(u64, String, bool),
    /// Pin or unpin a message.
    Pin(u64, bool),
    /// Say what there is.
    Help,
    /// Leave.
    Quit,
    /// Not understood; how it should be.
    Wrong(&'static str),
}

/// What there is.
pub(super) const HELP: &str = "\
/reply SEQ TEXT   answer to a message       /edit SEQ TEXT    replace your message
/redact SEQ [WHY] remove a message          /react SEQ EMOJI  react; /unreact takes it back
/pin SEQ          pin; /unpin lifts it      /read             mark everything as read
/typing           show that you type        /who              members and presence
/quit             leave                     //TEXT            send a text that begins with /";

impl Command {
    pub(super) fn parse(line: &str) -> Self {
        let Some(rest) = line.strip_prefix('/') else {
            let blank = line.trim().is_empty();
            return if blank { Self::Empty } else { Self::Say(line.to_owned()) };
        };
        if rest.starts_with('/') {
            return Self::Say(rest.to_owned());
        }
        let (name, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        Self::named(name, arguments.trim())
    }

    fn named(name: &str, arguments: &str) -> Self {
        let (first, text) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
        let seq = first.trim_start_matches('#').parse::<u64>().ok();
        let text = text.trim().to_owned();
        match (name, seq) {
            ("read", _) => Self::Read,
            ("typing", _) => Self::Typing,
            ("who", _) => Self::Who,
            ("help", _) => Self::Help,
            ("quit" | "exit", _) => Self::Quit,
            ("reply", Some(seq)) if !text.is_empty() => Self::Reply(seq, text),
            ("edit", Some(seq)) if !text.is_empty() => Self::Edit(seq, text),
            ("redact", Some(seq)) => Self::Redact(seq, text),
            ("react", Some(seq)) if !text.is_empty() => Self::React(seq, text, false),
            ("unreact", Some(seq)) if !text.is_empty() => Self::React(seq, text, true),
            ("pin", Some(seq)) => Self::Pin(seq, false),
            ("unpin", Some(seq)) => Self::Pin(seq, true),
            ("reply", _) => Self::Wrong("/reply SEQ TEXT"),
            ("edit", _) => Self::Wrong("/edit SEQ TEXT"),
            ("redact", _) => Self::Wrong("/redact SEQ [WHY]"),
            ("react" | "unreact", _) => Self::Wrong("/react SEQ EMOJI"),
            ("pin" | "unpin", _) => Self::Wrong("/pin SEQ"),
            _ => Self::Wrong("a command of /help, or // before a text that begins with /"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn lines_are_understood() {
        let cases = [
            ("", Command::Empty),
            ("  ", Command::Empty),
            ("hello /quit", Command::Say("hello /quit".to_owned())),
            ("//quit", Command::Say("/quit".to_owned())),
            ("/quit", Command::Quit),
            ("/edit 3 new  text", Command::Edit(3, "new  text".to_owned())),
            ("/redact #7", Command::Redact(7, String::new())),
            ("/react 7 👍", Command::React(7, "👍".to_owned(), false)),
            ("/unreact 7 👍", Command::React(7, "👍".to_owned(), true)),
            ("/edit three words here", Command::Wrong("/edit SEQ TEXT")),
        ];
        for (line, wanted) in cases {
            assert_eq!(Command::parse(line), wanted, "{line:?}");
        }
        assert!(matches!(Command::parse("/etc/passwd"), Command::Wrong(_)));
    }
}
