//! Links of the pages to files and headings of the checkout.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Folders with pages of others, and `src`, whose texts become parts of generated pages.
const LEFT_OUT: &[&str] = &["node_modules", "target", ".venv", ".git", "dist", "src"];

/// All pages of the checkout.
fn pages(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !LEFT_OUT.contains(&name.as_str()) {
            pages(&path, into);
        } else if name.ends_with(".md") {
            into.push(path);
        }
    }
}

/// The lines outside of blocks of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The targets of Markdown's links and of pictures.
fn targets(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (begin, end) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
            let parts = plain.split(begin).skip(1).filter_map(|rest| rest.split(end).next());
            found.extend(parts.map(str::to_owned));
        }
    }
    found
}

/// The anchors of a page's headings, as GitHub and GitLab make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in prose(page) {
        let heading = line.trim_start_matches('#');
        if heading.len() < line.len() && heading.starts_with(' ') {
            let slug = slug(heading.trim());
            let again = (1..).map(|count| format!("{slug}-{count}"));
            let free = std::iter::once(slug.clone()).chain(again).find(|slug| !anchors.contains(slug));
            anchors.extend(free);
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Without `..`, so that a link into a folder that does not exist is found, too.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// What is wrong with a link of this page; nothing if it leads outside.
fn fault(page: &Path, text: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") || target.starts_with("data:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = page.parent().expect("in a folder");
    let file = if path.is_empty() { page.to_owned() } else { normal(&folder.join(path)) };
    if !file.exists() {
        return Some(format!("{}: {target}: there is no such file", page.display()));
    }
    let is_page = file.extension().is_some_and(|extension| extension == "md");
    if anchor.is_empty() || !is_page {
        return None;
    }
    let other = if path.is_empty() { text.to_owned() } else { fs::read_to_string(&file).expect("UTF-8") };
    (!anchors(&other).contains(anchor))
        .then(|| format!("{}: {target}: there is no such heading", page.display()))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut all = Vec::new();
    pages(Path::new(env!("CARGO_MANIFEST_DIR")), &mut all);
    assert!(all.len() > 10, "{all:?}");
    let mut faults = Vec::new();
    for page in &all {
        let text = fs::read_to_string(page).expect("UTF-8");
        faults.extend(targets(&text).iter().filter_map(|target| fault(page, &text, target)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn links_and_headings_are_read_as_markdown_has_them() {
    let page = "# A `GET /b/C`: d\n## Twice\n## Twice\n```\n# code ](x)\n```\n[a](b.md#c) `](no)` <img src=\"p.svg\">";
    assert_eq!(targets(page), ["b.md#c", "p.svg"]);
    assert_eq!(anchors(page).into_iter().collect::<Vec<_>>(), ["a-get-bc-d", "twice", "twice-1"]);
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    assert_eq!(fault(&at, page, "#twice-1"), None);
    assert_eq!(fault(&at, page, "../README.md"), None);
    for wrong in ["#thrice", "../README", "nowhere.md", "../README.md#nowhere"] {
        assert!(fault(&at, page, wrong).is_some(), "{wrong}");
    }
}
