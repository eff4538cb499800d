//! `switchboard numbers import|list`: the server's own directory, also while the server runs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::progress::Progress;
use super::table::aligned;
use super::terminal::Terminal;
use super::{Exit, NumbersCommand, refuse};
use crate::config::{self, AppSettings, DirectoryMode, Settings, Sources};
use crate::routing::numbers::{DirectoryNumber, NumberQuery};
use crate::routing::numbers_file;
use crate::routing::numbers_import::{Counts, Numbers};
use crate::storage::{self, Database, StorageError};

/// Numbers read at once.
const PAGE: usize = 1_000;

/// Why a command did not do its work.
enum Failure {
    /// What it was told makes no sense.
    Misused(String),
    /// The file's bad lines.
    Lines(Vec<numbers_file::LineError>),
    /// The file's first so many numbers are imported; it was interrupted, or why it stopped.
    Stopped { counts: Counts, of: usize, why: Option<String> },
    /// Something else failed.
    Failed(String),
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) fn run(command: NumbersCommand, sources: &Sources, terminal: &mut Terminal) -> io::Result<Exit> {
    let settings = match config::load(sources) {
        Ok(loaded) => loaded.settings,
        Err(problems) => return refuse(&problems, terminal),
    };
    let result = match &command {
        NumbersCommand::Import { file, app, dry_run } => imported(&settings, app.as_deref(), file, *dry_run),
        NumbersCommand::List { app } => listed(&settings, app.as_deref()),
    };
    match result {
        Ok((value, text)) => {
            terminal.answer(&value, || text)?;
            Ok(Exit::Fine)
        }
        Err(failure) => report(failure, terminal),
    }
}

/// The answer as JSON and as text.
type Answer = Result<(Value, String), Failure>;

fn imported(settings: &Settings, app: Option<&str>, file: &Path, dry_run: bool) -> Answer {
    let app = own_directory(settings, app)?;
    let (counts, took) = import(settings, app, file, dry_run)?;
    let seconds = if took.as_secs() > 0 { format!(" in {} s", took.as_secs()) } else { String::new() };
    let text = match (summary(counts), dry_run) {
        (summary, true) => format!("Nothing was changed. An import would give {summary}\n"),
        (summary, false) => format!("{} numbers imported{seconds}: {summary}\n", counts.total()),
    };
    let id = app.map(|app| &app.id);
    Ok((json!({ "app": id, "dry_run": dry_run, "numbers": counts }), text))
}

fn summary(Counts { new, changed, unchanged }: Counts) -> String {
    format!("{new} new, {changed} changed, {unchanged} unchanged")
}

fn listed(settings: &Settings, app: Option<&str>) -> Answer {
    // In development mode before the first start there is no app yet, so there are no numbers.
    let Some(app) = own_directory(settings, app)? else {
        return Ok((json!({ "app": null, "phone_numbers": [] }), table(&[])));
    };
    let numbers = all(settings, app)?;
    let list: Vec<_> = numbers.iter().map(|number| json!(number.json(&app.routing))).collect();
    Ok((json!({ "app": app.id, "phone_numbers": list }), table(&numbers)))
}

fn report(failure: Failure, terminal: &mut Terminal) -> io::Result<Exit> {
    let (exit, problems) = match failure {
        Failure::Misused(text) => (Exit::Misused, vec![json!({ "message": text })]),
        Failure::Failed(text) => (Exit::Failed, vec![json!({ "message": text })]),
        Failure::Stopped { counts, of, why } => {
            let (done, why) = (counts.total(), why.unwrap_or_else(|| "stopped".to_owned()));
            let text = format!(
                "{why}: the first {done} of {of} numbers of the file are imported ({}), the others are not. The same \
                 command imports the rest",
                summary(counts)
            );
            (Exit::Failed, vec![json!({ "message": text, "numbers": counts })])
        }
        Failure::Lines(lines) => {
            let problem =
                |line: &numbers_file::LineError| json!({ "line": line.line, "message": line.text() });
            (Exit::Failed, lines.iter().map(problem).collect())
        }
    };
    for problem in &problems {
        let message = problem["message"].as_str().unwrap_or_default();
        match &problem["line"] {
            Value::Null => terminal.complain(message),
            line => terminal.complain(&format!("line {line}: {message}")),
        }
    }
    if problems.iter().any(|problem| problem["line"].is_number()) {
        terminal.complain("nothing was imported: correct these lines and import the file again");
    }
    if terminal.json() {
        terminal.object(&json!({ "event": "failed", "problems": problems }))?;
    }
    Ok(exit)
}

