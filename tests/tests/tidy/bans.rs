//! What `deny.toml` bans is not in the tree that is built: `cargo deny` is a tool that not everybody has, and a ban that nobody
//! checks is a wish.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::source::root;

/// The features of each crate in the tree, by its name.
type Tree = BTreeMap<String, Vec<String>>;

/// What is banned: crates, and features of crates.
struct Bans {
    crates: Vec<String>,
    features: Vec<(String, Vec<String>)>,
}

impl Bans {
    fn read(text: &str) -> Self {
        let table: toml::Table = text.parse().expect("TOML");
        let name = |value: &toml::Value| value["crate"].as_str().expect("a crate").to_owned();
        let list = |name: &str| table["bans"].get(name).and_then(toml::Value::as_array).cloned();
        let features = list("features").unwrap_or_default();
        let denied = |value: &toml::Value| {
            let denied = value["deny"].as_array().expect("features");
            denied
                .iter()
                .map(|name| name.as_str().expect("a name").to_owned())
                .collect()
        };
        Self {
            crates: list("deny").unwrap_or_default().iter().map(name).collect(),
            features: features.iter().map(|value| (name(value), denied(value))).collect(),
        }
    }

    fn broken_by(&self, tree: &Tree) -> Vec<String> {
        let there = self.crates.iter().filter(|name| tree.contains_key(*name));
        let mut found: Vec<String> = there.map(|name| format!("{name} is in the tree")).collect();
        for (name, denied) in &self.features {
            let on = tree.get(name).into_iter().flatten().filter(|on| denied.contains(on));
            found.extend(on.map(|feature| format!("{name} has the feature {feature}")));
        }
        found
    }
}

/// What cargo builds on this machine when every feature of ours is on. The lock file alone would not do: it has crates that
/// nobody turned on, and no features.
fn tree() -> Tree {
    let cargo = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--workspace", "--all-features", "--prefix", "none"])
        .args(["--format", "{p}\t{f}\t"])
        .current_dir(root())
        .output()
        .expect("cargo, which built this");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    parse(&String::from_utf8_lossy(&cargo.stdout))
}

/// Each line is a package, its features, and perhaps a mark; a package may come again.
fn parse(text: &str) -> Tree {
    let mut tree = Tree::new();
    for line in text.lines() {
        let mut columns = line.split('\t');
        let name = columns.next().and_then(|package| package.split(' ').next());
        let features = columns.next().unwrap_or_default().split(',').map(str::to_owned);
        // Two versions of one crate count as one that has the features of both.
        tree.entry(name.unwrap_or_default().to_owned())
            .or_default()
            .extend(features);
    }
    tree
}

#[test]
fn what_is_banned_is_not_in_the_tree() {
    let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let (bans, tree) = (Bans::read(&text), tree());
    assert!(bans.crates.len() >= 3 && !bans.features.is_empty());
    for (name, _) in &bans.features {
        assert!(
            tree.contains_key(name),
            "{name} is banned in part, and not there at all"
        );
    }
    assert_eq!(bans.broken_by(&tree), Vec::<String>::new());
}

#[test]
fn what_is_banned_is_found() {
    let bans = Bans::read(
        "[bans]\ndeny = [{ crate = \"old\" }]\n[[bans.features]]\ncrate = \"parser\"\ndeny = [\"no-limit\"]\n",
    );
    let broken = |features: &str, more: &str| {
        let text = format!(
            "ours v0.1.0 (/ours)\t\t\nparser v1.2.3\t{features}\t\n{more} v1.0.0\t\t\nparser v1.2.3\tstd\t (*)\n"
        );
        bans.broken_by(&parse(&text))
    };
    assert!(broken("std,derive", "new").is_empty());
    assert_eq!(broken("std,no-limit", "new"), ["parser has the feature no-limit"]);
    assert_eq!(broken("", "old"), ["old is in the tree"]);
}
