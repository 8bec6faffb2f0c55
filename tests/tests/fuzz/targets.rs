//! The targets of the workspace `fuzz/`, which no build here includes: their files are compiled as they are, with a stand-in
//! for the macro of libFuzzer, so that a change which breaks one is seen at once.

use std::collections::BTreeSet;
use std::path::Path;

use stonechat_tests::fuzz;

/// Under the name that targets call it by, see `extern crate` in `main.rs`.
#[macro_export]
macro_rules! fuzz_target {
    (|$data:ident: &[u8]| $body:block) => {
        pub(crate) fn target($data: &[u8]) $body
    };
}

macro_rules! targets {
    ($($name:ident = $path:literal,)*) => {
        $(
            #[path = $path]
            #[allow(unused_attributes, reason = "libFuzzer brings the main function, and this file has none")]
            mod $name;
        )*

        const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::target)),*];
    };
}

targets! {
    cursors = "../../../fuzz/targets/cursors.rs",
    frames = "../../../fuzz/targets/frames.rs",
    import = "../../../fuzz/targets/import.rs",
    journal = "../../../fuzz/targets/journal.rs",
    key_set_token = "../../../fuzz/targets/key_set_token.rs",
    session = "../../../fuzz/targets/session.rs",
    token = "../../../fuzz/targets/token.rs",
    token_header = "../../../fuzz/targets/token_header.rs",
    validation = "../../../fuzz/targets/validation.rs",
    web_framing = "../../../fuzz/targets/web_framing.rs",
}

/// F15: each takes what a fuzzer begins with, nothing, and a frame.
#[test]
fn f15_every_target_takes_bytes() {
    let frame = fuzz::client_frames().concat();
    for (name, target) in TARGETS {
        println!("{name}");
        target(b"");
        target(&frame);
    }
}

/// A target that is not in this list, or not in the manifest, would be run by nobody.
#[test]
fn the_manifest_and_the_folder_name_the_same_targets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let files = std::fs::read_dir(folder.join("targets")).expect("a folder");
    let stem = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.expect("readable").path();
        path.file_stem().expect("a name").to_string_lossy().into_owned()
    };
    let files: BTreeSet<String> = files.map(stem).collect();
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("readable");
    let manifest: toml::Table = manifest.parse().expect("a manifest");
    let bins = manifest["bin"].as_array().expect("targets").iter();
    let named = bins.map(|bin| {
        let (name, path) = (bin["name"].as_str(), bin["path"].as_str());
        let name = name.expect("a name").to_owned();
        assert_eq!(path, Some(format!("targets/{name}.rs").as_str()));
        name
    });
    let here: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(named.collect::<BTreeSet<_>>(), here, "fuzz/Cargo.toml");
    assert_eq!(files, here, "fuzz/targets");
}
