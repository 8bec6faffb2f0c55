//! Import and export on in-memory backends: the same content gives the same bytes, and a second run stores nothing.

use std::cmp::Ordering::{Equal, Greater};
use std::sync::Arc;

use stonechat_host::{Host, ManualClock, SeededRandom};

use super::{ImportError, Progress, Report, export, import};
use crate::bus::embedded::EmbeddedBus;
use crate::conversation::tests::lying_log::{Lie, lying};
use crate::conversation::{Backends, Conversations, Limits};
use crate::domain::{Refusal, UnixMillis, UserId};
use crate::storage::memory::MemoryStore;
use crate::storage::memory::directory::MemoryDirectory;

const SAMPLE: &str = r#"{"type":"user","id":"alice","name":"Alice"}
{"type":"user","id":"bob"}
{"type":"user","id":"carol","name":"كارول"}
{"type":"conversation","id":"team","user":"alice","time":1000,"name":"Team","kind":"group","members":[{"user":"alice","role":"owner"},{"user":"bob","role":"admin"}]}
{"type":"message","id":"m1","conversation":"team","user":"alice","device":"phone","time":1001,"text":"👩‍👩‍👧‍👦 שלום é"}
{"type":"message","id":"m1","conversation":"team","user":"bob","time":1002,"text":"re","reply":{"id":"m1","user":"alice","device":"phone"}}
{"type":"edit","id":"e1","conversation":"team","user":"bob","time":1003,"text":"re!","target":{"id":"m1","user":"bob"}}
{"type":"reaction","id":"r1","conversation":"team","user":"alice","time":1004,"target":{"id":"m1","user":"bob"},"reaction":"👍🏽"}
{"type":"members","id":"add","conversation":"team","user":"alice","time":1005,"members":[{"user":"carol","role":"member"}]}
{"type":"message","id":"s1","conversation":"team","time":1006,"ciphertext":{"scheme":"x","data":"AAEC"},"media":[{"uri":"a/b","size_bytes":3}]}
{"type":"pin","id":"p1","conversation":"team","user":"bob","time":1007,"target":{"id":"m1","user":"alice","device":"phone"}}
{"type":"redaction","id":"x1","conversation":"team","user":"alice","time":1008,"target":{"id":"m1","user":"bob"},"reason":"typo"}
{"type":"renamed","id":"n1","conversation":"team","user":"alice","time":1009,"name":"The team"}
{"type":"left","id":"l1","conversation":"team","user":"carol","time":1010,"member":"carol"}
{"type":"conversation","id":"us","user":"alice","time":2000,"kind":"direct","members":[{"user":"alice","role":"member"},{"user":"bob","role":"member"}]}
{"type":"message","id":"hi","conversation":"us","user":"bob","time":2001,"text":"hi"}
{"type":"block","id":"bob","user":"alice"}
{"type":"block","id":"alice","user":"carol"}
"#;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

#[derive(Default)]
struct Refused(Vec<(u64, String)>);

impl Progress for Refused {
    fn read(&mut self, _bytes: u64) {}

    fn refused(&mut self, line: u64, refusal: &Refusal) {
        self.0.push((line, refusal.message.clone()));
    }
}

struct Store {
    backends: Backends,
    host: Host,
}

impl Store {
    fn new(seed: u64) -> Self {
        let host = Host {
            clock: Arc::new(ManualClock::new(9_000)),
            random: Arc::new(SeededRandom::new(seed)),
        };
        let store = Arc::new(MemoryStore::new(&host));
        let backends = Backends {
            log: Arc::clone(&store) as Arc<_>,
            markers: store,
            directory: Arc::new(MemoryDirectory::default()),
            bus: Arc::new(EmbeddedBus::default()),
        };
        Self { backends, host }
    }

    async fn import(&self, text: &str) -> (Report, Vec<(u64, String)>) {
        self.try_import(text).await.unwrap()
    }

    async fn try_import(&self, text: &str) -> Result<(Report, Vec<(u64, String)>), ImportError> {
        let rules = Conversations::new(self.backends.clone(), self.host.clone(), Limits::unpaced());
        let mut refused = Refused::default();
        let report = import(&rules, &self.backends, &self.host, text.as_bytes(), &mut refused).await?;
        Ok((report, refused.0))
    }

    async fn export(&self) -> String {
        let mut output = Vec::new();
        export(&self.backends, &mut output).await.unwrap();
        String::from_utf8(output).unwrap()
    }
}

