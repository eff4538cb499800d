//! Tables of rules, and the tables of tests that prove them.
//!
//! A table of rules is followed by a folded table (`<details>`), whose first column repeats the rules' first
//! column, a number or a name, and whose last column is headed "Tests". Where rule and tests stand in one table, its
//! last column is headed "Proof". A section whose tables are no rules begins with `<!-- no rules -->`.

/// What was found on a page.
pub struct Checked<'a> {
    /// Each rule's number or name, with the tests it names.
    pub proofs: Vec<(String, Vec<&'a str>)>,
    /// Rules without proof, and proofs without rule.
    pub problems: Vec<String>,
}

struct Table<'a> {
    section: &'a str,
    is_folded: bool,
    head: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl Table<'_> {
    fn names(&self) -> Vec<&str> {
        self.rows.iter().filter_map(|row| row.first().copied()).collect()
    }
}

/// The rules of a page, each with its tests.
pub fn check(page: &str) -> Checked<'_> {
    let mut checked = Checked { proofs: Vec::new(), problems: Vec::new() };
    // The table of rules whose proof has to follow.
    let mut open: Option<Table<'_>> = None;
    for table in tables(page) {
        let last = table.head.last().copied().unwrap_or_default();
        if last == "Proof" || (table.is_folded && last == "Tests") {
            for row in &table.rows {
                let tests = row.last().map(|cell| code(cell)).unwrap_or_default();
                checked.proofs.push((format!("{} in {:?}", row[0], table.section), tests));
            }
        }
        if table.is_folded {
            let rules = open.take();
            let rules = rules.as_ref().map(Table::names).unwrap_or_default();
            if last == "Tests" && rules != table.names() {
                let section = table.section;
                checked.problems.push(format!("{section}: rules {rules:?}, proofs {:?}", table.names()));
            }
        } else {
            checked
                .problems
                .extend(open.take().map(|open| format!("{}: a table without tests", open.section)));
            open = (last != "Proof").then_some(table);
        }
    }
    checked.problems.extend(open.map(|open| format!("{}: a table without tests", open.section)));
    checked
}

fn tables(page: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    let (mut section, mut is_folded, mut is_exempt, mut is_table) = ("", false, false, false);
    for line in page.lines() {
        if line.starts_with('#') {
            (section, is_exempt) = (line.trim_matches(['#', ' ']), false);
        }
        is_exempt |= line.starts_with("<!-- no rules -->");
        is_folded = (is_folded || line.starts_with("<details>")) && !line.starts_with("</details>");
        match cells(line) {
            None => is_table = false,
            Some(_) if is_exempt => {}
            Some(cells) if !is_table => {
                is_table = true;
                tables.push(Table { section, is_folded, head: cells, rows: Vec::new() });
            }
            Some(cells) if cells.iter().all(|cell| cell.starts_with("---")) => {}
            Some(cells) => {
                if let Some(table) = tables.last_mut() {
                    table.rows.push(cells);
                }
            }
        }
    }
    tables
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

#[test]
fn a_rule_without_proof_and_a_proof_without_rule_are_found() {
    let rules = "## One\n\n| # | Rule |\n|---|---|\n| 1 | a \\| b |\n| 2 | c |\n\n";
    let proofs =
        "<details><summary>Tests</summary>\n\n| # | Tests |\n|---|---|\n| 1 | `x::y` `src/z.rs::w` |\n";
    let whole = format!("{rules}{proofs}| 2 | |\n\n</details>\n");
    let checked = check(&whole);
    assert_eq!(checked.problems, [""; 0]);
    let found: Vec<_> = checked.proofs.iter().map(|(_, tests)| tests.as_slice()).collect();
    assert_eq!(found, [&["x::y", "src/z.rs::w"][..], &[]]);

    assert_eq!(check(rules).problems.len(), 1, "a table without tests");
    assert_eq!(check(&format!("{rules}{proofs}\n</details>\n")).problems.len(), 1, "rule 2 has no proof");
    assert_eq!(check(&format!("{rules}{proofs}| 3 | `x::y` |\n\n</details>\n")).problems.len(), 1);
    assert_eq!(check(&format!("{rules}{rules}{proofs}| 2 | `x::y` |\n")).problems.len(), 1);

    let one = "| Rule | Proof |\n|---|---|\n| a | `x::y`, `z::w` |\n\n## Other\n<!-- no rules -->\n| a |\n|---|\n| b |";
    assert_eq!(check(one).problems, [""; 0]);
    assert_eq!(check(one).proofs[0].1, ["x::y", "z::w"]);
}
