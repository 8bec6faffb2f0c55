//! F4: damage at random places gives a typed refusal or the right answers, never wrong ones.
//!
//! `STONECHAT_DAMAGE_OFFSETS=10000 cargo test -p stonechat-server --lib damage` takes ten thousand places of each kind.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use stonechat_host::{Host, Random, SeededRandom};
use tempfile::TempDir;

use super::{data, fresh, open};
use crate::domain::Seq;
use crate::storage::contract::samples::{append, conversation, edit, everything, message, redact, seqs, wish};
use crate::storage::embedded::fault::Fault;
use crate::storage::embedded::journal::batch_ends;
use crate::storage::embedded::keys::Space;
use crate::storage::embedded::{EmbeddedStore, INLINE_READS_MAX, OpenError};
use crate::storage::{MessageLog, ReadError, StoredEntry};

const CONVERSATIONS: u16 = 4;
const ROUNDS: usize = 30;

fn offsets() -> usize {
    let asked = std::env::var("STONECHAT_DAMAGE_OFFSETS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1_000)
}

/// Ends the process, loudly, when a step takes longer than any should: a store that never opens or closes would otherwise hold
/// its test, and everything behind it, for ever.
struct Watchdog(mpsc::Sender<String>);

impl Watchdog {
    /// Far more than a step takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(120);

    fn start() -> Self {
        let (steps, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let mut last = "the start".to_owned();
            loop {
                match heard.recv_timeout(Self::PATIENCE) {
                    Ok(step) => last = step,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        // Not by a macro, whose output would be kept for a result that never comes.
                        let _lost = writeln!(io::stderr(), "no end of: {last}\nthreads: {}", threads());
                        std::process::abort();
                    }
                }
            }
        });
        Self(steps)
    }

    fn step(&self, what: &str, done: &str) {
        self.0.send(format!("{what}, after {done}")).expect("it listens");
    }
}

/// What each thread of this process waits for, as far as the kernel tells.
fn threads() -> String {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let told = tasks.map(|task| {
        let of = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        format!("\n  {} {} {}", of("comm").trim(), of("wchan"), of("syscall").trim())
    });
    told.collect()
}

/// A store that was closed, and what every commit acknowledged.
struct Master {
    folder: TempDir,
    /// What the log of each conversation was after each commit.
    history: Vec<Vec<Vec<Arc<StoredEntry>>>>,
}

/// One append is one commit here: nobody else writes.
async fn master() -> Master {
    let (store, folder) = fresh();
    let mut history = vec![vec![Vec::new(); usize::from(CONVERSATIONS)]];
    for round in 0..ROUNDS {
        for number in 0..CONVERSATIONS {
            let target = u64::try_from(round).expect("small");
            let wishes = match round % 5 {
                3 => vec![edit(&format!("e{round}"), target)],
                4 => vec![redact(&format!("r{round}"), target - 2), message(&format!("x{round}"))],
                _ => vec![message(&format!("a{round}")), message(&"b".repeat(round + 1))],
            };
            append(&store, conversation(number), &wishes).await.expect("appended");
            let mut now = history.last().expect("a start").clone();
            now[usize::from(number)] = everything(&store, conversation(number)).await;
            history.push(now);
        }
    }
    drop(store);
    // Opening once more cuts the room that the engine reserved, so that copies are small.
    drop(open(&data(&folder)));
    Master { folder, history }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for found in fs::read_dir(from).expect("readable") {
        let found = found.expect("readable").path();
        let target = to.join(found.file_name().expect("named"));
        if found.is_dir() {
            copy_folder(&found, &target);
        } else {
            fs::copy(&found, &target).expect("copied");
        }
    }
}

/// In memory where there is such a place: thousands of stores are opened, and none of them must outlive anything.
fn quick_folder() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a folder")
}

impl Master {
    fn copy(&self) -> TempDir {
        let folder = quick_folder();
        copy_folder(&data(&self.folder), &data(&folder));
        folder
    }

    /// Commits of appends whose journal bytes all lie before `at`.
    fn commits_before(&self, at: usize) -> usize {
        let ends = batch_ends(&journal(&self.folder));
        // The first commit made the store.
        ends.iter().filter(|end| **end <= at as u64).count().saturating_sub(1)
    }

    /// The number of commits whose state the store shows; panics when it shows any other state.
    async fn state_of(&self, store: &EmbeddedStore) -> usize {
        let mut now = Vec::new();
        for number in 0..CONVERSATIONS {
            now.push(everything(store, conversation(number)).await);
        }
        let state = self.history.iter().rposition(|state| *state == now);
        state.expect("a state that was once acknowledged, not another")
    }
}

fn journal(folder: &TempDir) -> PathBuf {
    data(folder).join("log/0.jnl")
}

