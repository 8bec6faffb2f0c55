//! Names of channels and keys. All carry one of 256 hash tags, so that what belongs together lies on one node of a
//! cluster, and so that a route is a look-up in a small table.

use super::groups::CHANNELS;
use crate::bus::Topic;
use crate::domain::{SessionId, UserId};

/// Hash tags: enough to spread over any cluster one installation needs, few enough to move and to look up quickly.
pub(super) const PARTITIONS: u16 = 256;
/// Slots of a Redis cluster, by its specification.
const SLOTS: u16 = 16_384;
/// All nodes are listed at one place, so that they are read in one go.
pub(super) const NODES_PARTITION: u16 = 0;

/// Where a key lies, and the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) partition: u16,
    pub(super) text: String,
}

/// Makes the names of one installation.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

/// The hash tag of what has this name: FNV-1a, the same on every node.
fn partition(name: &str) -> u16 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u16::try_from(hash % u64::from(PARTITIONS)).unwrap_or(0)
}

/// The slot of a hash tag: CRC16 (XMODEM), as the cluster specification has it.
pub(super) fn slot(partition: u16) -> u16 {
    let tag = format!("u{partition}");
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 { shifted } else { shifted ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// The partition of a topic: a user's channel, their presence and what their sessions say lie together.
pub(super) fn partition_of(topic: &Topic) -> u16 {
    match topic {
        Topic::User(user) | Topic::Presence(user) => partition(user.as_str()),
        Topic::Session(session) => partition(session.as_str()),
        Topic::Conversation(conversation) => partition(&conversation.to_string()),
        // Far apart, so that a cluster of a few nodes shares them.
        Topic::Gateways(channel) => u16::from(*channel % CHANNELS) * (PARTITIONS / u16::from(CHANNELS)),
    }
}

pub(super) fn partition_of_user(user: &UserId) -> u16 {
    partition(user.as_str())
}

impl Names {
    /// Names that begin with `prefix`; `None` when it would hide the hash tags.
    pub(super) fn new(prefix: &str) -> Option<Self> {
        (!prefix.contains(['{', '}'])).then(|| Self {
            prefix: prefix.to_owned(),
        })
    }

    fn key(&self, partition: u16, rest: &str) -> Key {
        Key {
            partition,
            text: format!("{}{{u{partition}}}:{rest}", self.prefix),
        }
    }

    /// The channel of a topic.
    pub(super) fn channel(&self, topic: &Topic) -> String {
        let rest = match topic {
            Topic::User(user) => format!("user:{user}"),
            Topic::Session(session) => format!("session:{session}"),
            Topic::Presence(user) => format!("presence:{user}"),
            Topic::Gateways(channel) => format!("gateways:{channel}"),
            Topic::Conversation(conversation) => format!("conversation:{conversation}"),
        };
        self.key(partition_of(topic), &rest).text
    }

    /// The topic of a channel that [`Names::channel`] named.
    pub(super) fn topic(&self, channel: &[u8]) -> Option<Topic> {
        let text = std::str::from_utf8(channel).ok()?.strip_prefix(self.prefix.as_str())?;
        let (_, rest) = text.split_once(':')?;
        let (kind, id) = rest.split_once(':')?;
        match kind {
            "user" => UserId::parse(id).ok().map(Topic::User),
            "session" => SessionId::parse(id).ok().map(Topic::Session),
            "presence" => UserId::parse(id).ok().map(Topic::Presence),
            "gateways" => id.parse().ok().map(Topic::Gateways),
            "conversation" => id.parse().ok().map(Topic::Conversation),
            _ => None,
        }
    }

    /// The hash of what the sessions of a user say.
    pub(super) fn statuses(&self, user: &UserId) -> Key {
        self.key(partition_of_user(user), &format!("user_status:{user}"))
    }

    /// Until when all that a user asked of any node is paid for.
    pub(super) fn paid(&self, user: &UserId) -> Key {
        self.key(partition_of_user(user), &format!("paid:{user}"))
    }

    /// The lease of a gateway.
    pub(super) fn lease(&self, gateway: &str) -> Key {
        self.key(partition(gateway), &format!("gateway:{gateway}"))
    }

    /// What a process leaves on the Redis of this partition, to see that it does not forget.
    pub(super) fn mark(&self, partition: u16, process: &[u8; 16]) -> Key {
        let process = u128::from_be_bytes(*process);
        self.key(partition, &format!("mark:{process:032x}"))
    }

    /// The set of names of nodes.
    pub(super) fn nodes(&self) -> Key {
        self.key(NODES_PARTITION, "nodes")
    }

    /// What one node says of itself, as long as it lives.
    pub(super) fn node(&self, name: &str) -> Key {
        self.key(NODES_PARTITION, &format!("node:{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ConversationId;

    #[test]
    fn names_are_stable_and_lead_back() {
        let names = Names::new("stonechat:").unwrap();
        let user = UserId::parse("ada@example.com").unwrap();
        let topics = [
            Topic::User(user.clone()),
            Topic::Presence(user.clone()),
            Topic::Session(SessionId::parse("0f.phone:1").unwrap()),
            Topic::Gateways(CHANNELS - 1),
            Topic::Conversation(ConversationId([0xa7; 16])),
        ];
        for topic in &topics {
            assert_eq!(names.topic(names.channel(topic).as_bytes()).as_ref(), Some(topic));
        }
        let partition = partition_of_user(&user);
        assert_eq!(
            names.channel(&topics[0]),
            format!("stonechat:{{u{partition}}}:user:{user}")
        );
        assert_eq!(names.statuses(&user).partition, partition);
        assert_eq!(names.topic(b"stonechat:{u1}:later:x"), None);
        assert!(Names::new("a{b}:").is_none());
    }

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // As `CLUSTER KEYSLOT` of a server answers for {u0}, {u17} and {u255}.
        assert_eq!([slot(0), slot(17), slot(255)], [511, 1000, 2403]);
    }
}
