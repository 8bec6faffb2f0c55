//! A driver that lies as a quorum store may, around the real one. What was answered as applied, every quorum read sees. A
//! conditional batch whose answer got lost is *loose*: it may have come, may still come, or may never; each of its rows is
//! seen by quorum reads at once or later (D6), and what one saw all see from then on, as reads repair what they find. The
//! next conditional batch or serial read of the partition ends that (D1): those are always true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use scylla::errors::{ExecutionError, PrepareError, UseKeyspaceError};
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, Statement};
use scylla::value::{CqlValue, Row};
use stonechat_host::{Random, SeededRandom};
use tokio::sync::Notify;

use super::super::client::Values;
use super::super::driver::Driver;
use super::super::log_table::{ENTRY, ID, NEWEST};

const HEADS: &str = "SELECT head, ordinal";
const ENTRIES: &str = "SELECT seq, wire FROM log";
const IDS: &str = "SELECT place, payload FROM log";
const NEWEST_IDS: &str = "SELECT wire FROM log";
const HINTS: &str = "SELECT bucket FROM hints";
/// The same entries, but those that are not seen.
const SOME: &str = "SELECT seq, wire FROM log WHERE conversation = ? AND bucket = ? AND kind = 0 AND seq IN ?";

/// A partition of the log: conversation and bucket.
type Place = (Vec<u8>, i64);

/// What of a loose batch a read may see or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Head,
    Entry(i64),
    Id(Vec<u8>),
    Newest(Vec<u8>),
}

/// A batch of which nobody was told.
struct Loose {
    /// What was read before it; nothing where it adds rows.
    before: BTreeMap<Item, Option<QueryResult>>,
    seen: BTreeSet<Item>,
    /// It has not come yet.
    late: Option<(Batch, Vec<Values>)>,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Told,
    /// It never comes.
    Lost,
    /// It comes twice, and the second answer counts.
    Twice,
    /// Done, and the answer is lost.
    Untold,
    /// Perhaps done by whatever the next is, and the answer is lost.
    Late,
    /// Done or late, and whoever waits dies.
    Hung {
        late: bool,
    },
}

#[derive(Default)]
struct Now {
    lies: bool,
    loose: BTreeMap<Place, Loose>,
    /// What hints said at some time.
    hints: Vec<(Values, QueryResult)>,
    counts: BTreeMap<&'static str, u64>,
}

/// What nodes of one store share: what is loose, and chance.
pub(super) struct Sky {
    now: Mutex<Now>,
    dice: SeededRandom,
    hung: Notify,
}

impl Sky {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            now: Mutex::default(),
            dice: SeededRandom::new(seed),
            hung: Notify::new(),
        })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().expect("no panic")
    }

    pub(super) fn lie(&self, lies: bool) {
        self.now().lies = lies;
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.dice.below(bound)
    }

    /// Whoever waits for an answer is to die now.
    pub(super) async fn hung(&self) {
        self.hung.notified().await;
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.now().counts.clone()
    }

    fn count(&self, what: &'static str) {
        *self.now().counts.entry(what).or_default() += 1;
    }

    fn fate(&self) -> Fate {
        match self.below(20) {
            0 => Fate::Lost,
            1 => Fate::Twice,
            2 | 3 => Fate::Untold,
            4 => Fate::Late,
            5..=7 => Fate::Hung { late: false },
            8 => Fate::Hung { late: true },
            _ => Fate::Told,
        }
    }

    /// Whether a quorum read sees this part of the partition as it is now.
    fn sees(&self, place: &Place, item: &Item) -> bool {
        let shows = self.below(2) == 0;
        let mut now = self.now();
        let Some(loose) = now.loose.get_mut(place) else {
            return true;
        };
        if loose.late.is_some() || !loose.before.contains_key(item) || loose.seen.contains(item) {
            return true;
        }
        if shows {
            loose.seen.insert(item.clone());
        }
        shows
    }

    fn before(&self, place: &Place, item: &Item) -> Option<QueryResult> {
        self.now().loose.get(place)?.before.get(item)?.clone()
    }
}

/// The real driver as one node has it.
pub(super) struct Liar {
    real: Box<dyn Driver>,
    sky: Arc<Sky>,
    prepared: Mutex<BTreeMap<String, PreparedStatement>>,
}

type Done<T> = Result<T, ExecutionError>;

fn timeout() -> ExecutionError {
    ExecutionError::RequestTimeout(Duration::from_secs(8))
}

/// The first conversation that a bucket follows.
fn place_of(values: &[CqlValue]) -> Option<Place> {
    values.windows(2).find_map(|pair| match pair {
        [CqlValue::Blob(conversation), CqlValue::BigInt(bucket)] if conversation.len() == 16 => {
            Some((conversation.clone(), *bucket))
        }
        _ => None,
    })
}

