//! Users, tokens and conversations of a bench: made through the admin rpcs on the real server, mere names on the bare one.

use std::fs;
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use jsonwebtoken::{EncodingKey, Header};
use stonechat_host::{Clock, SystemClock};
use stonechat_proto::admin::v1 as admin;
use stonechat_proto::admin::v1::conversation_admin_service_client::ConversationAdminServiceClient as Conversations;
use stonechat_proto::admin::v1::user_admin_service_client::UserAdminServiceClient as Users;
use stonechat_proto::v1;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::Outcome;
use crate::process::{Kind, Server};

/// Admin calls at a time: the directory writes one after the other, more would only queue.
const CALLS_AT_A_TIME: usize = 16;
/// How long a token of a bench is good.
const TOKEN_SECONDS: i64 = 6 * 3_600;
const SCOPES: &str = "admin.users admin.tokens admin.conversations admin.messages";

#[derive(serde::Serialize)]
struct Claims<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: &'a str,
    exp: i64,
    iat: i64,
    scope: &'static str,
}

/// One device of a bench.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// Its first frame.
    pub(crate) hello: v1::Hello,
    /// What its sends name as conversation.
    pub(crate) sends_to: String,
    /// What its acks name as conversation.
    pub(crate) acks_to: String,
}

/// Makes people and conversations on one server.
#[derive(Clone)]
pub(crate) struct Population {
    kind: Kind,
    key: Option<EncodingKey>,
    channel: Option<Channel>,
}

impl Population {
    /// For this server.
    pub(crate) fn of(server: &Server) -> Outcome<Self> {
        if server.kind == Kind::Bare {
            return Ok(Self {
                kind: Kind::Bare,
                key: None,
                channel: None,
            });
        }
        let channel = Channel::from_shared(format!("http://{}", server.address))?.connect_lazy();
        let key = Some(secret(&server.folder)?);
        Ok(Self {
            kind: Kind::Stonechat,
            key,
            channel: Some(channel),
        })
    }

    fn token(&self, user: &str, scope: &'static str) -> Outcome<String> {
        let Some(key) = &self.key else {
            return Ok("x".repeat(220));
        };
        let now = SystemClock.unix_ms() / 1_000;
        let (iss, aud) = ("stonechat", "stonechat");
        let claims = Claims {
            iss,
            aud,
            sub: user,
            exp: now + TOKEN_SECONDS,
            iat: now,
            scope,
        };
        Ok(jsonwebtoken::encode(&Header::default(), &claims, key)?)
    }

    /// The hello of a user's only device.
    pub(crate) fn hello(&self, user: &str) -> Outcome<v1::Hello> {
        Ok(v1::Hello {
            token: self.token(user, "")?,
            device_id: user.to_owned(),
            protocol_min: 1,
            protocol_max: 1,
            app_state: v1::AppState::Foreground as i32,
            ..v1::Hello::default()
        })
    }

