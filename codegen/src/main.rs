//! Writes the committed Rust stubs of `proto/` into `proto/src/gen`; `--check` writes nothing and fails on drift.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const OUT_DIR: &str = "proto/src/gen";
const DESCRIPTOR_FILE: &str = "descriptor.bin";
const BETWEEN_NODES: &str = "stonechat/node/";

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("codegen has no parent folder")?;
    let fresh = tempfile::tempdir()?;
    generate(&root.join("proto"), fresh.path())?;
    let committed = root.join(OUT_DIR);
    if std::env::args().any(|arg| arg == "--check") {
        check(&committed, fresh.path())
    } else {
        replace(&committed, fresh.path())
    }
}

/// Compiles every proto file below `proto_root` into `out`, with protox: no protoc is needed.
fn generate(proto_root: &Path, out: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect_protos(&proto_root.join("stonechat"), &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [proto_root])?;
    let mut stripped = descriptors.clone();
    // What nodes tell each other is no part of the contract that clients see by reflection.
    stripped.file.retain(|file| !file.name().starts_with(BETWEEN_NODES));
    for file in &mut stripped.file {
        file.source_code_info = None;
    }
    fs::write(out.join(DESCRIPTOR_FILE), stripped.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .include_file("mod.rs")
        .out_dir(out)
        .compile_fds(descriptors)?;
    Ok(())
}

fn collect_protos(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_protos(&path, found)?;
        } else if path.extension().is_some_and(|ext| ext == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn read_folder(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut contents = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().ok_or("file without a name")?;
        contents.insert(name.to_string_lossy().into_owned(), fs::read(&path)?);
    }
    Ok(contents)
}

fn check(committed: &Path, fresh: &Path) -> Result<()> {
    let (old, new) = (read_folder(committed)?, read_folder(fresh)?);
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let drifted: Vec<&str> = names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(String::as_str)
        .collect();
    if drifted.is_empty() {
        println!("generated code is fresh: {} files", new.len());
        return Ok(());
    }
    Err(format!("generated code is stale ({drifted:?}): run `cargo run -p stonechat-codegen`").into())
}

fn replace(committed: &Path, fresh: &Path) -> Result<()> {
    if committed.exists() {
        fs::remove_dir_all(committed)?;
    }
    fs::create_dir_all(committed)?;
    for (name, content) in read_folder(fresh)? {
        fs::write(committed.join(name), content)?;
    }
    println!("wrote {OUT_DIR}");
    Ok(())
}