/// The row of a statement that names kind, seq and key behind its partition.
fn row_of(values: &[CqlValue]) -> Option<Item> {
    let [CqlValue::TinyInt(kind), CqlValue::BigInt(seq), CqlValue::Blob(key), ..] = values.get(2..)? else {
        return None;
    };
    match *kind {
        ENTRY => Some(Item::Entry(*seq)),
        ID => Some(Item::Id(key.clone())),
        NEWEST => Some(Item::Newest(key.clone())),
        _ => None,
    }
}

fn number_at(values: &[CqlValue], at: usize) -> i64 {
    match values.get(at) {
        Some(CqlValue::BigInt(number)) => *number,
        Some(CqlValue::Int(number)) => i64::from(*number),
        other => panic!("{other:?} is no number"),
    }
}

fn is_empty(result: &QueryResult) -> bool {
    let rows = result.clone().into_rows_result().expect("an answer");
    rows.rows_num() == 0
}

fn was_applied(result: &QueryResult) -> bool {
    let rows = result.clone().into_rows_result().expect("an answer");
    let first: Row = rows.first_row().expect("a row");
    first.columns.first() == Some(&Some(CqlValue::Boolean(true)))
}

impl Liar {
    pub(super) fn around(real: Box<dyn Driver>, sky: Arc<Sky>) -> Self {
        Self {
            real,
            sky,
            prepared: Mutex::default(),
        }
    }

    fn statement(&self, begins: &str) -> PreparedStatement {
        let prepared = self.prepared.lock().expect("no panic");
        let found = prepared.iter().find(|(text, _)| text.starts_with(begins));
        found.expect("prepared at the start").1.clone()
    }

    async fn read(&self, begins: &str, values: Values) -> Done<QueryResult> {
        let statement = self.statement(begins);
        let page = self.real.page(&statement, &values, PagingState::start()).await?;
        Ok(page.0)
    }

    /// A later round on a partition: what was late is done now or never, and nothing is loose.
    async fn settle(&self, place: &Place) -> Done<()> {
        let loose = self.sky.now().loose.remove(place);
        if let Some((batch, values)) = loose.and_then(|loose| loose.late)
            && self.sky.below(2) == 0
        {
            self.sky.count("batches done late");
            self.real.batch(&batch, values).await?;
        }
        Ok(())
    }

    /// Does a batch, or lets it hang in the air, and notes what was true before.
    async fn loosen(&self, place: Place, batch: &Batch, values: Vec<Values>, late: bool) -> Done<()> {
        let mut before = BTreeMap::new();
        for (statement, values) in batch.statements.iter().zip(&values) {
            let BatchStatement::PreparedStatement(statement) = statement else {
                continue;
            };
            if statement.get_statement().starts_with("UPDATE log SET head") {
                let key = vec![CqlValue::Blob(place.0.clone()), CqlValue::BigInt(place.1)];
                before.insert(Item::Head, Some(self.read(HEADS, key).await?));
                continue;
            }
            let key = values.iter().take(5).cloned().collect();
            match row_of(values) {
                Some(item @ Item::Entry(_)) => drop(before.insert(item, None)),
                Some(item @ Item::Id(_)) => drop(before.insert(item, Some(self.read(IDS, key).await?))),
                Some(item @ Item::Newest(_)) => drop(before.insert(item, Some(self.read(NEWEST_IDS, key).await?))),
                _ => {}
            }
        }
        let applied = late || was_applied(&self.real.batch(batch, values.clone()).await?);
        if applied {
            let loose = Loose {
                before,
                seen: BTreeSet::new(),
                late: late.then(|| (batch.clone(), values)),
            };
            self.sky.now().loose.insert(place, loose);
        }
        Ok(())
    }

    async fn decide(&self, batch: &Batch, values: Vec<Values>) -> Done<QueryResult> {
        let place = values
            .first()
            .and_then(|values| place_of(values))
            .expect("a write of the log");
        self.settle(&place).await?;
        let fate = self.sky.fate();
        match fate {
            Fate::Told => return self.real.batch(batch, values).await,
            Fate::Lost => {}
            Fate::Twice => {
                self.real.batch(batch, values.clone()).await?;
                self.sky.count("batches done twice");
                return self.real.batch(batch, values).await;
            }
            Fate::Untold => self.loosen(place, batch, values, false).await?,
            Fate::Late => self.loosen(place, batch, values, true).await?,
            Fate::Hung { late } => {
                self.loosen(place, batch, values, late).await?;
                self.sky.count("deaths");
                self.sky.hung.notify_one();
                std::future::pending::<()>().await;
            }
        }
        self.sky.count("answers lost");
        Err(timeout())
    }