/// The app that is meant, if its numbers are kept here; `None` in development mode before there is one.
fn own_directory<'a>(settings: &'a Settings, id: Option<&str>) -> Result<Option<&'a AppSettings>, Failure> {
    let ids = || settings.apps.iter().map(|app| app.id.as_str()).collect::<Vec<_>>().join(", ");
    let app = match (id, &settings.apps[..]) {
        (None, []) => return Ok(None),
        (Some(id), apps) => apps.iter().find(|app| app.id == id).ok_or_else(|| {
            Failure::Misused(match ids() {
                none if none.is_empty() => format!("there is no app with the id {id:?}: leave out --app"),
                ids => format!("there is no app with the id {id:?}; there is {ids}"),
            })
        })?,
        (None, [app]) => app,
        (None, _) => {
            return Err(Failure::Misused(format!(
                "several apps are configured: add --app with one of {}",
                ids()
            )));
        }
    };
    match app.routing.directory.mode {
        DirectoryMode::Own => Ok(Some(app)),
        DirectoryMode::Sql => Err(Failure::Misused(format!(
            "the directory of app {} is the portal's own tables (routing.directory.mode = \"sql\"): list and change \
             its numbers there",
            app.id
        ))),
    }
}

fn import(
    settings: &Settings,
    app: Option<&AppSettings>,
    file: &Path,
    dry_run: bool,
) -> Result<(Counts, Duration), Failure> {
    let bytes = std::fs::read(file);
    let bytes = bytes.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    let rows = numbers_file::parse(&bytes).map_err(Failure::Lines)?;
    let routing = app.map_or(&settings.routing, |app| &app.routing);
    let numbers = Numbers::new(rows, routing).map_err(Failure::Lines)?;
    // A trial leaves nothing behind, also no empty store.
    let Some(app) = app.filter(|_| !(dry_run && is_new(settings))) else {
        return Ok((Counts { new: numbers.len(), ..Counts::default() }, Duration::ZERO));
    };
    let database = Database::open(&settings.store, &settings.server.data_dir)?;
    let total = numbers.len();
    let runtime = runtime()?;
    let interrupted = runtime.block_on(async { interruption() });
    let mut progress = Progress::new("numbers", total);
    let imported = runtime.block_on(async {
        let go_on = |done| {
            progress.set(done);
            !interrupted.load(Ordering::Relaxed)
        };
        numbers.import(&database, &app.id, dry_run, go_on).await
    });
    let took = progress.elapsed();
    drop(progress);
    match imported {
        Ok(counts) if counts.total() == total => Ok((counts, took)),
        Ok(_) if dry_run => Err(Failure::Failed("stopped: nothing was changed".to_owned())),
        Ok(counts) => Err(Failure::Stopped { counts, of: total, why: None }),
        Err((counts, error)) if counts.total() > 0 && !dry_run => {
            Err(Failure::Stopped { counts, of: total, why: Some(error.to_string()) })
        }
        Err((_, error)) => Err(error.into()),
    }
}

/// Becomes true with SIGINT (Ctrl-C) or SIGTERM, which then end nothing by themselves: what is being written is
/// finished first.
fn interruption() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        // Without a handler the signal ends the process, between two transactions or within one, which is undone.
        if let Ok(mut signal) = signal(kind) {
            let flag = Arc::clone(&flag);
            tokio::spawn(async move {
                signal.recv().await;
                flag.store(true, Ordering::Relaxed);
            });
        }
    }
    flag
}

fn all(settings: &Settings, app: &AppSettings) -> Result<Vec<DirectoryNumber>, Failure> {
    if is_new(settings) {
        return Ok(Vec::new());
    }
    let database = Database::open(&settings.store, &settings.server.data_dir)?;
    runtime()?.block_on(async {
        let mut all: Vec<DirectoryNumber> = Vec::new();
        loop {
            let after = all.last().map(|number| number.id);
            let query = NumberQuery { limit: PAGE as i64, after, ..NumberQuery::default() };
            let app = app.id.clone();
            let page = database.read(move |tx| DirectoryNumber::list(tx, &app, &query)).await?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    })
}

/// Whether the store is a file that is not there yet.
fn is_new(settings: &Settings) -> bool {
    let path = storage::sqlite_path(&settings.store, &settings.server.data_dir);
    path.is_some_and(|path| !path.exists())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(error.to_string()))
}

fn table(numbers: &[DirectoryNumber]) -> String {
    if numbers.is_empty() {
        return "There are no phone numbers yet; `switchboard numbers import FILE` adds some.\n".to_owned();
    }
    let row = |number: &DirectoryNumber| {
        vec![
            number.number.clone(),
            number.status.as_str().to_owned(),
            number.user_id.clone().unwrap_or_else(|| "-".to_owned()),
            if number.is_default { "yes" } else { "" }.to_owned(),
            number.label.clone().unwrap_or_default(),
        ]
    };
    let header = ["number", "status", "user", "default", "label"].map(str::to_owned).to_vec();
    aligned(&std::iter::once(header).chain(numbers.iter().map(row)).collect::<Vec<_>>())
}
