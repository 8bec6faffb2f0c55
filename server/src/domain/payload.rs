//! Canonical bytes of what a request asks for: the same request gives the same bytes in every version, for ever.
//!
//! They are hashed and stored beside `client_msg_id`, so a retry can be told from another payload under the same id
//! (I2, D10). Tags and layouts are therefore never re-used.

use super::entry::{Change, Content, MessageContent};
use super::roster::{Member, Role};

/// Canonical bytes of a change: a tag, then its fields in order, texts and lists with their length in front.
#[must_use]
pub fn canonical_bytes(change: &Change) -> Vec<u8> {
    let mut out = Canonical::default();
    match change {
        Change::Message(content) => out.tag(1).content(content),
        Change::Edit { target, content } => out.tag(2).number(target.0).content(content),
        Change::Redact { target, reason } => out.tag(3).number(target.0).text(reason),
        Change::React {
            target,
            reaction,
            remove,
        } => out.tag(4).number(target.0).text(reaction).flag(*remove),
        Change::Pin { target, unpin } => out.tag(5).number(target.0).flag(*unpin),
        Change::SetMembers(members) => out.tag(6).members(members),
        Change::RemoveMember(user) => out.tag(7).text(user.as_str()),
        Change::Rename(name) => out.tag(8).text(name),
    };
    out.0
}

#[derive(Default)]
struct Canonical(Vec<u8>);

impl Canonical {
    fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.push(tag);
        self
    }

    fn flag(&mut self, flag: bool) -> &mut Self {
        self.tag(u8::from(flag))
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64).0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn content(&mut self, content: &MessageContent) -> &mut Self {
        match &content.content {
            Content::Text(text) => self.tag(1).text(text),
            Content::Ciphertext { scheme, data } => self.tag(2).text(scheme).bytes(data),
        };
        self.number(content.reply_to.map_or(0, |seq| seq.0));
        self.number(content.media.len() as u64);
        for media in &content.media {
            self.text(&media.uri).text(&media.content_type).number(media.size_bytes);
        }
        self
    }

    fn members(&mut self, members: &[Member]) -> &mut Self {
        self.number(members.len() as u64);
        for member in members {
            let role = match member.role {
                Role::Member => 1,
                Role::Admin => 2,
                Role::Owner => 3,
            };
            self.text(member.user.as_str()).tag(role);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seq;

    #[test]
    fn i2_neighbouring_fields_cannot_be_shifted_into_each_other() {
        let react = |reaction: &str, remove| {
            canonical_bytes(&Change::React {
                target: Seq(1),
                reaction: reaction.to_owned(),
                remove,
            })
        };
        assert_ne!(react("a", true), react("a\u{1}", false));
        assert_eq!(react("a", true), react("a", true));
    }

    #[test]
    fn i2_layout_is_frozen() {
        let bytes = canonical_bytes(&Change::Rename("x".to_owned()));
        assert_eq!(bytes, [8, 0, 0, 0, 0, 0, 0, 0, 1, b'x']);
    }
}
