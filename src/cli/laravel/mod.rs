//! `switchboard laravel`: what to paste into a Laravel project, for the configured app and address.

mod blocks;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use clap::Args;
use hyper::Uri;
use serde_json::{Map, Value, json};

use super::terminal::Terminal;
use super::{Exit, refuse};
use crate::config::{self, AppSettings, Endpoint, Loaded, Sources};
pub(super) use blocks::{Block, Form, Values, text};

/// What to print; without a block, all of them.
#[derive(Clone, Args)]
pub(super) struct LaravelCommand {
    /// Print this block alone, as it is, and nothing else
    block: Option<Block>,
    /// The Laravel version and driver the block is for
    #[arg(long, value_enum, default_value_t)]
    form: Form,
    /// Where clients reach the server, as http://HOST:PORT or https://HOST
    /// [default: PUSHER_HOST or REVERB_HOST, otherwise server.bind]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Whose credentials; needed when several apps are configured
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Print the secret of a configured app (that of a development app is always printed)
    #[arg(long)]
    show_secret: bool,
    /// Print the values of the documentation instead of those of the configuration
    #[arg(long)]
    example: bool,
}

pub(super) fn run(command: &LaravelCommand, sources: &Sources, terminal: &mut Terminal) -> io::Result<Exit> {
    let values = if command.example {
        Values::example()
    } else {
        let loaded = match config::load(sources) {
            Ok(loaded) => loaded,
            Err(problems) => return refuse(&problems, terminal),
        };
        if loaded.settings.apps.is_empty() {
            return complain(&no_app(&loaded.settings.server.data_dir), Exit::Failed, terminal);
        }
        match configured(command, &loaded) {
            Ok(values) => values,
            Err(problem) => return complain(&problem, Exit::Misused, terminal),
        }
    };
    let form = command.form;
    let Some(block) = command.block else {
        terminal.answer(&all_json(form, &values), || all(form, &values))?;
        return Ok(Exit::Fine);
    };
    let Some(text) = text(form, block, &values) else {
        let has: Vec<_> = form.blocks().iter().map(|block| block.name()).collect();
        let (form, block) = (form.name(), block.name());
        let problem = format!("the form {form} has no block {block}; it has {}", has.join(", "));
        return complain(&problem, Exit::Misused, terminal);
    };
    terminal.answer(&json!({ "form": form.name(), block.name(): text }), || text.clone())?;
    Ok(Exit::Fine)
}

/// No app is configured, and no server has been started in this folder.
fn no_app(data_dir: &Path) -> String {
    let here = if data_dir.is_relative() { "./" } else { "" };
    format!(
        "there is no development app in {here}{}: run this command in the folder where the server was started, or \
         name the app with --config FILE or --env-file FILE (--example prints the values of the documentation)",
        data_dir.display()
    )
}

fn complain(problem: &str, exit: Exit, terminal: &mut Terminal) -> io::Result<Exit> {
    terminal.complain(problem);
    if terminal.json() {
        terminal.object(&json!({ "event": "failed", "error": problem }))?;
    }
    Ok(exit)
}

fn configured(command: &LaravelCommand, loaded: &Loaded) -> Result<Values, String> {
    let app = chosen_app(&loaded.settings.apps, command.app.as_deref())?;
    let mut values = values(app, &loaded.endpoint, loaded.settings.server.bind);
    if let Some(url) = &command.url {
        (values.scheme, values.host, values.port) = address(url)?;
    }
    if values.port == "0" {
        return Err(
            "server.bind has port 0, any free one: name the port with --url http://HOST:PORT".to_owned()
        );
    }
    if !command.show_secret && !loaded.settings.development {
        values.secret = None;
    }
    Ok(values)
}

fn chosen_app<'a>(apps: &'a [AppSettings], id: Option<&str>) -> Result<&'a AppSettings, String> {
    let ids = || apps.iter().map(|app| app.id.as_str()).collect::<Vec<_>>().join(", ");
    match (id, apps) {
        (None, [app]) => Ok(app),
        (None, _) => Err(format!("several apps are configured: choose one of {} with --app ID", ids())),
        (Some(id), _) => {
            let app = apps.iter().find(|app| app.id == id);
            app.ok_or_else(|| format!("--app: there is no app {id}; the configuration has {}", ids()))
        }
    }
}

