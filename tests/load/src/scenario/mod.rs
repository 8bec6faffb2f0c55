//! The scenarios by name, and what they have in common.

mod catchup;
mod direct;
mod group;
mod history;
mod hot;
mod idle;
mod import;
mod login;
mod production;
mod slow;
mod storm;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use crate::Outcome;
use crate::link::Way;
use crate::population::Person;
use crate::process::{Kind, Server};
use crate::report::Report;
use crate::traffic::{Device, Span};

/// Sessions that are being opened at a time.
const OPENINGS_AT_A_TIME: usize = 64;

/// What a scenario runs with.
pub(crate) struct Context {
    /// The server's binary.
    pub(crate) binary: PathBuf,
    /// At small size: everything runs, nothing is worth quoting.
    pub(crate) small: bool,
    /// Entries of the log that `history` reads.
    pub(crate) entries: u64,
    /// Seconds of `slow`.
    pub(crate) slow_seconds: u64,
    /// What was found.
    pub(crate) report: Report,
}

type Run = for<'a> fn(&'a mut Context) -> LocalBoxFuture<'a, Outcome<()>>;

/// Every scenario.
pub(crate) const ALL: [(&str, Run); 12] = [
    ("idle", |context| idle::run(context).boxed_local()),
    ("direct", |context| direct::native(context).boxed_local()),
    ("group500", |context| group::native(context).boxed_local()),
    ("login", |context| login::run(context).boxed_local()),
    ("catchup", |context| catchup::run(context).boxed_local()),
    ("storm", |context| storm::run(context).boxed_local()),
    ("hot", |context| hot::run(context).boxed_local()),
    ("slow", |context| slow::run(context).boxed_local()),
    ("history", |context| history::run(context).boxed_local()),
    ("import", |context| import::run(context).boxed_local()),
    ("web", |context| {
        async {
            direct::web(context).await?;
            group::web(context).await
        }
        .boxed_local()
    }),
    ("production", |context| production::run(context).boxed_local()),
];

impl Context {
    /// A number at full or at small size.
    fn size<T>(&self, full: T, small: T) -> T {
        if self.small { small } else { full }
    }

    fn span(&self, warm_up: u64, measure: u64) -> Span {
        let seconds = |full| Duration::from_secs(if self.small { 1 } else { full });
        Span {
            warm_up: seconds(warm_up),
            measure: seconds(measure),
        }
    }

    async fn server(&self, kind: Kind, flags: &[&str]) -> Outcome<Server> {
        match kind {
            Kind::Bare => Server::bare().await,
            Kind::Stonechat => Server::stonechat(&self.binary, flags).await,
        }
    }
}

/// Opens the sessions of these people.
async fn open_all(server: &Server, people: &[Person], way: Way) -> Outcome<Vec<Device>> {
    let opening = stream::iter(people).map(|person| Device::open(server, person, way));
    opening.buffered(OPENINGS_AT_A_TIME).try_collect().await
}