#[tokio::test]
async fn import_export_import_is_the_same() {
    let (one, two) = (Store::new(1), Store::new(2));
    let (report, refused) = one.import(SAMPLE).await;
    assert_eq!(refused, []);
    assert_eq!((report.lines, report.stored), (18, 18));
    let first = one.export().await;
    assert_eq!(two.import(&first).await.1, []);
    let second = two.export().await;
    assert_eq!(first, second);
    assert!(first.contains("👩‍👩‍👧‍👦 שלום é") && !first.contains("re!") && first.lines().count() == 18);
    let blocks: Vec<&str> = first.lines().skip(16).collect();
    let sample: Vec<&str> = SAMPLE.lines().skip(16).collect();
    assert_eq!(blocks, sample);
}

#[tokio::test]
async fn i2_a_second_run_and_a_broken_off_run_store_nothing_twice() {
    let store = Store::new(1);
    let half: String = SAMPLE.lines().take(9).map(|line| format!("{line}\n")).collect();
    store.import(&half).await;
    let (report, refused) = store.import(SAMPLE).await;
    assert_eq!((report.stored, report.known, refused), (9, 9, vec![]));
    let whole = store.export().await;
    let (again, refused) = store.import(SAMPLE).await;
    assert_eq!((again.stored, again.known, refused), (0, 18, vec![]));
    assert_eq!(store.import(&whole).await.0.stored, 0);
    assert_eq!(store.export().await, whole);
}

#[tokio::test]
async fn refused_lines_are_named_by_number_and_reason_and_passed_over() {
    let store = Store::new(1);
    let broken = [
        "not json",
        r#"{"type":"message","id":"m","conversation":"nowhere","user":"alice","text":"x"}"#,
        r#"{"type":"message","id":"m","conversation":"us","user":"carol","text":"not a member"}"#,
        r#"{"type":"message","id":"m","conversation":"us","user":"alice"}"#,
        r#"{"type":"message","id":"m","conversation":"us","user":"alice","text":"x","colour":"red"}"#,
        r#"{"type":"edit","id":"m","conversation":"us","user":"alice","text":"x","target":{"id":"none","user":"alice"}}"#,
        r#"{"type":"message","id":"hi","conversation":"us","user":"bob","text":"another text"}"#,
        r#"{"type":"message","id":"ok","conversation":"us","user":"alice","text":"fine"}"#,
        r#"{"type":"message","id":"t","conversation":"us","user":"alice","time":-1,"text":"before 1970"}"#,
        r#"{"type":"conversation","id":"early","user":"alice","time":-1,"kind":"group"}"#,
        r#"{"type":"block","id":"alice"}"#,
        r#"{"type":"block","id":"nobody","user":"alice"}"#,
        r#"{"type":"block","id":"alice","user":"nobody"}"#,
    ];
    let long = format!(
        r#"{{"type":"message","id":"l","conversation":"us","user":"alice","text":"{}"}}"#,
        "x".repeat(2 << 20)
    );
    // Behind a block nothing gets into the 1:1.
    let sample: String = SAMPLE.lines().take(16).map(|line| format!("{line}\n")).collect();
    let text = format!("{sample}\n{}\n{long}\n", broken.join("\n"));
    let (report, refused) = store.import(&text).await;
    let mut lines: Vec<u64> = refused.iter().map(|(line, _)| *line).collect();
    lines.sort_unstable();
    assert_eq!(lines, [18, 19, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 31]);
    assert_eq!((report.stored, report.refused), (17, 13));
}

/// A block counts for the lines behind it, and lines before it get in also when they are read with it.
#[tokio::test]
async fn a_block_counts_where_it_stands_in_the_file() {
    let store = Store::new(1);
    let lines = [
        r#"{"type":"user","id":"ann"}"#,
        r#"{"type":"user","id":"ben"}"#,
        r#"{"type":"conversation","id":"us","user":"ann","kind":"direct","members":[{"user":"ben"}]}"#,
        r#"{"type":"message","id":"1","conversation":"us","user":"ben","text":"before"}"#,
        r#"{"type":"block","id":"ben","user":"ann"}"#,
        r#"{"type":"message","id":"2","conversation":"us","user":"ben","text":"behind"}"#,
    ];
    let (report, refused) = store.import(&lines.join("\n")).await;
    assert_eq!((report.stored, report.refused, refused[0].0), (5, 1, 6));
    let (report, refused) = store.import(&lines.join("\n")).await;
    assert_eq!((report.known, report.stored, refused[0].0), (5, 0, 6));
}

