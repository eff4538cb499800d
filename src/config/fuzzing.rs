//! What must hold for any text that an operator gives as configuration.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;

use ::url::Url;
use serde_json::Value;

use super::dotenv::Assignment;
use super::kind::{Address, Folder, Kind, Networks, Shards};
use super::raw::Raw;
use super::shape::Origins;
use super::url::{BaseUrl, CallbackUrl, HookUrl, PortalUrl, PublicUrl, StoreUrl};
use super::{Origin, Problem, Sources, load_from, rows, units};

/// Stands for a secret. It is no name of a variable, so that `${…}` around it is not quoted either.
const CANARY: &str = "canary-of-secrets";
/// Keys whose values no message, no row and no `Debug` shows.
const SECRET_KEYS: [&str; 3] = ["secrets", "token", "api_key"];

/// A TOML file and, behind a line of dashes, variables: loads or is refused, the same each time; what is wrong stands
/// where the file is; a secret is shown nowhere.
pub(crate) fn configuration(text: &str) {
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    // Such a key reads another file, which may have no end.
    if text.contains("_file") || text.contains("_FILE") {
        return;
    }
    let pairs = variables.lines().filter_map(|line| line.split_once('='));
    let sources = Sources {
        file: Some("switchboard.toml".into()),
        environment: pairs
            .filter(|(name, value)| !name.contains('\0') && !value.contains('\0'))
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        ..Sources::default()
    };
    let loaded = || load_from(&sources, |_: &Path| Ok(file.to_owned()));
    let hides_secret = holds_canary_as_secret(file) && !variables.contains(CANARY);
    match (loaded(), loaded()) {
        (Ok(loaded), Ok(again)) => {
            assert_eq!(loaded.settings, again.settings);
            let rows = rows(&loaded);
            let shown = rows.iter().map(|row| format!("{} {} {}\n", row.key, row.value, row.origin));
            let shown = shown.collect::<String>() + &format!("{:?} {:?}", loaded.settings, loaded.hints);
            assert!(!hides_secret || !shown.contains(CANARY), "{shown}");
            loaded.hints.iter().for_each(|hint| problem(hint, file));
        }
        (Err(problems), Err(again)) => {
            assert_eq!(problems.0, again.0);
            assert!(!problems.0.is_empty());
            for one in &problems.0 {
                problem(one, file);
                assert!(!hides_secret || !format!("{one} {}", one.to_json()).contains(CANARY), "{one}");
            }
        }
        (once, again) => panic!("once {once:?}, then {again:?}"),
    }
}

/// Whether the canary is in the file, and only as the value of a secret.
fn holds_canary_as_secret(file: &str) -> bool {
    let is_secret = |line: &str| {
        let (key, _) = line.split_once('=').unwrap_or_default();
        SECRET_KEYS.contains(&key.trim())
    };
    let mut lines = file.lines().filter(|line| line.contains(CANARY)).peekable();
    // In a text of several lines, a line is no key.
    lines.peek().is_some() && lines.all(is_secret) && !file.contains("\"\"\"") && !file.contains("'''")
}

fn problem(problem: &Problem, file: &str) {
    assert!(!problem.message.is_empty());
    if let Origin::File { line: Some(line), .. } = &problem.origin {
        assert!((1..=file.split('\n').count()).contains(line), "{problem}");
    }
}

/// A `.env` file: names are names, lines ascend, and each value comes back from either kind of quotes.
pub(crate) fn dotenv(text: &str) {
    let lines = text.split('\n').count();
    let outside = |name: &str| (name == "OUTSIDE").then(|| "from outside".to_owned());
    match super::dotenv::parse(text, outside) {
        Ok(assignments) => {
            assert!(assignments.is_sorted_by(|before, after| before.line <= after.line));
            for assignment in &assignments {
                assert!((1..=lines).contains(&assignment.line));
                assert_eq!(assignment.name.trim(), assignment.name);
                comes_back(assignment);
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty() && faults.is_sorted_by(|before, after| before.0 < after.0));
            assert!(faults.iter().all(|(line, fault)| (1..=lines).contains(line) && !fault.is_empty()));
        }
    }
}

fn comes_back(Assignment { name, value, .. }: &Assignment) {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
    let mut written = vec![format!("{name}=\"{escaped}\" # comment\nNEXT=1\n")];
    if !value.contains('\'') {
        written.push(format!("export {name} = '{value}'\r\nNEXT=1"));
    }
    for text in written {
        let read = super::dotenv::parse(&text, |_| None).expect("bug: quoted text is read");
        let read: Vec<_> = read.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect();
        assert_eq!(read, [(name.as_str(), value.as_str()), ("NEXT", "1")], "{text}");
    }
}