    /// What a quorum read is told that is not the whole truth; `None` for the truth.
    async fn lie(&self, statement: &PreparedStatement, values: &Values) -> Done<Option<QueryResult>> {
        let text = statement.get_statement();
        if text.starts_with(HINTS) {
            return self.old_hint(values).await.map(Some);
        }
        let Some(place) = place_of(values).filter(|_| text.contains("FROM log")) else {
            return Ok(None);
        };
        if statement.get_consistency() == Some(Consistency::LocalSerial) {
            if self.sky.below(20) == 0 {
                self.sky.count("serial reads lost");
                return Err(timeout());
            }
            return self.settle(&place).await.map(|()| None);
        }
        if text.starts_with(ENTRIES) {
            return self.some_entries(&place, values).await;
        }
        let item = if text.starts_with(HEADS) {
            Some(Item::Head)
        } else {
            row_of(values)
        };
        let Some(item) = item.filter(|item| !self.sky.sees(&place, item)) else {
            return Ok(None);
        };
        let before = self.sky.before(&place, &item);
        if item == Item::Head && before.as_ref().is_some_and(is_empty) && self.sky.below(2) == 0 {
            self.sky.count("rows without their head");
            return self.headless().await.map(Some);
        }
        self.sky.count(if item == Item::Head {
            "old heads"
        } else {
            "rows not seen"
        });
        Ok(before)
    }

    /// What the head of a bucket is when rows of it are seen, and it is not: as it lies in a partition made for this.
    async fn headless(&self) -> Done<QueryResult> {
        let place = [CqlValue::Blob(vec![0; 16]), CqlValue::BigInt(0)];
        let row = "INSERT INTO log (conversation, bucket, kind, seq, key) VALUES (0x00000000000000000000000000000000, 0, 0, 0, 0x)";
        self.real.query(Statement::new(row)).await?;
        self.read(HEADS, Vec::from(place)).await
    }

    /// A hint of before, or of now: it may always be behind.
    async fn old_hint(&self, values: &Values) -> Done<QueryResult> {
        let old = {
            let now = self.sky.now();
            let of_values = now.hints.iter().filter(|(of, _)| of == values);
            of_values.map(|(_, answer)| answer.clone()).collect::<Vec<_>>()
        };
        if let Some(answer) = old.first().filter(|_| self.sky.below(3) == 0) {
            self.sky.count("old hints");
            return Ok(answer.clone());
        }
        let answer = self.read(HINTS, values.clone()).await?;
        self.sky.now().hints.push((values.clone(), answer.clone()));
        Ok(answer)
    }

    /// The entries that are asked for, but those of a loose batch that are not seen.
    async fn some_entries(&self, place: &Place, values: &Values) -> Done<Option<QueryResult>> {
        let (from, to, limit) = (number_at(values, 2), number_at(values, 3), number_at(values, 4));
        let (seen, unseen): (Vec<i64>, Vec<i64>) =
            (from..=to).partition(|seq| self.sky.sees(place, &Item::Entry(*seq)));
        if unseen.is_empty() {
            return Ok(None);
        }
        self.sky.count("batches seen in part");
        let limit = usize::try_from(limit).expect("a limit");
        let mut some: Values = values.iter().take(2).cloned().collect();
        some.push(CqlValue::List(
            seen.into_iter().take(limit).map(CqlValue::BigInt).collect(),
        ));
        self.read(SOME, some).await.map(Some)
    }
}

impl Driver for Liar {
    fn use_keyspace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), UseKeyspaceError>> {
        self.real.use_keyspace(name)
    }

    fn query(&self, statement: Statement) -> BoxFuture<'_, Done<QueryResult>> {
        self.real.query(statement)
    }

    fn prepare(&self, statement: Statement) -> BoxFuture<'_, Result<PreparedStatement, PrepareError>> {
        Box::pin(async move {
            let text = statement.contents.clone();
            let prepared = self.real.prepare(statement).await?;
            if text.starts_with(ENTRIES) {
                let some = self.real.prepare(Statement::new(SOME)).await?;
                self.prepared.lock().expect("no panic").insert(SOME.to_owned(), some);
            }
            self.prepared.lock().expect("no panic").insert(text, prepared.clone());
            Ok(prepared)
        })
    }

    fn execute<'a>(&'a self, statement: &'a PreparedStatement, values: Values) -> BoxFuture<'a, Done<QueryResult>> {
        self.real.execute(statement, values)
    }

    fn page<'a>(
        &'a self,
        statement: &'a PreparedStatement,
        values: &'a Values,
        from: PagingState,
    ) -> BoxFuture<'a, Done<(QueryResult, PagingStateResponse)>> {
        Box::pin(async move {
            let lies = self.sky.now().lies;
            if lies && let Some(answer) = self.lie(statement, values).await? {
                return Ok((answer, PagingStateResponse::NoMorePages));
            }
            self.real.page(statement, values, from).await
        })
    }

    fn batch<'a>(&'a self, batch: &'a Batch, values: Vec<Values>) -> BoxFuture<'a, Done<QueryResult>> {
        let lies = self.sky.now().lies && batch.get_type() == BatchType::Logged;
        if lies {
            Box::pin(self.decide(batch, values))
        } else {
            self.real.batch(batch, values)
        }
    }
}
