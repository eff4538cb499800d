//! `switchboard check`: would `serve` start here, and hold what it promises?

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::sums::MemorySum;
use super::table::wrapped;
use super::terminal::Terminal;
use super::{Exit, refuse};
use crate::config::{
    self, AppSettings, DirectoryMode, Loaded, Origin, OverQuota, Problem, Settings, Sources,
};
use crate::routing::exposure;
use crate::routing::portal_directory;
use crate::server::{self, Descriptors};
use crate::storage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    Warning,
    Failed,
}

/// One finding: what was looked at, how it stands, what to know or do.
struct Finding {
    about: &'static str,
    status: Status,
    detail: String,
}

/// Checks everything that can be checked without starting; fails if anything did.
pub(super) fn run(sources: &Sources, terminal: &mut Terminal) -> io::Result<Exit> {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&problems, terminal),
    };
    let findings = findings(sources, &loaded);
    let is_fine = findings.iter().all(|finding| finding.status != Status::Failed);
    let list: Vec<_> = findings.iter().map(to_json).collect();
    terminal.answer(&json!({ "ok": is_fine, "checks": list }), || text(&findings))?;
    Ok(if is_fine { Exit::Fine } else { Exit::Failed })
}

fn findings(sources: &Sources, loaded: &Loaded) -> Vec<Finding> {
    let settings = &loaded.settings;
    let mut findings = vec![
        configuration(sources, settings),
        address("server.bind", settings.server.bind),
        address("admin.bind", settings.admin.bind),
    ];
    let shortage = shortage(loaded);
    let limit = rlimit::Resource::NOFILE.get_hard();
    findings.push(open_files(Descriptors::of(settings), limit, shortage));
    findings.push(memory(MemorySum::of(settings), server::machine_memory()));
    findings.extend(backlog(settings));
    findings.extend(loaded.hints.iter().map(hint));
    findings.extend(settings.apps.iter().filter_map(quota));
    findings.extend(routing(settings));
    findings
}

/// A variable without effect.
fn hint(hint: &Problem) -> Finding {
    Finding { about: "environment", status: Status::Warning, detail: hint.to_string() }
}

fn configuration(sources: &Sources, settings: &Settings) -> Finding {
    let file = sources.file.as_ref().map_or("no file".to_owned(), |file| file.display().to_string());
    let apps = match settings.apps.len() {
        _ if settings.development => "development mode".to_owned(),
        1 => "1 app".to_owned(),
        count => format!("{count} apps"),
    };
    Finding { about: "configuration", status: Status::Ok, detail: format!("{file}, {apps}") }
}

fn address(about: &'static str, address: SocketAddr) -> Finding {
    match server::try_bind(about, address) {
        Ok(()) => Finding { about, status: Status::Ok, detail: format!("{address} is free") },
        Err(reason) => Finding { about, status: Status::Failed, detail: format!("{address}: {reason}") },
    }
}

/// How bad a limit of open files below `server.max_connections` is: development mode takes fewer connections, a
/// default nobody chose is worth a warning, a chosen number must be kept.
fn shortage(loaded: &Loaded) -> Status {
    match loaded.origins.get("server.max_connections") {
        _ if loaded.settings.development => Status::Ok,
        None | Some(Origin::Default) => Status::Warning,
        Some(_) => Status::Failed,
    }
}

fn open_files(needed: Descriptors, limit: io::Result<u64>, shortage: Status) -> Finding {
    let Descriptors { connections, requests, admin, store, outgoing, process } = needed;
    let sum = format!(
        "{} are needed: {connections} for connections, {requests} for requests, {admin} for the operators' port, {store} \
         for the store, {outgoing} for calls, {process} for the process",
        needed.sum()
    );
    let (status, detail) = match limit {
        Ok(limit) if limit >= needed.sum() => (Status::Ok, format!("the limit is {limit}; {sum}")),
        Ok(limit) => {
            let takes = needed.within(limit).connections;
            let advice = "raise the limit (LimitNOFILE= in systemd, --ulimit in Docker, ulimit -Hn) or lower \
                          server.max_connections";
            let advice = if shortage == Status::Ok { String::new() } else { format!("; {advice}") };
            (
                shortage,
                format!("the limit is {limit}, so the server takes {takes} connections; {sum}{advice}"),
            )
        }
        Err(error) => (Status::Warning, format!("the limit is unknown: {error}; {sum}")),
    };
    Finding { about: "open files", status, detail }
}

/// A server that gets no memory is killed, and takes all its connections with it.
fn memory(sum: MemorySum, machine: u64) -> Finding {
    let fits = sum.usual() <= machine;
    let status = if fits { Status::Ok } else { Status::Warning };
    let advice = if fits { "" } else { ". Lower server.memory, cache_size or server.max_connections" };
    Finding { about: "memory", status, detail: sum.text(machine) + advice }
}