/// Durations, sizes, addresses, networks: what is accepted is shown so that it is accepted again, as the same.
pub(crate) fn setting_values(text: &str) {
    if let Ok(duration) = units::parse_duration(text) {
        assert_eq!(units::parse_duration(&units::format_duration(duration)), Ok(duration), "{text:?}");
    }
    if let Ok(size) = units::parse_size(text) {
        assert_eq!(units::parse_size(&units::format_size(size)), Ok(size), "{text:?}");
    }
    is_shown_as_read::<Address>(text);
    is_shown_as_read::<Shards>(text);
    is_shown_as_read::<Networks>(text);
    is_shown_as_read::<Origins>(text);
    if let Ok(folder) = Folder::parse(&Raw::Text(text.to_owned())) {
        assert!(!folder.as_os_str().is_empty());
    }
    if let Ok(address) = Address::parse(&Raw::Text(text.to_owned())) {
        assert_eq!(text.trim().parse(), Ok::<SocketAddr, _>(address));
    }
}

fn is_shown_as_read<K: Kind<Value: PartialEq + Debug>>(text: &str) {
    let Ok(value) = K::parse(&Raw::Untyped(text.to_owned(), ',')) else { return };
    let shown = match K::show(&value) {
        Value::String(text) => Raw::Text(text),
        Value::Number(number) => Raw::Integer(number.as_i64().expect("bug: a setting beyond 63 bits")),
        Value::Array(items) => {
            Raw::List(items.iter().filter_map(Value::as_str).map(|item| Raw::Text(item.to_owned())).collect())
        }
        other => panic!("{text:?} is shown as {other}"),
    };
    assert_eq!(K::parse(&shown), Ok(value), "{text:?} is shown as {shown:?}");
}

/// URLs of databases and receivers: what is accepted is one, is kept as it is from then on, and shows no password.
pub(crate) fn urls(text: &str) {
    let raw = Raw::Text(text.to_owned());
    let read = |text: &str| Raw::Text(text.to_owned());
    if let Ok(url) = StoreUrl::parse(&raw) {
        let url = url.expose();
        assert_eq!(StoreUrl::parse(&read(url)).expect("bug: once accepted").expose(), url);
        assert!(url.starts_with("sqlite:") || url.starts_with("postgres://"));
        hides_password::<StoreUrl>(&raw, url);
    }
    if let Ok(Some(url)) = PortalUrl::parse(&raw) {
        let url = url.expose();
        assert!(url.starts_with("mysql://") || url.starts_with("postgres://"));
        hides_password::<PortalUrl>(&raw, url);
    }
    if let Ok(url) = BaseUrl::parse(&raw) {
        is_http(&url);
        assert!(!url.contains('?') && !url.ends_with('/'), "{url}");
        assert_eq!(BaseUrl::parse(&read(&url)).as_ref(), Ok(&url));
    }
    if let Ok(url) = PublicUrl::parse(&raw) {
        assert!(url.len() <= 1_000);
        assert_eq!(PublicUrl::parse(&read(&url)).as_ref(), Ok(&url));
    }
    if let Ok(url) = HookUrl::parse(&raw) {
        is_http(url.expose());
        hides_password::<HookUrl>(&raw, url.expose());
    }
    if let Ok(Some(url)) = CallbackUrl::parse(&raw) {
        is_http(&url);
    }
}

fn is_http(url: &str) {
    let uri: hyper::Uri = url.parse().expect("bug: accepted, but no URI");
    assert!(matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some(), "{url}");
    let authority = uri.authority().expect("bug: a host without an authority").as_str();
    assert!(!authority.contains('@') && !url.contains(['#', ' ']), "{url}");
}

fn hides_password<K: Kind>(raw: &Raw, url: &str) {
    let Ok(parsed) = Url::parse(url) else { return };
    let Ok(value) = K::parse(raw) else { return };
    let shown = K::show(&value).to_string();
    // A shorter one, or one that is there a second time, may be a part of something else.
    let is_secret = |password: &&str| password.len() > 3 && url.matches(*password).count() == 1;
    if let Some(password) = parsed.password().filter(is_secret) {
        assert!(!shown.contains(password), "{shown} shows {password}");
    }
}

/// The operator's SQL: parameters stand where they are said to be, in order; one statement stays what it is.
pub(crate) fn sql(query: &str) {
    let found = super::parameters(query);
    let mut at = 0;
    for parameter in &found {
        assert!(parameter.range.start >= at);
        assert_eq!(query[parameter.range.clone()], format!(":{}", parameter.name));
        at = parameter.range.end;
    }
    if let Ok(statement) = super::sql::statement(query) {
        assert_eq!(super::sql::statement(&statement).as_ref(), Ok(&statement));
        assert_eq!(statement.trim(), statement);
        let names =
            |query| super::parameters(query).into_iter().map(|it| it.name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&statement), names(query));
    }
}
