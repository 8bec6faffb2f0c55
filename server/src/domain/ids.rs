//! Identifiers and units. What is malformed cannot be constructed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// An identifier does not have the form its type demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {form}")]
pub struct IdError {
    /// Name of the identifier.
    pub what: &'static str,
    /// The form it should have.
    pub form: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $allowed:expr, $form:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks length and characters.
            ///
            /// # Errors
            /// The text does not have the form of this identifier.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let allowed: fn(u8) -> bool = $allowed;
                if text.is_empty() || text.len() > $max || !text.bytes().all(allowed) {
                    return Err(IdError { what: $what, form: $form });
                }
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-')
}

text_id!(
    /// A user, named by the integrator.
    UserId, "user_id", 64,
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b'-'),
    "1 to 64 characters of [A-Za-z0-9._@-]"
);
text_id!(
    /// One installation of an app, named by the client; unique within its user.
    DeviceId, "device_id", 64, is_key_byte, "1 to 64 characters of [A-Za-z0-9._:-]"
);
text_id!(
    /// Id of an operation, chosen by the client; unique within (user, device, conversation) for ever.
    ClientMsgId, "client_msg_id", 64, is_key_byte, "1 to 64 characters of [A-Za-z0-9._:-]"
);
text_id!(
    /// One session of a device with a gateway; chosen by the server: 32 hex digits, a dot, the device. So a Submit on
    /// another node knows the device.
    SessionId, "session_id", 97, is_key_byte, "1 to 97 characters of [A-Za-z0-9._:-]"
);

impl SessionId {
    /// The session with these random bytes of this device.
    #[must_use]
    pub fn of_device(bytes: [u8; 16], device: &DeviceId) -> Self {
        Self(format!("{}.{device}", CorrelationId(bytes)).into())
    }

    /// The device in the id, when it has the form of one.
    #[must_use]
    pub fn device(&self) -> Option<DeviceId> {
        DeviceId::parse(self.0.get(33..)?).ok()
    }

    /// Not a session: the place among a user's sessions where the bus keeps what the user chose to show.
    #[must_use]
    pub fn of_choice() -> Self {
        Self("chosen".into())
    }
}

/// Which of a device's streams; empty for the app itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamName(String);

impl StreamName {
    /// Checks length and characters.
    ///
    /// # Errors
    /// Longer than 32 characters, or a character outside [a-z0-9_-].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if text.len() > 32 || !text.bytes().all(allowed) {
            return Err(IdError {
                what: "stream_name",
                form: "at most 32 characters of [a-z0-9_-]",
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A conversation: 128 random bits, so that ids cannot be guessed. Text form: a lower-case hyphenated UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub [u8; 16]);

impl ConversationId {
    /// Makes an id of random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes())
    }
}

impl FromStr for ConversationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // The hyphenated form only: one conversation has one spelling.
        if text.len() == 36
            && !text.bytes().any(|byte| byte.is_ascii_uppercase())
            && let Ok(uuid) = uuid::Uuid::try_parse(text)
        {
            return Ok(Self(uuid.into_bytes()));
        }
        Err(IdError {
            what: "conversation_id",
            form: "a lower-case hyphenated UUID",
        })
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Joins the sender's frame, the logs and each recipient's delivery. Text form: 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct CorrelationId(pub [u8; 16]);

impl FromStr for CorrelationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match uuid::Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 32 => Ok(Self(uuid.into_bytes())),
            _ => Err(IdError {
                what: "correlation_id",
                form: "32 hex digits",
            }),
        }
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).simple().fmt(f)
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);

            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Position in a conversation: 1, 2, 3 … without holes; 0 is before the first entry.
    Seq
);
counter!(
    /// How many entries up to a seq count as unread.
    Ordinal
);
counter!(
    /// Version of a conversation's membership: grows by one with each entry that changes it.
    Epoch
);

/// Wall time, milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);