/// A reader that lags by one event would be closed.
fn backlog(settings: &Settings) -> Option<Finding> {
    let limit = settings.server.backlog_limit;
    let app = settings.apps.iter().find(|app| app.event_size > limit)?;
    let detail = format!(
        "smaller than the event_size of app {}: one event of that size closes a slow client's connection. Raise it",
        app.id
    );
    Some(Finding { about: "server.backlog_limit", status: Status::Warning, detail })
}

/// Pages that meet a full app and never ask again.
fn quota(app: &AppSettings) -> Option<Finding> {
    let most = app.max_connections.filter(|_| app.over_quota == OverQuota::Stop)?;
    let detail = format!(
        "app {}: with {most} connections, every further page is closed with 4004 and stays offline until it is loaded \
         again, also when there is room; over_quota = \"retry\" lets it come back",
        app.id
    );
    Some(Finding { about: "max_connections", status: Status::Warning, detail })
}

/// What webhooks and the message routers of the apps need.
fn routing(settings: &Settings) -> Vec<Finding> {
    let apps: Vec<_> = settings.apps.iter().filter(|app| app.routing.enabled).collect();
    let mut findings = Vec::new();
    let has_webhooks = settings.apps.iter().any(|app| !app.webhooks.is_empty());
    if !apps.is_empty() || has_webhooks || settings.development {
        findings.push(store(settings));
        findings.push(store_size(settings));
    }
    for app in apps {
        findings.extend(directory(app));
        findings.extend(carrier(app));
        findings.extend(public_channels(settings, app));
    }
    findings.extend(receivers(settings));
    findings
}

fn store(settings: &Settings) -> Finding {
    let (status, detail) = match storage::probe(&settings.store, &settings.server.data_dir) {
        Ok(found) => (Status::Ok, found),
        Err(error) => (Status::Failed, error.to_string()),
    };
    Finding { about: "store.url", status, detail }
}

/// How much of the store's limit is left. Only a limit that is reached is worth a warning.
fn store_size(settings: &Settings) -> Finding {
    let (store, folder) = (&settings.store, &settings.server.data_dir);
    let used = storage::used(store, folder);
    let free = storage::sqlite_path(store, folder).and_then(|path| {
        let folders = path.ancestors().skip(1);
        folders.map(|folder| Path::new(".").join(folder)).find(|folder| folder.is_dir())
    });
    let free = free.as_deref().and_then(storage::free_space);
    let is_over = store.max_size.zip(used).is_some_and(|(max, used)| used >= storage::threshold(max));
    let is_short = store.min_free.zip(free).is_some_and(|(min, free)| free < min);
    let megabytes = |bytes: u64| format!("{} MB", bytes.div_ceil(1 << 20));
    let mut parts = vec![match store.max_size {
        Some(max) => format!(
            "the limit is {}; new messages and files are refused from {} on",
            megabytes(max),
            megabytes(storage::threshold(max))
        ),
        None => "there is no limit (store.max_size sets one)".to_owned(),
    }];
    parts.extend(used.map(|used| format!("the store has {}", megabytes(used))));
    parts.extend(free.map(|free| {
        let min = store.min_free.map(|min| format!(" and must have {} (store.min_free)", megabytes(min)));
        format!("its disk has {} left{}", megabytes(free), min.unwrap_or_default())
    }));
    let status = if is_over || is_short { Status::Warning } else { Status::Ok };
    Finding { about: "store.max_size", status, detail: parts.join("; ") }
}

/// The portal's tables, where they are the directory: one finding for each thing that is wrong.
fn directory(app: &AppSettings) -> Vec<Finding> {
    let (settings, about) = (&app.routing.directory, "routing.directory");
    if settings.mode == DirectoryMode::Own {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let problems = match runtime {
        Ok(runtime) => runtime.block_on(portal_directory::check(settings)),
        Err(error) => vec![portal_directory::Problem { text: error.to_string(), may_pass: true }],
    };
    if problems.is_empty() {
        let detail = format!("the queries of app {} give the columns that are needed", app.id);
        return vec![Finding { about, status: Status::Ok, detail }];
    }
    let failed = |problem: portal_directory::Problem| Finding {
        about,
        status: Status::Failed,
        detail: format!("app {}: {}", app.id, problem.text),
    };
    problems.into_iter().map(failed).collect()
}

/// Messages go out, but nothing that the carrier tells comes in.
fn carrier(app: &AppSettings) -> Option<Finding> {
    let telnyx = &app.routing.telnyx;
    let is_deaf = telnyx.api_key.is_some() && telnyx.public_key.is_empty();
    is_deaf.then(|| Finding {
        about: "routing.carrier",
        status: Status::Warning,
        detail: format!(
            "app {} has telnyx.api_key and no telnyx.public_key: the carrier's webhooks are refused, so no message \
             is received and none is reported as delivered. Set telnyx.public_key",
            app.id
        ),
    })
}

/// Webhooks that will not reach their receivers.
fn receivers(settings: &Settings) -> Vec<Finding> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let refused = runtime.block_on(server::refused_receivers(&settings.apps));
    // A name that is being resolved yet must not hold up the answer.
    runtime.shutdown_background();
    refused
        .into_iter()
        .map(|receiver| Finding {
            about: "apps.webhooks",
            status: Status::Warning,
            detail: receiver.to_string(),
        })
        .collect()
}

