//! `switchboard webhooks …`: what became of webhooks, and sending them again. Asks the running server.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::admin_client::AdminClient;
use super::table::{aligned, wrapped};
use super::terminal::Terminal;
use super::{Exit, refuse};
use crate::config::{self, Sources};

#[derive(Clone, Subcommand)]
pub(super) enum WebhooksCommand {
    /// List the webhooks with the numbers of waiting and failed requests
    List,
    /// List the requests to a webhook, oldest first
    Events {
        #[command(flatten)]
        which: Which,
        /// List the requests in this state; failed ones are no longer repeated
        #[arg(long, default_value = "failed", value_parser = ["failed", "waiting", "delivered"])]
        state: String,
        /// List only requests of the last time, as in 1h
        #[arg(long, value_name = "TIME", value_parser = duration)]
        since: Option<Duration>,
        /// List only requests after the one with this id
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: i64,
        /// List at most so many
        #[arg(long, default_value_t = 100)]
        limit: i64,
    },
    /// List the attempts of the last 24 hours to deliver a request
    Attempts {
        /// The id of the request, as `webhooks events` lists it
        id: i64,
        #[command(flatten)]
        which: Which,
    },
    /// Send failed requests again
    Retry {
        /// The ids of the requests; without any, all failed ones
        ids: Vec<i64>,
        #[command(flatten)]
        which: Which,
    },
    /// Send requests again that were delivered in the last 24 hours
    #[command(group(clap::ArgGroup::new("what").required(true).args(["ids", "since"])))]
    Replay {
        /// The ids of the requests
        ids: Vec<i64>,
        /// Send all requests of the last time, as in 1h
        #[arg(long, value_name = "TIME", value_parser = duration)]
        since: Option<Duration>,
        #[command(flatten)]
        which: Which,
    },
}

/// Selects a webhook, where there are several.
#[derive(Clone, clap::Args)]
pub(super) struct Which {
    /// The id of the webhook's app
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// The name of the webhook, as `webhooks list` shows it
    #[arg(long, value_name = "NAME")]
    webhook: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
}

pub(super) fn run(command: WebhooksCommand, sources: &Sources, terminal: &mut Terminal) -> io::Result<Exit> {
    let settings = match config::load(sources) {
        Ok(loaded) => loaded.settings,
        Err(problems) => return refuse(&problems, terminal),
    };
    match answer(command, &AdminClient::new(&settings.admin)) {
        Ok((value, text)) => {
            terminal.answer(&value, || text)?;
            Ok(Exit::Fine)
        }
        Err(message) => {
            terminal.complain(&message);
            Ok(Exit::Failed)
        }
    }
}

/// The answer as JSON and as text.
fn answer(command: WebhooksCommand, server: &AdminClient) -> Result<(Value, String), String> {
    let with_text = |value: Value, text: fn(&Value) -> String| {
        let text = text(&value);
        Ok((value, text))
    };
    match command {
        WebhooksCommand::List => with_text(server.get("/webhooks")?, standings),
        WebhooksCommand::Events { which, state, since, after, limit } => {
            let target = which.query(server)?;
            let since = since.map_or(0, ago);
            let path =
                format!("/webhooks/events?{target}&state={state}&since={since}&after={after}&limit={limit}");
            with_text(server.get(&path)?, events)
        }
        WebhooksCommand::Attempts { id, which } => {
            let path = format!("/webhooks/attempts?{}&id={id}", which.query(server)?);
            with_text(server.get(&path)?, attempts)
        }
        WebhooksCommand::Retry { ids, which } => {
            let what = if ids.is_empty() { json!({ "state": "failed" }) } else { json!({ "ids": ids }) };
            with_text(resend(server, &which, what)?, resent)
        }
        WebhooksCommand::Replay { ids, since, which } => {
            let what = match since {
                Some(since) => json!({ "state": "delivered", "since": ago(since) }),
                None => json!({ "ids": ids }),
            };
            with_text(resend(server, &which, what)?, resent)
        }
    }
}

fn resend(server: &AdminClient, which: &Which, mut what: Value) -> Result<Value, String> {
    let (app, webhook) = which.find(server)?;
    what["app"] = app.into();
    what["webhook"] = webhook.into();
    server.post("/webhooks/resend", &what)
}

impl Which {
    /// The only webhook that fits: its app and name.
    fn find(&self, server: &AdminClient) -> Result<(String, String), String> {
        let all = server.get("/webhooks")?;
        let fits = |wanted: &Option<String>, found: &Value| {
            wanted.as_deref().is_none_or(|wanted| found.as_str() == Some(wanted))
        };
        let mut found = list(&all["webhooks"])
            .filter(|webhook| fits(&self.app, &webhook["app"]) && fits(&self.webhook, &webhook["webhook"]));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok((word(&one["app"]), word(&one["webhook"]))),
            (None, _) => Err(format!("no webhook has this app and name:\n{}", standings(&all))),
            _ => Err(format!("there are several webhooks, add --app and --webhook:\n{}", standings(&all))),
        }
    }

    fn query(&self, server: &AdminClient) -> Result<String, String> {
        let (app, webhook) = self.find(server)?;
        Ok(format!("app={}&webhook={webhook}", utf8_percent_encode(&app, NON_ALPHANUMERIC)))
    }
}

/// So long ago, in Unix milliseconds.
fn ago(time: Duration) -> i64 {
    let at = SystemTime::now().checked_sub(time).unwrap_or(UNIX_EPOCH);
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value without quotes; `-` for nothing.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn date(milliseconds: &Value) -> String {
    let nanoseconds = i128::from(milliseconds.as_i64().unwrap_or(0)) * 1_000_000;
    let date = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_default()
}

fn header(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

fn standings(answer: &Value) -> String {
    let columns = ["app", "webhook", "waiting", "failed", "held_back", "dropped", "address"];
    let row = |webhook: &Value| columns.map(|name| word(&webhook[name])).to_vec();
    let rows: Vec<_> = list(&answer["webhooks"]).map(row).collect();
    if rows.is_empty() {
        return "No webhook is configured: add [[apps.webhooks]] with a url below its [[apps]].\n".to_owned();
    }
    aligned(&[vec![header(&columns)], rows].concat())
}

fn events(answer: &Value) -> String {
    let mut rows = vec![header(&["id", "created", "attempts", "event", "error"])];
    for event in list(&answer["events"]) {
        let [id, attempts, name, error] = ["id", "attempts", "name", "error"].map(|name| word(&event[name]));
        rows.push(vec![id, date(&event["created_ms"]), attempts, name, error]);
    }
    let mut text = wrapped(&rows);
    if !answer["next"].is_null() {
        text.push_str(&format!("There are more: add --after {}\n", answer["next"]));
    }
    text
}

fn attempts(answer: &Value) -> String {
    let mut rows = vec![header(&["at", "ms", "status", "error", "answer"])];
    for attempt in list(&answer["attempts"]) {
        let [ms, status, error] = ["latency_ms", "status", "error"].map(|name| word(&attempt[name]));
        rows.push(vec![date(&attempt["at_ms"]), ms, status, error, attempt["answer"].to_string()]);
    }
    wrapped(&rows)
}

fn resent(answer: &Value) -> String {
    format!("{} requests are sent again\n", answer["resent"])
}