/// Cuts, flips a bit, or overwrites up to 600 bytes with zeros; returns what it did.
fn damage(bytes: &mut Vec<u8>, at: usize, kind: u64, random: &SeededRandom) -> String {
    let bit = random.below(8);
    let length = usize::try_from(random.below(600)).expect("small") + 1;
    match kind {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << bit,
        _ => {
            let end = bytes.len().min(at + length);
            bytes[at..end].fill(0);
        }
    }
    format!("kind {kind} at {at}, bit {bit}, length {length}")
}

fn random_offset(bytes: &[u8], random: &SeededRandom) -> usize {
    usize::try_from(random.below(bytes.len() as u64)).expect("an index")
}

fn is_typed(error: &OpenError) -> bool {
    matches!(error, OpenError::Damaged { .. })
}

/// Everything was acknowledged, and ACKED says so: whatever is damaged, the store opens whole or not at all.
#[tokio::test]
async fn acknowledged_data_that_is_damaged_is_never_lost_silently() {
    let master = master().await;
    let random = SeededRandom::new(0xF4);
    let mut refused = 0;
    let watchdog = Watchdog::start();
    for _ in 0..offsets() {
        let copy = master.copy();
        let mut bytes = fs::read(journal(&copy)).expect("readable");
        let at = random_offset(&bytes, &random);
        let done = damage(&mut bytes, at, random.below(3), &random);
        fs::write(journal(&copy), &bytes).expect("written");
        watchdog.step("opening and closing", &done);
        match EmbeddedStore::open(&data(&copy), &Host::system()) {
            Ok(store) => assert_eq!(master.state_of(&store).await, master.history.len() - 1, "{done}"),
            Err(error) => {
                assert!(is_typed(&error), "{done}: {error}");
                assert_eq!(
                    fs::read(journal(&copy)).expect("readable"),
                    bytes,
                    "{done}: refused, but changed"
                );
                refused += 1;
            }
        }
    }
    println!(
        "acknowledged data damaged at {} places: {refused} refused, the rest whole",
        offsets()
    );
    assert!(
        refused * 10 > offsets() * 9,
        "only {refused} of {} were noticed",
        offsets()
    );
}