fn public_channels(settings: &Settings, app: &AppSettings) -> Option<Finding> {
    let has_numbers = || {
        let count =
            storage::count(&settings.store, &settings.server.data_dir, exposure::COUNT_NUMBERS, &app.id);
        count != Some(0)
    };
    let is_exposed = exposure::is_exposed(app) && (exposure::is_set_up(app) || has_numbers());
    is_exposed.then(|| Finding {
        about: "routing.channels",
        status: Status::Warning,
        detail: format!(
            "messages of app {} go to public channels, which anyone with the app key can read: set \
             routing.payload = \"ids\" or routing.channels.mode = \"private\"; \
             routing.channels.public_acknowledged = true ends this warning",
            app.id
        ),
    })
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

fn to_json(finding: &Finding) -> Value {
    json!({ "check": finding.about, "status": finding.status.word(), "detail": finding.detail })
}

fn text(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        vec![finding.status.word().to_owned(), finding.about.to_owned(), finding.detail.clone()]
    };
    wrapped(&findings.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_compared_with_what_everything_needs() {
        let loaded = config::load(&Sources::default()).expect("valid");
        let needed = Descriptors::of(&loaded.settings);
        let sum = needed.sum();
        for (limit, expected) in [(sum, Status::Ok), (sum - 1, Status::Failed)] {
            assert_eq!(open_files(needed, Ok(limit), Status::Failed).status, expected);
        }
        let low = open_files(needed, Ok(sum - 100), Status::Warning);
        assert_eq!(low.status, Status::Warning);
        assert!(
            low.detail.contains(&format!("takes {} connections", needed.connections - 100)),
            "{}",
            low.detail
        );
        let development = open_files(needed, Ok(sum - 1), Status::Ok);
        assert!(development.status == Status::Ok && !development.detail.contains("raise"));
        let unknown = open_files(needed, Err(io::ErrorKind::Unsupported.into()), Status::Failed);
        assert_eq!(unknown.status, Status::Warning);
    }

    #[test]
    fn more_memory_than_there_is_is_worth_a_warning() {
        let sum = MemorySum::of(&config::load(&Sources::default()).expect("valid").settings);
        assert_eq!(memory(sum, sum.usual()).status, Status::Ok);
        let finding = memory(sum, sum.usual() - 1);
        assert!(finding.status == Status::Warning && finding.detail.contains("Lower server.memory"));
    }

    #[test]
    fn development_mode_is_not_warned_of_a_low_limit_of_open_files() {
        let pairs = [("PUSHER_APP_ID", "7"), ("PUSHER_APP_KEY", "k"), ("PUSHER_APP_SECRET", "s")];
        let environment: Vec<_> = pairs.map(|(name, value)| (name.into(), value.into())).into();
        let chosen = [("SWITCHBOARD__SERVER__MAX_CONNECTIONS".into(), "90000".into())];
        let mut loaded =
            config::load(&Sources { environment: environment.clone(), ..Sources::default() }).expect("valid");
        assert_eq!(shortage(&loaded), Status::Warning);
        loaded.settings.development = true;
        assert_eq!(shortage(&loaded), Status::Ok);
        let environment = [&environment[..], &chosen].concat();
        let loaded = config::load(&Sources { environment, ..Sources::default() }).expect("valid");
        assert_eq!(shortage(&loaded), Status::Failed);
    }

    #[test]
    fn a_quota_after_which_pages_stay_away_is_worth_a_warning() {
        let mut app = AppSettings::new("1001", "key", "secret");
        assert!(quota(&app).is_none());
        app.max_connections = std::num::NonZeroU32::new(5);
        let finding = quota(&app).expect("a finding");
        assert_eq!(finding.status, Status::Warning);
        assert!(
            finding.detail.contains("4004") && finding.detail.contains("\"retry\""),
            "{}",
            finding.detail
        );
        app.over_quota = OverQuota::Retry;
        assert!(quota(&app).is_none());
    }

    #[test]
    fn a_taken_address_fails() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("free port");
        let taken = taken.local_addr().map(|at| (at, taken)).expect("address");
        assert_eq!(address("server.bind", taken.0).status, Status::Failed);
        assert_eq!(address("server.bind", ([127, 0, 0, 1], 0).into()).status, Status::Ok);
    }
}