/// The app's credentials, secret included, and where clients reach the server.
pub(super) fn values(app: &AppSettings, endpoint: &Endpoint, public: SocketAddr) -> Values {
    let host = match public {
        // A client on this machine reaches a server that listens on all addresses.
        public if public.ip().is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    };
    Values {
        id: app.id.clone(),
        key: app.key.clone(),
        secret: app.secrets.first().map(|secret| secret.expose().to_owned()),
        host: endpoint.host.clone().unwrap_or(host),
        port: endpoint.port.clone().unwrap_or_else(|| public.port().to_string()),
        scheme: endpoint.scheme.clone().unwrap_or_else(|| "http".to_owned()),
    }
}

/// Scheme, host and port of `--url`.
fn address(url: &str) -> Result<(String, String, String), String> {
    let problem = |fault: &str| format!("--url: {url:?} {fault}: write http://HOST:PORT or https://HOST");
    let uri: Uri = url.parse().map_err(|_| problem("is not an address"))?;
    let (scheme, port) = match uri.scheme_str() {
        Some("http" | "ws") => ("http", 80),
        Some("https" | "wss") => ("https", 443),
        _ => return Err(problem("has no scheme")),
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(problem("has a path"));
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| problem("has no host"))?;
    let port = uri.port_u16().unwrap_or(port);
    Ok((scheme.to_owned(), host.to_owned(), port.to_string()))
}

fn all(form: Form, values: &Values) -> String {
    let mut parts = vec![match form {
        Form::Reverb => "Laravel 11 to 13, driver reverb (for the driver pusher: --form pusher; Laravel 8: --form mix)\n".to_owned(),
        Form::Pusher => "Laravel 9 and later, driver pusher (Laravel 11 to 13 also: --form reverb; Laravel 8: --form mix)\n".to_owned(),
        Form::Mix => "Laravel 8, or later with Laravel Mix\n".to_owned(),
    }];
    for &block in form.blocks() {
        parts.push(format!("# {}\n", block.place(form)));
        parts.extend(text(form, block, values));
    }
    if form != Form::Reverb {
        parts.push(
            "Laravel 8 to 10: remove the comment sign before App\\Providers\\BroadcastServiceProvider::class in\n\
             config/app.php; it registers /broadcasting/auth.\n"
                .to_owned(),
        );
    }
    parts.push("docs/laravel.md leads through all of it, to the first event in a browser.\n".to_owned());
    parts.join("\n")
}

fn all_json(form: Form, values: &Values) -> Value {
    let mut object = Map::from_iter([("form".to_owned(), form.name().into())]);
    for &block in form.blocks() {
        object.insert(block.name().to_owned(), text(form, block, values).into());
    }
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_or_refused_with_its_form() {
        for (url, scheme, host, port) in [
            ("http://127.0.0.1:6001", "http", "127.0.0.1", "6001"),
            ("https://ws.portal.example", "https", "ws.portal.example", "443"),
            ("wss://ws.portal.example/", "https", "ws.portal.example", "443"),
            ("ws://[::1]:80", "http", "[::1]", "80"),
        ] {
            let expected = (scheme.to_owned(), host.to_owned(), port.to_owned());
            assert_eq!(address(url), Ok(expected), "{url}");
        }
        for (url, fault) in [
            ("127.0.0.1:6001", "has no scheme"),
            ("ws.portal.example", "has no scheme"),
            ("ftp://x", "has no scheme"),
            ("http://x/app", "has a path"),
            ("http://", "is not an address"),
            ("http:// x", "is not an address"),
        ] {
            let problem = address(url).expect_err(url);
            assert!(problem.contains(fault) && problem.contains("https://HOST"), "{problem}");
        }
    }

    #[test]
    fn an_address_for_all_is_printed_as_loopback() {
        let app = AppSettings::new("1", "k", "s");
        for (bind, host) in
            [("0.0.0.0:6001", "127.0.0.1"), ("[::1]:6001", "[::1]"), ("192.0.2.1:6001", "192.0.2.1")]
        {
            let values = values(&app, &Endpoint::default(), bind.parse().expect("an address"));
            assert_eq!(
                (values.host.as_str(), values.port.as_str(), values.scheme.as_str()),
                (host, "6001", "http")
            );
        }
    }
}
