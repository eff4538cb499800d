//! Kinds for URLs: of databases, which may hold a password, and of HTTP servers.
//!
//! Messages never quote a URL: what is wrong with it may be that a password is in the wrong place.

use hyper::Uri;
use serde_json::Value;

use super::Secret;
use super::kind::{Kind, text_kind};
use super::raw::Raw;

const POSTGRES: (&str, &str) = ("postgres://", "postgres://user:password@host/database");
const MYSQL: (&str, &str) = ("mysql://", "mysql://user:password@host/database");

/// The other names of the same schemes.
const ALIASES: [(&str, &str); 2] = [("postgresql://", POSTGRES.0), ("mariadb://", MYSQL.0)];

/// Where the server keeps its own data.
pub(super) struct StoreUrl;

impl Kind for StoreUrl {
    type Value = Secret;
    const SECRET: bool = true;

    fn describe() -> String {
        "`sqlite:PATH` or `postgres://…`".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Secret, String> {
        let text = raw.text()?.trim();
        if let Some(path) = text.strip_prefix("sqlite:") {
            return sqlite(path).map(|()| Secret::new(text.to_owned()));
        }
        let url = canonical(text);
        if url.starts_with(MYSQL.0) {
            return Err("MySQL can be the portal's directory (routing.directory.url), not the store: write \
                        sqlite:PATH or postgres://…"
                .to_owned());
        }
        database(&url, &[POSTGRES]).map_err(|fault| format!("{fault}, or sqlite:PATH"))?;
        Ok(Secret::new(url))
    }

    fn show(value: &Secret) -> Value {
        without_password(value.expose()).into()
    }
}

/// The portal's database; empty: none.
pub(super) struct PortalUrl;

impl Kind for PortalUrl {
    type Value = Option<Secret>;
    const SECRET: bool = true;

    fn describe() -> String {
        "`mysql://…` or `postgres://…`".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Option<Secret>, String> {
        let url = canonical(raw.text()?.trim());
        if url.is_empty() {
            return Ok(None);
        }
        database(&url, &[MYSQL, POSTGRES])?;
        Ok(Some(Secret::new(url)))
    }

    fn show(value: &Option<Secret>) -> Value {
        value.as_ref().map_or(Value::Null, |url| without_password(url.expose()).into())
    }
}

/// One name for each scheme, so that nobody else has to know the others.
fn canonical(text: &str) -> String {
    let alias = ALIASES.iter().find_map(|(alias, name)| Some((name, text.strip_prefix(alias)?)));
    alias.map_or_else(|| text.to_owned(), |(name, rest)| format!("{name}{rest}"))
}

fn sqlite(path: &str) -> Result<(), String> {
    match path.trim_start_matches('/') {
        "" => Err("names no file: write sqlite:PATH, as in sqlite:switchboard.db".to_owned()),
        ":memory:" => Err("messages must survive a restart: write sqlite:PATH".to_owned()),
        _ if path.contains('?') => {
            Err("sqlite:PATH takes no parameters: remove the ? and what follows".to_owned())
        }
        _ => Ok(()),
    }
}

/// Enough of a look to catch a password with characters that have a meaning in a URL.
fn database(url: &str, schemes: &[(&str, &str)]) -> Result<(), String> {
    let Some(rest) = schemes.iter().find_map(|(scheme, _)| url.strip_prefix(scheme)) else {
        let examples: Vec<_> = schemes.iter().map(|(_, example)| *example).collect();
        return Err(format!("must be {}", examples.join(" or ")));
    };
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("holds white space: remove it, or write %20 for a blank in a password".to_owned());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let (user, address) = authority.rsplit_once('@').map_or((None, authority), |(user, at)| (Some(user), at));
    let (host, port) = match address.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (address, "1"),
    };
    let path = rest[authority.len()..].split('?').next().unwrap_or("");
    if port.parse::<u16>().is_err()
        || path.contains(['@', '#'])
        || user.is_some_and(|user| user.contains('@'))
    {
        return Err(
            "has no readable host and port: write / ? # @ : % in a password as %2F %3F %23 %40 %3A %25"
                .to_owned(),
        );
    }
    // Without a host the client takes its default or the parameter `host` (a socket's folder).
    if host.is_empty() && user.is_some() {
        return Err("has a user and no host: write user:password@host".to_owned());
    }
    Ok(())
}

/// The URL with `***` for its password and for its parameters, one of which may be another.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (rest, parameters) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?***"));
    match rest.rsplit_once('@').map(|(user, at)| (user.split_once(':'), at)) {
        Some((Some((user, _)), at)) => format!("{scheme}://{user}:***@{at}{parameters}"),
        _ => format!("{scheme}://{rest}{parameters}"),
    }
}

