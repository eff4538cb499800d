//! docs/protocol.md promises a test for each of its rules; here the promise is kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A row of one of the page's tables of rules: those whose last column is headed "Proof".
struct Rule<'a> {
    text: &'a str,
    proofs: Vec<&'a str>,
}

/// A file of the checkout.
pub fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// The cells of a table's row. `\|` is a character of its cell.
fn cells(row: &str) -> Option<Vec<&str>> {
    let row = row.trim().strip_prefix('|')?.strip_suffix('|')?;
    let mut cells = Vec::new();
    let mut start = 0;
    for (index, _) in row.match_indices('|').filter(|(index, _)| !row[..*index].ends_with('\\')) {
        cells.push(row[start..index].trim());
        start = index + 1;
    }
    cells.push(row[start..].trim());
    Some(cells)
}

/// What stands between backticks.
pub fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn rules(page: &str) -> Vec<Rule<'_>> {
    let mut rules = Vec::new();
    let mut is_proven = false;
    for line in page.lines() {
        match cells(line).as_deref() {
            None => is_proven = false,
            Some([.., "Proof"]) => is_proven = true,
            Some([text, .., proof]) if is_proven && !text.starts_with("---") => {
                rules.push(Rule { text: line, proofs: code(proof) });
            }
            Some(_) => {}
        }
    }
    rules
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
    let pages = [("docs/protocol.md", 100), ("docs/webhooks.md", 20)].map(|(page, least)| {
        let text = read(page).expect("the page");
        let count = rules(&text).len();
        assert!(count > least, "only {count} rules were found in {page}: did the tables change?");
        text
    });
    let mut problems = Vec::new();
    for rule in pages.iter().flat_map(|page| rules(page)) {
        if rule.proofs.is_empty() {
            problems.push(format!("no test is named for: {}", rule.text));
        }
        for proof in &rule.proofs {
            if !has_test(proof) {
                problems.push(format!("there is no test {proof}, in: {}", rule.text));
            }
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
    let row = r"| a \| b | `x::y`, `src/z.rs::w` |";
    assert_eq!(cells(row).map(|cells| cells.len()), Some(2));
    let page = format!("| Rule | Proof |\n|---|---|\n{row}\n\n| Other | Table |\n|---|---|\n| a | b |");
    let found = rules(&page);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].proofs, ["x::y", "src/z.rs::w"]);
}
