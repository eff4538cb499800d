//! switchboard: a Pusher Channels server.
//!
//! ```text
//! cli ─► server ─► api ──► routing ──► outbox ──► hub ──► apps ──► protocol
//!          ├────► admin ──►┘             ▲  └──► storage ─┘──────► config
//!          └────► webhooks ──────────────┘
//! ```
//!
//! `protocol` holds the rules as pure values, `apps` what a tenant may do, `hub` the connections and the
//! fan-out, `api` the public port until a connection becomes a WebSocket, `admin` the operators' port,
//! `readiness` whether each part works, `routing` the message router, `webhooks` what backends are told of channels, `outbox` what must still happen
//! after a commit, `server` the wiring, `cli` the commands, `config` the settings, `logging` the log. `docs/architecture.md`
//! follows an event through them.

pub mod admin;
pub mod api;
pub mod apps;
pub mod cli;
pub mod config;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod http_client;
pub mod hub;
pub mod logging;
pub mod outbox;
pub mod protocol;
pub mod readiness;
pub mod routing;
pub mod server;
pub mod storage;
pub mod webhooks;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Who may import whom; nothing else.
    const ALLOWED: &[(&str, &[&str])] = &[
        ("protocol", &[]),
        ("config", &[]),
        ("logging", &["config"]),
        ("apps", &["protocol", "config"]),
        ("storage", &["config"]),
        ("http_client", &["config"]),
        ("outbox", &["hub", "storage", "http_client", "apps", "protocol", "config"]),
        ("routing", &["hub", "outbox", "storage", "http_client", "apps", "protocol", "config", "logging"]),
        ("webhooks", &["hub", "outbox", "storage", "http_client", "apps", "protocol", "config"]),
        ("hub", &["apps", "protocol", "config", "logging"]),
        ("readiness", &["hub", "storage", "config"]),
        ("api", &["readiness", "routing", "hub", "apps", "protocol", "config", "logging"]),
        ("admin", &["readiness", "routing", "webhooks", "outbox", "storage", "hub", "protocol", "config"]),
        (
            "server",
            &[
                "admin",
                "api",
                "readiness",
                "routing",
                "webhooks",
                "outbox",
                "storage",
                "hub",
                "apps",
                "protocol",
                "http_client",
                "config",
                "logging",
            ],
        ),
        ("cli", &["config", "server", "hub", "routing", "storage", "http_client", "logging"]),
    ];

    fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }

    #[test]
    fn modules_import_only_what_they_may() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for (module, allowed) in ALLOWED {
            let mut files = Vec::new();
            sources(&root.join(module), &mut files);
            assert!(!files.is_empty(), "{module} has no sources");
            for file in files {
                let text = fs::read_to_string(&file).expect("UTF-8");
                for import in text.split("use crate::").skip(1) {
                    let name = import.split([':', ';', ' ']).next().unwrap_or_default();
                    let fits = name == *module || allowed.contains(&name);
                    assert!(fits, "{} imports crate::{name}", file.display());
                }
            }
        }
    }

    /// What `docs/architecture.md` shows of the table above: a drawing, and who may import what.
    const DRAWING: [&str; 2] = ["<!-- rooms: made from src/lib.rs -->\n", "<!-- end of rooms -->\n"];

    fn imports_of(module: &str) -> &'static [&'static str] {
        ALLOWED.iter().find(|(name, _)| *name == module).map_or(&[], |(_, allowed)| allowed)
    }

    /// Whether `from` reaches `to` over one import or several.
    fn reaches(from: &str, to: &str) -> bool {
        imports_of(from).iter().any(|next| *next == to || reaches(next, to))
    }

    /// An arrow for each import that does not follow from others, so that the drawing stays readable.
    fn drawing() -> String {
        let mut text = String::from("```mermaid\nflowchart TD\n");
        for (module, allowed) in ALLOWED.iter().rev() {
            let follows = |import: &str| allowed.iter().any(|other| reaches(other, import));
            for import in allowed.iter().filter(|import| !follows(import)) {
                text.push_str(&format!("  {module} --> {import}\n"));
            }
        }
        text.push_str(
            "```\n\n<details><summary>All imports</summary>\n\n| Folder | May import |\n|---|---|\n",
        );
        for (module, allowed) in ALLOWED.iter().rev() {
            let names: Vec<_> = allowed.iter().map(|import| format!("`{import}`")).collect();
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            text.push_str(&format!("| `src/{module}` | {names} |\n"));
        }
        text.push_str("\n</details>\n\n");
        text
    }

    /// `UPDATE_DOCS=1 cargo test --lib drawing` writes it.
    #[test]
    fn the_drawing_shows_the_imports() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/architecture.md");
        let page = fs::read_to_string(path).expect("the page");
        let [begin, end] = DRAWING;
        let (before, rest) = page.split_once(begin).expect("the begin of the drawing");
        let (_, after) = rest.split_once(end).expect("the end of the drawing");
        let made = format!("{before}{begin}\n{}{end}{after}", drawing());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(path, &made).expect("written");
        } else {
            assert!(page == made, "stale: UPDATE_DOCS=1 cargo test --lib drawing");
        }
    }
}