/// Scheme, host and port of a URL that is called: its path and its parameters may hold a token.
fn without_path(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    match url[start..].find(['/', '?']).map(|at| url.split_at(start + at)) {
        Some((origin, "/")) => format!("{origin}/"),
        Some((origin, _)) => format!("{origin}/***"),
        None => url.to_owned(),
    }
}

/// A server's address with `***` for the parts of its path that may be a token: those that are long.
fn without_tokens(url: &str) -> String {
    /// Shorter names are paths of APIs: `v2`, `messaging`.
    const LONG: usize = 12;
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let mut parts = rest.split('/');
    let host = parts.next().unwrap_or_default();
    let path: String =
        parts.map(|part| format!("/{}", if part.len() < LONG { part } else { "***" })).collect();
    format!("{scheme}://{host}{path}")
}

text_kind!(BaseUrl, "URL", base_url, without_tokens);
text_kind!(PublicUrl, "URL", public_url, without_tokens);

/// Where webhooks go; parameters may be secrets.
pub(super) struct HookUrl;

impl Kind for HookUrl {
    type Value = Secret;
    const SECRET: bool = true;

    fn describe() -> String {
        "URL".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Secret, String> {
        http(raw.text()?, "https://portal.example/hooks").map(Secret::new)
    }

    fn show(value: &Secret) -> Value {
        without_path(value.expose()).into()
    }
}

fn base_url(text: &str) -> Result<String, String> {
    let url = http(text, "https://host.example/path")?;
    if url.contains('?') {
        return Err("must be without ? and what follows: paths are put behind it".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn public_url(text: &str) -> Result<String, String> {
    /// The carrier takes 2,000 characters; the path comes on top.
    const MAX: usize = 1_000;
    match base_url(text) {
        _ if text.trim().is_empty() => Ok(String::new()),
        Ok(url) if url.len() > MAX => Err(format!("has more than {MAX} characters: write a shorter address")),
        other => other,
    }
}

/// Where callbacks go; empty: nowhere.
pub(super) struct CallbackUrl;

impl Kind for CallbackUrl {
    type Value = Option<String>;

    fn describe() -> String {
        "URL".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Option<String>, String> {
        match raw.text()? {
            text if text.trim().is_empty() => Ok(None),
            text => http(text, "https://portal.example/switchboard").map(Some),
        }
    }

    fn show(value: &Option<String>) -> Value {
        value.as_deref().map(without_path).into()
    }
}

fn http(text: &str, example: &str) -> Result<String, String> {
    let text = text.trim();
    let shape = || format!("must be an http:// or https:// URL such as {example}");
    let url: Uri = text.parse().map_err(|_| shape())?;
    let authority = url.authority().ok_or_else(shape)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err(shape());
    }
    if authority.as_str().contains('@') {
        return Err("must be without user and password: remove what stands before the @".to_owned());
    }
    if text.contains('#') {
        return Err("must be without # and what follows".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(text: &str) -> Result<String, String> {
        StoreUrl::parse(&Raw::Text(text.to_owned())).map(|url| url.expose().to_owned())
    }

    fn portal(text: &str) -> Result<Option<String>, String> {
        let url = PortalUrl::parse(&Raw::Text(text.to_owned()))?;
        Ok(url.map(|url| url.expose().to_owned()))
    }

    #[test]
    fn stores_are_sqlite_or_postgresql() {
        for (given, kept) in [
            ("sqlite:switchboard.db", "sqlite:switchboard.db"),
            ("sqlite:/var/lib/s.db", "sqlite:/var/lib/s.db"),
            (" postgres://u:p@h/d\n", "postgres://u:p@h/d"),
            ("postgresql://u:p%40@h:5433/d?sslmode=require", "postgres://u:p%40@h:5433/d?sslmode=require"),
            ("postgres://h", "postgres://h"),
            ("postgres://[::1]:5432/d", "postgres://[::1]:5432/d"),
            ("postgres:///d?host=/run/postgresql", "postgres:///d?host=/run/postgresql"),
        ] {
            assert_eq!(store(given).as_deref(), Ok(kept));
        }
        for (bad, why) in [
            ("", "must be postgres://user:password@host/database, or sqlite:PATH"),
            ("switchboard.db", "or sqlite:PATH"),
            ("sqlite:", "names no file"),
            ("sqlite://", "names no file"),
            ("sqlite::memory:", "survive a restart"),
            ("sqlite:s.db?mode=ro", "no parameters"),
            ("mysql://u:hidden@h/d", "MySQL can be the portal's directory"),
            ("mariadb://u:hidden@h/d", "MySQL can be the portal's directory"),
            ("postgres://u:hidden@/d", "no host"),
            ("postgres://u:hid/den@h/d", "%2F"),
            ("postgres://u:12/hidden@h/d", "%2F"),
            ("postgres://u:hidden#@h/d", "%23"),
            ("postgres://u:hidden@1@h/d", "%40"),
            ("postgres://u:hidden@h:port/d", "port"),
            ("postgres://u:hid den@h/d", "white space"),
        ] {
            let message = store(bad).expect_err(bad);
            assert!(message.contains(why), "{bad}: {message}");
            assert!(!message.contains("hid"), "{bad}: {message}");
        }
    }

    #[test]
    fn directories_are_mysql_or_postgresql() {
        assert_eq!(portal(""), Ok(None));
        assert_eq!(portal("mysql://r:p@db/portal"), Ok(Some("mysql://r:p@db/portal".to_owned())));
        assert_eq!(portal("mariadb://r:p@db/portal"), Ok(Some("mysql://r:p@db/portal".to_owned())));
        assert_eq!(portal("postgresql://db/portal"), Ok(Some("postgres://db/portal".to_owned())));
        assert!(portal("sqlite:x").expect_err("sqlite").starts_with("must be mysql://"));
    }

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("sqlite:switchboard.db", "sqlite:switchboard.db"),
            ("postgres://u:p@h:1/d", "postgres://u:***@h:1/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://h/d?user=u&password=p", "postgres://h/d?***"),
            ("postgres://u:p@h/d?sslmode=require", "postgres://u:***@h/d?***"),
        ] {
            assert_eq!(StoreUrl::show(&Secret::new(url.to_owned())), shown);
        }
        assert_eq!(PortalUrl::show(&None), Value::Null);
    }

    #[test]
    fn tokens_in_paths_and_parameters_are_not_shown() {
        for (url, shown) in [
            ("https://portal.example", "https://portal.example"),
            ("https://portal.example/", "https://portal.example/"),
            ("https://portal.example/hooks/s3cret", "https://portal.example/***"),
            ("https://portal.example:8443/hooks?token=s3cret", "https://portal.example:8443/***"),
            ("https://portal.example?token=s3cret", "https://portal.example/***"),
        ] {
            assert_eq!(HookUrl::show(&Secret::new(url.to_owned())), shown);
            assert_eq!(CallbackUrl::show(&Some(url.to_owned())), shown);
        }
        for (url, shown) in [
            ("https://api.telnyx.com/v2", "https://api.telnyx.com/v2"),
            ("https://proxy.example/0123456789abcdef/v2", "https://proxy.example/***/v2"),
            ("", ""),
        ] {
            assert_eq!(BaseUrl::show(&url.to_owned()), shown);
            assert_eq!(PublicUrl::show(&url.to_owned()), shown);
        }
    }

    #[test]
    fn http_urls() {
        assert_eq!(base_url("http://127.0.0.1:4010/v2/"), Ok("http://127.0.0.1:4010/v2".to_owned()));
        assert_eq!(public_url(" https://ws.portal.example/ "), Ok("https://ws.portal.example".to_owned()));
        assert_eq!(public_url(""), Ok(String::new()));
        let callback = |text: &str| CallbackUrl::parse(&Raw::Text(text.to_owned()));
        assert_eq!(callback(""), Ok(None));
        assert_eq!(callback("https://p.example/h?a=1"), Ok(Some("https://p.example/h?a=1".to_owned())));
        for (bad, why) in [
            ("portal.example", "http:// or https://"),
            ("/hooks", "http:// or https://"),
            ("ftp://portal.example", "http:// or https://"),
            ("https://", "http:// or https://"),
            ("https://portal.example/a b", "http:// or https://"),
            ("https://user:hidden@portal.example", "without user and password"),
            ("https://portal.example/#x", "without #"),
        ] {
            let message = callback(bad).expect_err(bad);
            assert!(message.contains(why) && !message.contains("hidden"), "{bad}: {message}");
        }
        assert!(base_url("").is_err());
        for check in [base_url, public_url] {
            assert!(check("https://portal.example?x=1").expect_err("parameters").contains("without ?"));
        }
        assert!(public_url(&format!("https://portal.example/{}", "x".repeat(1_000))).is_err());
    }
}