/// After a loss of power ACKED may be behind. Then a cut or damaged last batch is taken for a torn tail, which it may
/// be; all before it is there, and damage with a batch after it is still noticed.
#[tokio::test]
async fn with_acked_behind_all_before_the_damage_is_there_and_nothing_is_wrong() {
    let master = master().await;
    let random = SeededRandom::new(0xF5);
    let (mut opened, mut refused) = (0, 0);
    let watchdog = Watchdog::start();
    for _ in 0..offsets() {
        let copy = master.copy();
        drop(super::super::witness::Witness::open(&data(&copy), 1).expect("set back"));
        let mut bytes = fs::read(journal(&copy)).expect("readable");
        // Near the end as often as anywhere: the last batch is a small part of the whole.
        let near_end = bytes.len() - 1 - random_offset(&bytes[..400], &random);
        let at = if random.below(2) == 0 {
            near_end
        } else {
            random_offset(&bytes, &random)
        };
        let done = damage(&mut bytes, at, random.below(3), &random);
        fs::write(journal(&copy), &bytes).expect("written");
        watchdog.step("opening", &done);
        match EmbeddedStore::open(&data(&copy), &Host::system()) {
            Ok(store) => {
                watchdog.step("reading", &done);
                let state = master.state_of(&store).await;
                assert!(
                    state >= master.commits_before(at),
                    "{done}: commit {state} is too early"
                );
                watchdog.step("appending", &done);
                append(&store, conversation(0), &[message("after")])
                    .await
                    .expect("goes on");
                watchdog.step("closing", &done);
                drop(store);
                opened += 1;
            }
            Err(error) => {
                assert!(is_typed(&error), "{done}: {error}");
                refused += 1;
            }
        }
    }
    println!(
        "{} tails without ACKED: {opened} opened with all before the damage, {refused} refused",
        offsets()
    );
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

/// A clean journal needs no witness; a torn one without it may have lost anything.
#[tokio::test]
async fn without_acked_a_clean_store_opens_and_a_torn_one_does_not() {
    let master = master().await;
    for torn in [false, true] {
        for damaged in [None, Some(&b"rubbish"[..])] {
            let copy = master.copy();
            let acked = data(&copy).join("ACKED");
            damaged
                .map_or_else(|| fs::remove_file(&acked), |bytes| fs::write(&acked, bytes))
                .expect("changed");
            if torn {
                let bytes = fs::read(journal(&copy)).expect("readable");
                fs::write(journal(&copy), &bytes[..bytes.len() - 3]).expect("written");
            }
            match EmbeddedStore::open(&data(&copy), &Host::system()) {
                Ok(store) => {
                    assert!(!torn);
                    assert_eq!(master.state_of(&store).await, master.history.len() - 1);
                }
                Err(error) => assert!(torn && is_typed(&error), "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn a_lost_journal_is_noticed() {
    let master = master().await;
    for empty in [false, true] {
        let copy = master.copy();
        fs::remove_file(journal(&copy)).expect("removed");
        if empty {
            fs::write(journal(&copy), []).expect("written");
        }
        let opened = EmbeddedStore::open(&data(&copy), &Host::system());
        assert!(opened.is_err_and(|error| is_typed(&error)));
    }
}

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files_under(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Reads all of a store whose tables may be damaged: the right answers or a typed error.
async fn check_reads(store: &EmbeddedStore, wanted: &[Arc<StoredEntry>], what: &str) -> bool {
    let here = conversation(1);
    let wide = crate::storage::contract::samples::WIDE;
    let read = match store.read(here, Seq(1), Seq(u64::MAX), wide).await {
        Ok(read) => read,
        Err(ReadError::Corrupt(_) | ReadError::Unavailable(_)) => return false,
    };
    assert_eq!(read, wanted, "{what}");
    for stored in wanted {
        let entry = &stored.entry;
        match store.find(here, &entry.sender, &entry.client_msg_id, Seq::ZERO).await {
            Ok(found) => assert_eq!(found.map(|prior| prior.seq), Some(entry.seq), "{what}"),
            Err(ReadError::Corrupt(_) | ReadError::Unavailable(_)) => return false,
        }
    }
    true
}

/// The same for tables and their lists: one flipped bit anywhere in the engine's other files.
#[tokio::test]
async fn a_flipped_bit_in_any_table_or_list_is_noticed_or_harmless() {
    let (store, folder) = fresh();
    let here = conversation(1);
    for round in 0..40 {
        let body = crate::domain::Body::Message(crate::storage::contract::samples::text(&"t".repeat(500)));
        append(&store, here, &[wish(&format!("m{round}"), body)])
            .await
            .expect("appended");
    }
    for space in [Space::Entries, Space::Index, Space::Users] {
        store
            .engine
            .keyspace(space)
            .rotate_memtable_and_wait()
            .expect("flushed");
    }
    let wanted = everything(&store, here).await;
    assert_eq!(seqs(&wanted), (1..=40).collect::<Vec<_>>());
    drop(store);
    drop(open(&data(&folder)));
    let mut files = Vec::new();
    files_under(&data(&folder).join("log/keyspaces"), &mut files);
    files.retain(|path| fs::metadata(path).expect("there").len() > 0);
    assert!(
        files
            .iter()
            .any(|path| path.parent().is_some_and(|parent| parent.ends_with("tables")))
    );

    let random = SeededRandom::new(0xF6);
    let mut noticed = 0;
    let watchdog = Watchdog::start();
    for _ in 0..offsets() {
        let copy = quick_folder();
        copy_folder(&data(&folder), &data(&copy));
        let file = &files[usize::try_from(random.below(files.len() as u64)).expect("an index")];
        let file = data(&copy).join(file.strip_prefix(data(&folder)).expect("inside"));
        let mut bytes = fs::read(&file).expect("readable");
        let at = random_offset(&bytes, &random);
        bytes[at] ^= 1 << random.below(8);
        fs::write(&file, bytes).expect("written");
        let what = format!("byte {at} of {}", file.display());
        watchdog.step("opening, reading and closing", &what);
        match EmbeddedStore::open(&data(&copy), &Host::system()) {
            Ok(store) => noticed += usize::from(!check_reads(&store, &wanted, &what).await),
            Err(OpenError::Damaged { .. } | OpenError::Unavailable { .. }) => noticed += 1,
            Err(other) => panic!("{what}: {other}"),
        }
    }
    println!(
        "{} flipped bits in tables and lists: {noticed} noticed, the rest harmless",
        offsets()
    );
    assert!(noticed > 0, "no flip was noticed at all");
}

/// I5, F4: what makes the engine panic is damage to whoever asked, wherever it is read: a session goes on without it.
#[tokio::test]
async fn a_panic_of_the_engine_is_damage_on_this_thread_and_on_another() {
    let (store, _folder) = fresh();
    for rows in [1, INLINE_READS_MAX, INLINE_READS_MAX + 1] {
        let read = store.reading(rows, |_| -> Result<(), Fault> { panic!("the engine is told to panic") });
        let fault = read.await.expect_err("it gave up");
        assert!(fault.to_string().contains("the engine gave up"), "{rows}: {fault}");
    }
}
