//! `switchboard numbers import|list`: the server's own directory, also while the server runs.

use std::fmt::Write;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

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
        NumbersCommand::Import { file, app, dry_run } => {
            let app = own_directory(&settings, app.as_deref());
            app.and_then(|app| import(&settings, app, file, *dry_run)).map(|(app, counts)| {
                let Counts { new, changed, unchanged } = counts;
                let so_far = if *dry_run { "Nothing was changed. It would be: " } else { "" };
                let text = format!("{so_far}{new} new, {changed} changed, {unchanged} unchanged\n");
                (json!({ "app": app, "dry_run": dry_run, "numbers": counts }), text)
            })
        }
        NumbersCommand::List { app } => {
            let app = own_directory(&settings, app.as_deref());
            app.and_then(|app| Ok((app, all(&settings, app)?))).map(|(app, numbers)| {
                let list: Vec<_> = numbers.iter().map(|number| json!(number.json(&app.routing))).collect();
                (json!({ "app": app.id, "phone_numbers": list }), table(&numbers))
            })
        }
    };
    match result {
        Ok((value, text)) => {
            terminal.answer(&value, || text)?;
            Ok(Exit::Fine)
        }
        Err(failure) => report(failure, terminal),
    }
}

fn report(failure: Failure, terminal: &mut Terminal) -> io::Result<Exit> {
    let (exit, problems) = match failure {
        Failure::Misused(text) => (Exit::Misused, vec![json!({ "message": text })]),
        Failure::Failed(text) => (Exit::Failed, vec![json!({ "message": text })]),
        Failure::Lines(lines) => {
            let problem =
                |line: &numbers_file::LineError| json!({ "line": line.line, "message": line.message });
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
        terminal.complain("nothing was imported");
    }
    if terminal.json() {
        terminal.object(&json!({ "event": "failed", "problems": problems }))?;
    }
    Ok(exit)
}

/// The app that is meant, if its numbers are kept here.
fn own_directory<'a>(settings: &'a Settings, id: Option<&str>) -> Result<&'a AppSettings, Failure> {
    let app = match (id, &settings.apps[..]) {
        (_, []) => {
            let text = "no app is configured: write [[apps]] into switchboard.toml (switchboard config init)";
            return Err(Failure::Misused(text.to_owned()));
        }
        (Some(id), apps) => apps
            .iter()
            .find(|app| app.id == id)
            .ok_or_else(|| Failure::Misused(format!("there is no app with the id {id:?}")))?,
        (None, [app]) => app,
        (None, apps) => {
            let ids: Vec<_> = apps.iter().map(|app| app.id.as_str()).collect();
            return Err(Failure::Misused(format!("say with --app which app is meant: {}", ids.join(", "))));
        }
    };
    match app.routing.directory.mode {
        DirectoryMode::Own => Ok(app),
        DirectoryMode::Sql => Err(Failure::Misused(format!(
            "the directory of app {} is the portal's own tables (routing.directory.mode = \"sql\"): numbers are \
             listed and changed there",
            app.id
        ))),
    }
}

fn import<'a>(
    settings: &Settings,
    app: &'a AppSettings,
    file: &Path,
    dry_run: bool,
) -> Result<(&'a str, Counts), Failure> {
    let bytes = std::fs::read(file);
    let bytes = bytes.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    let rows = numbers_file::parse(&bytes).map_err(Failure::Lines)?;
    let numbers = Numbers::new(rows, &app.routing).map_err(Failure::Lines)?;
    // A trial leaves nothing behind, also no empty store.
    if dry_run && is_new(settings) {
        return Ok((&app.id, Counts { new: numbers.len(), ..Counts::default() }));
    }
    let database = Database::open(&settings.store, &settings.server.data_dir)?;
    let counts = runtime()?.block_on(numbers.import(&database, &app.id, dry_run))?;
    Ok((&app.id, counts))
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
    let mut text = String::new();
    for number in numbers {
        let user = number.user_id.as_deref().unwrap_or("-");
        let default = if number.is_default { "default" } else { "" };
        let label = number.label.as_deref().unwrap_or_default();
        let line =
            format!("{:16}  {:9}  {user:20}  {default:7}  {label}", number.number, number.status.as_str());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
