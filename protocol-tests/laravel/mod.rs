//! What Laravel developers paste: the documented blocks are what the command prints, and work as pasted, in
//! pages (Vite, Chromium) and in a Laravel application.

mod documents;
mod framework;
mod pages;
mod server;

use std::path::Path;

use crate::documentation::read;
use crate::harness::server::{TestServer, binary, run};

/// `switchboard laravel` with these arguments; fails when the command does.
fn printed(arguments: &[&str]) -> String {
    let mut command = binary();
    command.arg("laravel").args(arguments).current_dir(std::env::temp_dir());
    let ended = run(command, "");
    assert_eq!(ended.code, Some(0), "switchboard laravel {arguments:?}\n{}", ended.stderr);
    ended.stdout
}

/// A block for the app and the address of a running server.
fn printed_for(server: &TestServer, block: &str, form: &str) -> String {
    let file = server.folder().join("switchboard.toml");
    let url = format!("http://{}", server.public);
    let file = file.to_str().expect("text");
    printed(&[block, "--form", form, "--show-secret", "--url", &url, "--config", file])
}

/// The file that docs/laravel.md shows below a line with its path.
fn documented_file(path: &str) -> String {
    let page = read("docs/laravel.md").expect("the page");
    let start = page.find(&format!("`{path}`:\n\n```")).unwrap_or_else(|| panic!("{path} is not documented"));
    fenced(&page[start..])
}

/// What the next pair of fences encloses.
fn fenced(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("```")).skip(1);
    let inside: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
    inside.join("\n") + "\n"
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
    std::fs::write(path, text).expect("written");
}
