//! The pages keep their promises: each rule has tests, and each link leads somewhere.

mod chart;
mod links;
mod rules;

pub use rules::code;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A file of the checkout.
pub fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// The names of all tests of a source file: functions marked as such, and the entries of `each_…!`, which
/// are made into tests by a macro.
fn tests(source: &str) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    let (mut is_marked, mut is_list) = (false, false);
    for line in source.lines().map(str::trim) {
        let name = |text: &'static str| -> Option<&str> {
            line.split_once(text)?.1.split(|c: char| !c.is_alphanumeric() && c != '_').next()
        };
        if line.starts_with("each_") && line.ends_with("! {") {
            is_list = true;
        } else if is_list && line == "}" {
            is_list = false;
        } else if is_list {
            tests.extend(line.split([':', ';']).next());
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_marked = true;
        } else if is_marked && !line.starts_with("#[") && !line.starts_with("//") {
            tests.extend(name("fn "));
            is_marked = false;
        }
    }
    tests
}

/// Whether there is a test of this name, `file::test`: of a unit (`src/…`), or of this folder's.
pub fn has_test(name: &str) -> bool {
    let Some((file, name)) = name.rsplit_once("::") else { return false };
    let path = if file.starts_with("src/") {
        file.to_owned()
    } else {
        format!("protocol-tests/{}.rs", file.replace("::", "/"))
    };
    read(&path).is_some_and(|source| tests(&source).contains(name))
}

#[test]
fn every_rule_names_tests_that_exist() {
    let pages = [("docs/protocol.md", 200), ("docs/webhooks.md", 25)];
    let mut problems = Vec::new();
    for (page, least) in pages {
        let text = read(page).expect("the page");
        let checked = rules::check(&text);
        assert!(
            checked.proofs.len() > least,
            "only {} rules in {page}: did the tables change?",
            checked.proofs.len()
        );
        problems.extend(checked.problems.into_iter().map(|problem| format!("{page}: {problem}")));
        for (rule, proofs) in checked.proofs {
            if proofs.is_empty() {
                problems.push(format!("{page}: no test is named for rule {rule}"));
            }
            let missing = proofs.into_iter().filter(|proof| !has_test(proof));
            problems.extend(missing.map(|proof| format!("{page}: there is no test {proof}, of rule {rule}")));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn tests_are_found_in_all_their_forms() {
    let source = "
        #[test]
        fn plain() {}
        /// Documented.
        #[tokio::test(flavor = \"multi_thread\")]
        #[ignore]
        async fn marked() {}
        each_version! {
            listed: v4 v8;
            alone;
        }
        async fn helper() {}
    ";
    assert_eq!(tests(source).into_iter().collect::<Vec<_>>(), ["alone", "listed", "marked", "plain"]);
}
