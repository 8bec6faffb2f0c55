//! Import and export on in-memory backends: the same content gives the same bytes, and a second run stores nothing.

use std::sync::Arc;

use stonechat_host::{Host, ManualClock, SeededRandom};

use super::{Progress, Report, export, import};
use crate::bus::embedded::EmbeddedBus;
use crate::conversation::{Backends, Conversations, Limits};
use crate::domain::Refusal;
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
"#;

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
        let rules = Conversations::new(self.backends.clone(), self.host.clone(), Limits::unpaced());
        let mut refused = Refused::default();
        let report = import(&rules, &self.backends, &self.host, text.as_bytes(), &mut refused)
            .await
            .unwrap();
        (report, refused.0)
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
    assert_eq!((report.lines, report.stored), (16, 16));
    let first = one.export().await;
    assert_eq!(two.import(&first).await.1, []);
    let second = two.export().await;
    assert_eq!(first, second);
    assert!(first.contains("👩‍👩‍👧‍👦 שלום é") && !first.contains("re!") && first.lines().count() == 16);
}

#[tokio::test]
async fn i2_a_second_run_and_a_broken_off_run_store_nothing_twice() {
    let store = Store::new(1);
    let half: String = SAMPLE.lines().take(9).map(|line| format!("{line}\n")).collect();
    store.import(&half).await;
    let (report, refused) = store.import(SAMPLE).await;
    assert_eq!((report.stored, report.known, refused), (7, 9, vec![]));
    let whole = store.export().await;
    let (again, refused) = store.import(SAMPLE).await;
    assert_eq!((again.stored, again.known, refused), (0, 16, vec![]));
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
    ];
    let long = format!(
        r#"{{"type":"message","id":"l","conversation":"us","user":"alice","text":"{}"}}"#,
        "x".repeat(2 << 20)
    );
    let text = format!("{SAMPLE}\n{}\n{long}\n", broken.join("\n"));
    let (report, refused) = store.import(&text).await;
    let mut lines: Vec<u64> = refused.iter().map(|(line, _)| *line).collect();
    lines.sort_unstable();
    assert_eq!(lines, [18, 19, 20, 21, 22, 23, 24, 26]);
    assert_eq!((report.stored, report.refused), (17, 8));
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
