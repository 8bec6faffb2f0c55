//! Between rows and domain values, and lists of ids in statements.

use super::error::{Failed, damaged};
use crate::domain::{ConversationId, Kind, Member, Role, Seq, UserId};
use crate::storage::DirectoryError;

type Result<T> = std::result::Result<T, Failed>;

/// Ids in one statement: SQLite takes 32,766 parameters and Postgres 65,535, but planning time grows with the list.
pub(super) const IDS_PER_STATEMENT_MAX: usize = 256;

/// Splits ids into lists of 1, 4, 16, 64 or 256, repeating the last id to fill one up: five statement texts in all, so
/// that the statement cache holds them.
pub(super) fn id_lists<T: Clone>(ids: &[T]) -> impl Iterator<Item = Vec<T>> {
    ids.chunks(IDS_PER_STATEMENT_MAX).map(|chunk| {
        let mut list = chunk.to_vec();
        if let Some(last) = chunk.last() {
            list.resize(list_size(chunk.len()), last.clone());
        }
        list
    })
}

fn list_size(count: usize) -> usize {
    let mut size = 1;
    while size < count {
        size *= 4;
    }
    size
}

/// `count` placeholders from `$first` on, separated by commas.
pub(super) fn placeholders(first: usize, count: usize) -> String {
    let names: Vec<String> = (first..first + count).map(|number| format!("${number}")).collect();
    names.join(", ")
}

/// `rows` parenthesised rows of `columns` placeholders each, from `$first` on.
pub(super) fn value_rows(first: usize, rows: usize, columns: usize) -> String {
    let rows: Vec<String> = (0..rows)
        .map(|row| format!("({})", placeholders(first + row * columns, columns)))
        .collect();
    rows.join(", ")
}

pub(super) fn limit_to_db(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn seq_to_db(seq: Seq) -> Result<i64> {
    i64::try_from(seq.0)
        .map_err(|_| DirectoryError::Unavailable(format!("seq {seq} is beyond what can be stored")).into())
}

pub(super) fn seq_from_db(value: i64) -> Result<Seq> {
    u64::try_from(value).map(Seq).map_err(|_| damaged("seq"))
}

pub(super) fn optional_seq_from_db(value: Option<i64>) -> Result<Option<Seq>> {
    value.map(seq_from_db).transpose()
}

pub(super) fn user_from_db(text: &str) -> Result<UserId> {
    UserId::parse(text).map_err(|_| damaged("user id"))
}

pub(super) fn id_to_db(id: ConversationId) -> Vec<u8> {
    id.0.to_vec()
}

pub(super) fn id_from_db(bytes: &[u8]) -> Result<ConversationId> {
    bytes
        .try_into()
        .map(ConversationId)
        .map_err(|_| damaged("conversation id"))
}

pub(super) fn kind_to_db(kind: Kind) -> i16 {
    match kind {
        Kind::Direct => 1,
        Kind::Group => 2,
    }
}

pub(super) fn kind_from_db(value: i16) -> Result<Kind> {
    match value {
        1 => Ok(Kind::Direct),
        2 => Ok(Kind::Group),
        _ => Err(damaged("kind")),
    }
}

pub(super) fn role_to_db(role: Role) -> i16 {
    match role {
        Role::Member => 1,
        Role::Admin => 2,
        Role::Owner => 3,
    }
}

pub(super) fn role_from_db(value: i16) -> Result<Role> {
    match value {
        1 => Ok(Role::Member),
        2 => Ok(Role::Admin),
        3 => Ok(Role::Owner),
        _ => Err(damaged("role")),
    }
}

/// Members as one text, a line each: `role user`.
pub(super) fn members_to_db(members: &[Member]) -> String {
    let lines: Vec<String> = members
        .iter()
        .map(|member| format!("{} {}", role_to_db(member.role), member.user))
        .collect();
    lines.join("\n")
}

pub(super) fn members_from_db(text: &str) -> Result<Vec<Member>> {
    text.lines().map(member_from_line).collect()
}

fn member_from_line(line: &str) -> Result<Member> {
    let (role, user) = line.split_once(' ').ok_or_else(|| damaged("member list"))?;
    let role = role.parse().map_err(|_| damaged("member list"))?;
    Ok(Member {
        user: user_from_db(user)?,
        role: role_from_db(role)?,
    })
}
