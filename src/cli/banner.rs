//! What `serve` prints for people. The only place that prints secrets, and only the development app's.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::config::{AppSettings, Endpoint, Loaded};
use crate::server::Addresses;

/// Addresses, and in development mode everything a Laravel project needs.
pub(super) fn text(loaded: &Loaded, addresses: &Addresses) -> String {
    let Addresses { public, admin } = addresses;
    let mut text = format!(
        "switchboard {} is ready\n\n  WebSocket, HTTP API  http://{public}\n  Health, metrics      http://{admin}\n",
        env!("CARGO_PKG_VERSION")
    );
    if loaded.settings.development {
        for app in &loaded.settings.apps {
            text.push_str(&development(app, &Client::new(&loaded.endpoint, *public)));
        }
    }
    text
}

/// Where clients reach the server.
struct Client {
    host: String,
    port: String,
    scheme: String,
}

impl Client {
    fn new(endpoint: &Endpoint, public: SocketAddr) -> Self {
        let host = match public {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        Self {
            host: endpoint.host.clone().unwrap_or(host),
            port: endpoint.port.clone().unwrap_or_else(|| public.port().to_string()),
            scheme: endpoint.scheme.clone().unwrap_or_else(|| "http".to_owned()),
        }
    }
}

fn development(app: &AppSettings, client: &Client) -> String {
    let AppSettings { id, key, secrets, .. } = app;
    let secret = secrets.first().map_or("", |secret| secret.expose());
    let Client { host, port, scheme } = client;
    let tls = scheme == "https";
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        r#"
Development mode: no app is configured, so this one was made. It stays the same after a restart.
For your own set PUSHER_APP_ID, PUSHER_APP_KEY and PUSHER_APP_SECRET or write switchboard.toml
(switchboard config init).

  id      {id}
  key     {key}
  secret  {secret}

Laravel, .env:

BROADCAST_CONNECTION=pusher
BROADCAST_DRIVER=pusher
PUSHER_APP_ID={id}
PUSHER_APP_KEY={key}
PUSHER_APP_SECRET={secret}
PUSHER_HOST={host}
PUSHER_PORT={port}
PUSHER_SCHEME={scheme}
PUSHER_APP_CLUSTER=mt1
VITE_PUSHER_APP_KEY="${{PUSHER_APP_KEY}}"
VITE_PUSHER_HOST="${{PUSHER_HOST}}"
VITE_PUSHER_PORT="${{PUSHER_PORT}}"
VITE_PUSHER_SCHEME="${{PUSHER_SCHEME}}"
VITE_PUSHER_APP_CLUSTER="${{PUSHER_APP_CLUSTER}}"

Laravel Echo:

import Echo from 'laravel-echo';
import Pusher from 'pusher-js';

window.Pusher = Pusher;
window.Echo = new Echo({{
    broadcaster: 'pusher',
    key: '{key}',
    cluster: 'mt1',
    wsHost: '{host}',
    wsPort: {port},
    wssPort: {port},
    forceTLS: {tls},
    enabledTransports: ['ws', 'wss'],
}});

"#
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};

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
            "    key: 'the-key',",
            "    wsPort: 6001,",
            "    forceTLS: false,",
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
        for line in
            ["PUSHER_HOST=ws.example.com", "PUSHER_PORT=443", "    wssPort: 443,", "    forceTLS: true,"]
        {
            assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
        }
    }
}
