//! The blocks of the documentation, and the settings that its pages name.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{fenced, printed};
use crate::documentation::{code, read};
use crate::harness::server::{binary, run};

/// Above each block stands the command that prints it.
const MARKER: &str = "<!-- switchboard laravel ";

/// The pages with blocks, and how many they have at least.
const PAGES: [(&str, usize); 3] =
    [("README.md", 2), ("docs/laravel.md", 14), ("examples/portal/README.md", 2)];

/// Whole files that are a block, below a comment with the command.
const FILES: [&str; 1] = ["examples/backend/.env.example"];

fn compare(file: &str, arguments: &str, found: &str) {
    let expected = printed(&arguments.split(' ').collect::<Vec<_>>());
    assert_eq!(
        found, expected,
        "{file} has another text than `switchboard laravel {arguments}` prints: copy the output there"
    );
}

#[test]
fn the_documented_blocks_are_what_the_command_prints() {
    for (file, least) in PAGES {
        let page = read(file).expect("the page");
        let blocks: Vec<_> = page.match_indices(MARKER).collect();
        assert!(blocks.len() >= least, "{file} has {} blocks with a marker", blocks.len());
        for (start, _) in blocks {
            let (marker, rest) = page[start..].split_once('\n').expect("a line");
            let arguments = marker.strip_prefix(MARKER).and_then(|text| text.strip_suffix(" -->"));
            assert!(rest.starts_with("```"), "{file}: {marker} is not followed by a block");
            compare(file, arguments.expect("a comment of one line"), &fenced(rest));
        }
    }
    for file in FILES {
        let text = read(file).unwrap_or_else(|| panic!("{file} is missing"));
        let (comment, block) = text.split_once('\n').expect("a comment");
        let arguments = comment.strip_prefix("# switchboard laravel ").expect("the command");
        compare(file, arguments, block);
    }
}

#[test]
fn the_blocks_of_all_forms_are_documented() {
    let page = read("docs/laravel.md").expect("the page");
    for (form, blocks) in [
        ("", &["commands", "env", "echo", "vue", "react"][..]),
        (" --form pusher", &["commands", "env", "echo", "vue", "react"]),
        (" --form mix", &["commands", "env", "broadcasting", "echo"]),
    ] {
        for block in blocks {
            let marker = format!("{MARKER}{block}{form} --example -->");
            assert!(page.contains(&marker), "docs/laravel.md lacks {marker}");
        }
    }
}

/// Keys of switchboard.toml in their dotted form, from `switchboard config docs --json`.
fn known_keys() -> BTreeSet<String> {
    let mut command = binary();
    command.args(["config", "docs", "--json"]);
    let docs: Value = serde_json::from_str(&run(command, "").stdout).expect("JSON");
    let keys = docs["keys"].as_array().expect("keys").iter();
    keys.map(|key| key["key"].as_str().expect("a name").to_owned()).collect()
}

/// The key that a piece of code names: dotted, or as a variable.
fn named_key(code: &str) -> Option<String> {
    let name = match code.strip_prefix("SWITCHBOARD__") {
        Some(variable) => {
            let name = variable.split('=').next().unwrap_or(variable);
            let parts = name.split("__").filter(|part| part.parse::<u32>().is_err());
            parts.map(str::to_ascii_lowercase).collect::<Vec<_>>().join(".")
        }
        None => code.to_owned(),
    };
    let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.');
    let sections = ["server", "admin", "log", "store", "routing", "apps"];
    (is_name && sections.iter().any(|section| name.starts_with(&format!("{section}.")))).then_some(name)
}

#[test]
fn settings_named_on_these_pages_exist() {
    let keys = known_keys();
    for (file, least) in [("docs/migrating.md", 25), ("docs/laravel.md", 3)] {
        let page = read(file).expect("the page");
        let named: BTreeSet<_> = page.lines().flat_map(code).filter_map(named_key).collect();
        assert!(named.len() >= least, "only {named:?} were found in {file}");
        let unknown: Vec<_> = named.difference(&keys).collect();
        assert!(unknown.is_empty(), "{file} names settings that do not exist: {unknown:?}");
    }
}

#[test]
fn names_of_settings_are_found_in_both_forms() {
    for (code, key) in [
        ("apps.client_events", Some("apps.client_events")),
        ("SWITCHBOARD__APPS__0__CLIENT_EVENTS=members", Some("apps.client_events")),
        ("server.bind", Some("server.bind")),
        ("servers.reverb", None),
        ("appManager.array", None),
        ("apps", None),
        ("0.0.0.0:6001", None),
    ] {
        assert_eq!(named_key(code).as_deref(), key, "{code}");
    }
}