    fn authorized<T>(&self, message: T) -> Outcome<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        let bearer = format!("Bearer {}", self.token("bench", SCOPES)?);
        request
            .metadata_mut()
            .insert("authorization", MetadataValue::try_from(bearer)?);
        Ok(request)
    }

    fn channel(&self) -> Outcome<Channel> {
        Ok(self.channel.clone().ok_or("the bare server has no admin rpcs")?)
    }

    async fn user(&self, user: &str) -> Outcome<()> {
        let request = admin::UpsertUserRequest {
            user_id: user.to_owned(),
            display_name: String::new(),
        };
        let answer = Users::new(self.channel()?)
            .upsert_user(self.authorized(request)?)
            .await?;
        match answer.into_inner().outcome {
            Some(admin::upsert_user_response::Outcome::User(_)) => Ok(()),
            other => Err(format!("user {user}: {other:?}").into()),
        }
    }

    /// Makes users.
    pub(crate) async fn users(&self, users: &[String]) -> Outcome<()> {
        let made = stream::iter(users).map(|user| self.user(user));
        made.buffer_unordered(CALLS_AT_A_TIME).try_collect().await
    }

    async fn conversation(&self, kind: v1::ConversationKind, users: &[String]) -> Outcome<String> {
        let member = |user: &String| v1::Member {
            user_id: user.clone(),
            role: v1::MemberRole::Member as i32,
        };
        let group = kind == v1::ConversationKind::Group;
        let request = admin::CreateConversationRequest {
            client_msg_id: format!("{}-{}", users[0], users.len()),
            owner_user_id: users[0].clone(),
            kind: kind as i32,
            name: if group { "Bench".to_owned() } else { String::new() },
            members: users[1..].iter().map(member).collect(),
        };
        let answer = Conversations::new(self.channel()?)
            .create_conversation(self.authorized(request)?)
            .await?;
        match answer.into_inner().outcome {
            Some(admin::create_conversation_response::Outcome::Conversation(made)) => Ok(made.conversation_id),
            other => Err(format!("conversation of {}: {other:?}", users[0]).into()),
        }
    }

    /// Two people who talk to each other.
    async fn pair(&self, one: String, other: String) -> Outcome<[Person; 2]> {
        let (to_one, to_other) = if self.kind == Kind::Bare {
            (one.clone(), other.clone())
        } else {
            let users = [one.clone(), other.clone()];
            self.users(&users).await?;
            let conversation = self.conversation(v1::ConversationKind::Direct, &users).await?;
            (conversation.clone(), conversation)
        };
        let person = |user: &str, to: &str| -> Outcome<Person> {
            Ok(Person {
                hello: self.hello(user)?,
                sends_to: to.to_owned(),
                acks_to: to.to_owned(),
            })
        };
        Ok([person(&one, &to_other)?, person(&other, &to_one)?])
    }

    /// So many pairs of people with a 1:1 each; `name` keeps them apart from others.
    pub(crate) async fn pairs(&self, name: &str, count: usize) -> Outcome<Vec<[Person; 2]>> {
        let pairs = stream::iter(0..count).map(|at| self.pair(format!("{name}{at}a"), format!("{name}{at}b")));
        pairs.buffered(CALLS_AT_A_TIME).try_collect().await
    }

    /// One person in so many groups with one other each; the other ends are returned for the first `writers` of them.
    pub(crate) async fn star(&self, name: &str, groups: usize, writers: usize) -> Outcome<(Person, Vec<Person>)> {
        let centre = format!("{name}-centre");
        let users: Vec<String> = (0..groups).map(|at| format!("{name}-{at}")).collect();
        self.users(&users).await?;
        self.users(std::slice::from_ref(&centre)).await?;
        let made = stream::iter(&users).map(|user| {
            let members = [user.clone(), centre.clone()];
            async move { self.conversation(v1::ConversationKind::Group, &members).await }
        });
        let made: Vec<String> = made.buffered(CALLS_AT_A_TIME).try_collect().await?;
        let writer = |(user, conversation): (&String, &String)| -> Outcome<Person> {
            Ok(Person {
                hello: self.hello(user)?,
                sends_to: conversation.clone(),
                acks_to: String::new(),
            })
        };
        let others: Outcome<Vec<Person>> = users.iter().zip(&made).take(writers).map(writer).collect();
        let centre = Person {
            hello: self.hello(&centre)?,
            sends_to: String::new(),
            acks_to: String::new(),
        };
        Ok((centre, others?))
    }

    /// A group of so many people.
    pub(crate) async fn group(&self, name: &str, count: usize) -> Outcome<Vec<Person>> {
        let users: Vec<String> = (0..count).map(|at| format!("{name}{at}")).collect();
        let (sends_to, acks_to) = if self.kind == Kind::Bare {
            ("*".to_owned(), "-".to_owned())
        } else {
            self.users(&users).await?;
            let conversation = self.conversation(v1::ConversationKind::Group, &users).await?;
            (conversation.clone(), conversation)
        };
        let person = |user: &String| -> Outcome<Person> {
            Ok(Person {
                hello: self.hello(user)?,
                sends_to: sends_to.clone(),
                acks_to: acks_to.clone(),
            })
        };
        users.iter().map(person).collect()
    }
}

fn secret(folder: &Path) -> Outcome<EncodingKey> {
    let digits = fs::read_to_string(folder.join("secret.hs256"))?;
    let digits = digits.trim();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
    let bytes: Result<Vec<u8>, _> = (0..digits.len()).step_by(2).map(byte).collect();
    Ok(EncodingKey::from_secret(&bytes?))
}
