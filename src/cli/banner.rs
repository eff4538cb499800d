//! What `serve` prints for people. It prints no secret but the development app's.

use super::laravel::{self, Block, Form, Values};
use crate::config::{AppSettings, ClientEvents, Loaded, Origin};
use crate::server::Addresses;

/// Addresses, and in development mode what a Laravel project needs.
pub(super) fn text(loaded: &Loaded, addresses: &Addresses) -> String {
    let Addresses { public, admin } = addresses;
    let mut text = format!(
        "switchboard {} is ready\n\n  WebSocket, HTTP API  http://{public}\n  Health, metrics      http://{admin}\n",
        env!("CARGO_PKG_VERSION")
    );
    if loaded.settings.development {
        for app in &loaded.settings.apps {
            text.push_str(&development(&laravel::values(app, &loaded.endpoint, *public)));
        }
    } else if let [app] = &loaded.settings.apps[..] {
        text.extend(from_variable(app, loaded, addresses));
    }
    text
}

/// An app of the environment comes without a file that shows what differs from development mode.
fn from_variable(app: &AppSettings, loaded: &Loaded, addresses: &Addresses) -> Option<String> {
    let Some(Origin::Environment { name, file }) = loaded.origins.get("apps.0.id") else { return None };
    let file = file.as_ref().map_or(String::new(), |(path, _)| format!(" in {path}"));
    let mut facts = vec![format!("App {} comes from {name}{file}", app.id)];
    if app.client_events == ClientEvents::Off {
        facts.push("client events are off".to_owned());
    }
    if addresses.public.ip().is_unspecified() {
        facts.push("the server listens on all addresses".to_owned());
    }
    Some(format!("\n  {}\n", facts.join("; ")))
}

/// Both `.env` blocks fit one terminal; the command prints the rest.
fn development(values: &Values) -> String {
    let env = |form| laravel::text(form, Block::Env, values).unwrap_or_default();
    format!(
        r#"
Development mode: no app is configured, so the server made one and keeps it after a restart.
Client events (whispers) are on for it; for an app of your own they are off until you set client_events.

.env of Laravel 11 to 13:

{}
.env of Laravel 9 and 10, and of the programs in examples/backend:

{}
  switchboard laravel                what else to paste (in this folder): commands, Echo, Vue, React
  switchboard laravel --form pusher  the same for Laravel 9 and 10 (Laravel 8: --form mix)
  switchboard serve --env-file .env  run with the app of a .env file instead of this one

"#,
        env(Form::Reverb),
        env(Form::Pusher)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, AppSettings, Sources};

    fn loaded(environment: &[(&str, &str)]) -> Loaded {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        config::load(&Sources { environment, ..Sources::default() }).expect("valid")
    }

    fn addresses() -> Addresses {
        Addresses { public: ([127, 0, 0, 1], 6001).into(), admin: ([127, 0, 0, 1], 9601).into() }
    }

    #[test]
    fn a_configured_app_is_not_printed() {
        let app =
            [("PUSHER_APP_ID", "7"), ("PUSHER_APP_KEY", "the-key"), ("PUSHER_APP_SECRET", "the-secret")];
        let text = text(&loaded(&app), &addresses());
        assert!(text.contains("http://127.0.0.1:6001") && text.contains("http://127.0.0.1:9601"), "{text}");
        assert!(!text.contains("the-"), "{text}");
    }

    #[test]
    fn an_app_of_the_environment_is_named_with_what_is_true_of_it() {
        let app = [("PUSHER_APP_ID", "810598"), ("PUSHER_APP_KEY", "k"), ("PUSHER_APP_SECRET", "s")];
        let everywhere = Addresses { public: ([0, 0, 0, 0], 6001).into(), ..addresses() };
        let line = "\n  App 810598 comes from PUSHER_APP_ID; client events are off; the server listens on all addresses\n";
        assert!(text(&loaded(&app), &everywhere).ends_with(line), "{}", text(&loaded(&app), &everywhere));

        let whispering = [&app[..], &[("SWITCHBOARD__APPS__0__CLIENT_EVENTS", "members")]].concat();
        let text_there = text(&loaded(&whispering), &addresses());
        assert!(text_there.ends_with("\n  App 810598 comes from PUSHER_APP_ID\n"), "{text_there}");

        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join(".env");
        std::fs::write(&file, "REVERB_APP_ID=7\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\n").expect("write");
        let sources = Sources { env_file: Some(file.clone()), ..Sources::default() };
        let text_of_file = text(&config::load(&sources).expect("valid"), &addresses());
        let line =
            format!("\n  App 7 comes from REVERB_APP_ID in {}; client events are off\n", file.display());
        assert!(text_of_file.ends_with(&line), "{text_of_file}");
    }

    #[test]
    fn the_development_app_comes_ready_to_paste() {
        let mut loaded = loaded(&[]);
        loaded.settings.development = true;
        loaded.settings.apps = vec![AppSettings::new("123456", "the-key", "the-secret")];
        let text = text(&loaded, &addresses());
        for line in [
            "PUSHER_APP_ID=123456",
            "PUSHER_APP_KEY=the-key",
            "PUSHER_APP_SECRET=the-secret",
            "PUSHER_HOST=127.0.0.1",
            "PUSHER_PORT=6001",
            "PUSHER_SCHEME=http",
            "VITE_PUSHER_APP_KEY=\"${PUSHER_APP_KEY}\"",
            "BROADCAST_CONNECTION=reverb",
            "REVERB_APP_ID=123456",
            "REVERB_APP_SECRET=the-secret",
            "REVERB_PORT=6001",
            "VITE_PUSHER_APP_CLUSTER=\"${PUSHER_APP_CLUSTER}\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn laravels_own_variables_say_where_clients_connect() {
        let pairs = [("PUSHER_HOST", "ws.example.com"), ("PUSHER_PORT", "443"), ("PUSHER_SCHEME", "https")];
        let mut loaded = loaded(&pairs);
        loaded.settings.development = true;
        loaded.settings.apps = vec![AppSettings::new("1", "k", "s")];
        let text = text(&loaded, &addresses());
        for line in ["PUSHER_HOST=ws.example.com", "PUSHER_PORT=443", "REVERB_SCHEME=https"] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
        }
    }
}
