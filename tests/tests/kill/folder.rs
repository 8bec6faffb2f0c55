//! The data folder: in use, read-only, damaged. A clean refusal that says why, never silent loss.

use std::fs;
use std::path::{Path, PathBuf};

use stonechat_host::{Random, SeededRandom};
use stonechat_tests::harness::{Bench, Exit, Sender, ServerProcess, each_once};

/// Places of damage tried on whole processes; the store's own tests take a thousand.
const DAMAGES: u64 = 24;

#[tokio::test]
async fn a_folder_in_use_is_refused_and_its_server_goes_on() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let folder = bench.server.data_folder();
    let mut second = ServerProcess::prepare(&[]);
    second.spawn_on(&folder);
    assert_ne!(second.wait().await, Exit::Code(0), "{}", second.log_tail());
    let told = second.log_tail().to_lowercase();
    assert!(told.contains("use") || told.contains("lock"), "says why: {told}");
    bench.send(&mut alice, &room, "unharmed").await;
}

#[tokio::test]
async fn a_file_in_place_of_the_folder_is_refused() {
    let mut server = ServerProcess::prepare(&[]);
    let folder = server.data_folder();
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("file");
    fs::write(&file, "in the way").expect("a file");
    server.spawn_on(&file);
    assert_ne!(server.wait().await, Exit::Code(0), "{}", server.log_tail());
    let told = server.log_tail();
    assert!(told.contains("cannot be made: File exists"), "says why: {told}");
    assert_eq!(fs::read(&file).expect("a file"), b"in the way");
}

/// Files that hold the log.
fn store_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the data folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            store_files(&path, found);
        } else if !path.to_string_lossy().contains("directory.sqlite") && !path.ends_with("secret.hs256") {
            found.push(path);
        }
    }
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the data folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

/// F4 on whole processes: one flipped bit somewhere in the store. Either a clean refusal, or everything is there.
#[tokio::test]
async fn a_flipped_bit_is_refused_or_harmless_and_never_loses_silently() {
    let mut bench = Bench::start(&["--conversation-entries-per-second", "100000"]).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = Sender::new("alice", &room);
    alice.connect(&bench).await;
    alice.send(60).await;
    alice.answers().await;
    bench.server.kill().await;
    let whole = tempfile::tempdir().expect("a folder");
    let folder = bench.server.data_folder();
    copy_folder(&folder, whole.path());
    let seed = 4;
    println!("seed {seed}");
    let random = SeededRandom::new(seed);
    let (mut refused, mut harmless) = (0, 0);
    for _ in 0..DAMAGES {
        fs::remove_dir_all(&folder).expect("own folder");
        copy_folder(whole.path(), &folder);
        let what = damage(&folder, &random);
        bench.server.spawn(None);
        if bench.server.ready_or_gone().await {
            each_once(&bench, &room, &[&alice]).await;
            bench.server.kill().await;
            harmless += 1;
        } else {
            assert!(!bench.server.log_tail().trim().is_empty(), "says why: {what}");
            refused += 1;
        }
    }
    println!("{DAMAGES} flipped bits: {refused} refused, {harmless} harmless, 0 silently lost");
    assert!(refused > 0, "no flipped bit was noticed");
    assert_eq!(refused + harmless, DAMAGES);
}

/// Flips one bit in the part of a file that has been written to.
fn damage(folder: &Path, random: &SeededRandom) -> String {
    let mut files = Vec::new();
    store_files(folder, &mut files);
    files.sort();
    files.retain(|path| written(path) > 0);
    let index = usize::try_from(random.below(files.len() as u64)).unwrap_or(0);
    let mut bytes = fs::read(&files[index]).expect("a file");
    let place = usize::try_from(random.below(written(&files[index]) as u64)).unwrap_or(0);
    bytes[place] ^= 1 << random.below(8);
    fs::write(&files[index], bytes).expect("a file");
    let what = format!("bit in byte {place} of {}", files[index].display());
    println!("{what}");
    what
}

/// Bytes up to the last one that is not zero: files are allocated ahead.
fn written(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