/// A time of 0 is none, as everywhere: the line counts as written now.
#[tokio::test]
async fn a_time_of_zero_is_none() {
    let store = Store::new(1);
    let lines = [
        r#"{"type":"user","id":"ann"}"#,
        r#"{"type":"conversation","id":"c","user":"ann","time":0,"kind":"group"}"#,
        r#"{"type":"message","id":"m","conversation":"c","user":"ann","time":0,"text":"x"}"#,
    ];
    assert_eq!(store.import(&lines.join("\n")).await.1, []);
    let exported = store.export().await;
    assert_eq!(exported.matches(r#""time":9000"#).count(), 2, "{exported}");
}

/// What a user became since the first run is newer than the file; what that run did not get to is made up for.
#[tokio::test]
async fn i2_a_second_run_takes_nothing_back_that_happened_to_a_user_since() {
    let (store, now) = (Store::new(1), UnixMillis(10_000));
    let lines = [
        r#"{"type":"user","id":"ann","name":"Ann"}"#,
        r#"{"type":"user","id":"ben","name":"Ben","deactivated":true}"#,
        r#"{"type":"user","id":"cat","name":"Cat","deactivated":true}"#,
    ];
    let (ann, ben, cat) = (user("ann"), user("ben"), user("cat"));
    let directory = &store.backends.directory;
    // An earlier run broke off behind the name.
    directory.upsert_user(&cat, "Cat", now).await.unwrap();
    let (report, _) = store.import(&lines.join("\n")).await;
    assert_eq!((report.stored, report.known), (2, 1));
    directory.upsert_user(&ann, "Anna", now).await.unwrap();
    let back = directory.set_deactivated(&ben, false, now).await.unwrap();
    let (report, _) = store.import(&lines.join("\n")).await;
    assert_eq!((report.stored, report.known), (0, 3));
    let users = directory.users(&[ann, ben, cat]).await.unwrap();
    assert_eq!(users[0].display_name, "Anna");
    assert_eq!(users[1], back);
    assert!(users[2].deactivated);
}

/// Lines of two conversations, by turns: enough that a fault meets many in flight.
fn long_file() -> String {
    let mut lines = vec![r#"{"type":"user","id":"ann"}"#.to_owned()];
    for room in ["one", "two"] {
        lines.push(format!(
            r#"{{"type":"conversation","id":"{room}","user":"ann","kind":"group","time":1}}"#
        ));
    }
    for number in 0..300 {
        for room in ["one", "two"] {
            lines.push(format!(
                r#"{{"type":"message","id":"m{number}","conversation":"{room}","user":"ann","time":2,"text":"{number}"}}"#
            ));
        }
    }
    lines.join("\n")
}

/// A store that fails once, at whichever append, in whichever way: every line before the one that is named is stored, none
/// behind it in its conversation is, and a second run ends as if nothing had been.
#[tokio::test]
async fn i3_an_import_stops_where_the_store_fails_and_goes_on_in_order() {
    let undisturbed = Store::new(1);
    undisturbed.import(&long_file()).await;
    let undisturbed = undisturbed.export().await;
    for (at, refused) in [(2, true), (4, true), (5, true), (7, true), (4, false), (7, false)] {
        let mut store = Store::new(1);
        let whole = store.backends.clone();
        let lies = lying(move |number, _| match number.cmp(&at) {
            Equal if refused => Some(Lie::Refused),
            // One of the two is tried more often than the rules try before they say that nobody knows.
            Equal | Greater if !refused && number < at + 11 => Some(Lie::LostBefore),
            _ => None,
        });
        store.backends.log = lies(Arc::clone(&store.backends.log));
        let stopped = store.try_import(&long_file()).await.unwrap_err();
        let ImportError::Store { line, .. } = stopped else {
            panic!("{stopped}");
        };
        store.backends = whole;
        let exported = store.export().await;
        for (number, text) in (1..).zip(long_file().lines()).skip(3) {
            let room = |text: &str| text.contains(r#""conversation":"one""#);
            let named = long_file().lines().nth(usize::try_from(line).unwrap() - 1).map(room);
            let is_stored = exported.contains(text);
            assert!(
                is_stored || number >= line,
                "append {at}: line {number} of {line} is missing"
            );
            let behind = number >= line && named == Some(room(text));
            assert!(
                !(is_stored && behind),
                "append {at}: line {number} is stored, not {line}"
            );
        }
        assert_eq!(store.import(&long_file()).await.1, []);
        assert_eq!(store.export().await, undisturbed, "append {at}");
    }
}

#[tokio::test]
async fn the_sample_in_many_scripts_comes_through_unchanged() {
    let sample = include_str!("../../../tests/data/sample.jsonl");
    let (one, two) = (Store::new(1), Store::new(2));
    let (report, refused) = one.import(sample).await;
    assert_eq!(refused, []);
    assert_eq!(report.stored, report.lines);
    let first = one.export().await;
    assert_eq!(two.import(&first).await.1, []);
    assert_eq!(two.export().await, first);
    let kept = |line: &&str| line.contains(r#""type":"message""#) && !line.contains("regret");
    let exported: std::collections::BTreeSet<&str> = first.lines().collect();
    let lost: Vec<&str> = sample
        .lines()
        .filter(kept)
        .filter(|line| !exported.contains(line))
        .collect();
    assert_eq!(lost, Vec::<&str>::new());
}
