//! The corpora as ordinary tests, and what must hold of the folder that the fuzzer runs in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item};

use super::TARGETS;

/// Fewest seeds of a target.
const MIN_SEEDS: usize = 8;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-tests/fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("readable").file_name().into_string().expect("UTF-8")
    };
    entries.map(name).collect()
}

#[test]
fn every_seed_of_every_corpus_holds() {
    for (target, run) in TARGETS {
        let corpus = folder().join("corpus").join(target);
        let seeds = names(&corpus);
        assert!(seeds.len() >= MIN_SEEDS, "{target} has only {} seeds", seeds.len());
        for seed in seeds {
            let input = fs::read(corpus.join(&seed)).expect("readable");
            let outcome = std::panic::catch_unwind(|| run(&input));
            assert!(outcome.is_ok(), "the seed {seed} of {target} fails, as the lines above say");
        }
    }
}

#[test]
fn each_target_has_a_program_and_a_corpus_and_there_are_no_others() {
    let expected: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder().join("corpus")), expected);
    let sources = names(&folder().join("fuzz_targets"));
    assert_eq!(sources, expected.iter().map(|name| format!("{name}.rs")).collect());
    let manifest = read("protocol-tests/fuzz/Cargo.toml");
    let programs = manifest["bin"].as_array_of_tables().expect("[[bin]]");
    assert_eq!(programs.iter().map(|program| text(&program["name"])).collect::<BTreeSet<_>>(), expected);
    for name in &expected {
        let source = fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).expect("read");
        assert!(source.contains(&format!("switchboard::fuzzing::{name}")), "{name} runs another target");
    }
}

fn read(path: &str) -> DocumentMut {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(path).expect("readable").parse().expect("TOML")
}

fn text(item: &Item) -> String {
    item.as_str().expect("a string").to_owned()
}

/// Names that a manifest's table has.
fn keys(manifest: &DocumentMut, table: &str) -> BTreeSet<String> {
    manifest[table].as_table_like().expect("a table").iter().map(|(name, _)| name.to_owned()).collect()
}

/// What a lock file says of each version of each crate: its checksum, and the names of what it uses.
type Lock = BTreeMap<(String, String), (Option<String>, BTreeSet<String>)>;

fn lock(path: &str) -> Lock {
    let document = read(path);
    let packages = document["package"].as_array_of_tables().expect("[[package]]");
    let package = |table: &toml_edit::Table| {
        let uses = table.get("dependencies").and_then(Item::as_array).into_iter().flatten();
        let uses =
            uses.map(|it| it.as_str().expect("a string").split(' ').next().unwrap_or_default().to_owned());
        let checksum = table.get("checksum").map(text);
        ((text(&table["name"]), text(&table["version"])), (checksum, uses.collect()))
    };
    packages.iter().map(package).collect()
}

/// The fuzzer has a lock file of its own, since its runtime is no dependency of the program. Cargo would bring it up to
/// date by itself when somebody fuzzes; but then the versions that are fuzzed are not those that are shipped.
#[test]
fn the_lock_file_of_the_fuzzer_fits_that_of_the_program() {
    const STALE: &str = "protocol-tests/fuzz/Cargo.lock is stale: cp Cargo.lock protocol-tests/fuzz/ && \
        cargo update --workspace --manifest-path protocol-tests/fuzz/Cargo.toml";
    let (program, fuzzer) = (lock("Cargo.lock"), lock("protocol-tests/fuzz/Cargo.lock"));
    let manifest = read("Cargo.toml");
    let uses = |lock: &Lock, name: &str| {
        let package = lock.iter().find(|((found, _), _)| found == name);
        package.unwrap_or_else(|| panic!("{name} is in no lock file: {STALE}")).1.1.clone()
    };
    assert_eq!(uses(&fuzzer, "switchboard"), keys(&manifest, "dependencies"), "{STALE}");
    let own = keys(&read("protocol-tests/fuzz/Cargo.toml"), "dependencies");
    assert_eq!(uses(&fuzzer, "switchboard-fuzz"), own, "{STALE}");
    let runtime = reached_from("libfuzzer-sys", &fuzzer);
    for (package @ (name, version), (checksum, _)) in &fuzzer {
        match program.get(package) {
            Some((expected, _)) => assert_eq!(checksum, expected, "{name} {version}: {STALE}"),
            None => {
                assert!(runtime.contains(name) || name == "switchboard-fuzz", "{name} {version}: {STALE}")
            }
        }
    }
    // What the program is built from without its tests is all there, in the same versions.
    for name in reached_from("switchboard", &fuzzer) {
        let versions = |lock: &Lock| {
            let of_name = lock.keys().filter(|(found, _)| *found == name);
            of_name.map(|(_, version)| version.clone()).collect::<BTreeSet<_>>()
        };
        assert!(
            versions(&program).is_superset(&versions(&fuzzer)) || runtime.contains(&name),
            "{name}: {STALE}"
        );
    }
}

/// A crate and all that it uses.
fn reached_from(name: &str, lock: &Lock) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![name.to_owned()];
    while let Some(name) = waiting.pop() {
        if reached.insert(name.clone()) {
            let found = lock.iter().filter(|((found, _), _)| *found == name);
            waiting.extend(found.flat_map(|(_, (_, uses))| uses.iter().cloned()));
        }
    }
    reached
}
