//! Warns of webhooks that will be refused because their receivers are not on the internet: found when the
//! configuration is read, not when the first event is lost.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hyper::Uri;
use tokio::task::JoinSet;

use crate::config::AppSettings;
use crate::http_client::{self, Reach};

/// Time for the resolution of a name. One that takes longer is not warned of.
const RESOLUTION: Duration = Duration::from_secs(3);

/// A webhook whose receiver is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedReceiver {
    /// The app.
    pub app: String,
    /// The webhook's name, if it has one.
    pub name: String,
    /// Scheme, host and port of its URL.
    pub address: String,
    /// What its host stands for.
    pub ip: IpAddr,
}

impl fmt::Display for RefusedReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, name, address, ip } = self;
        let name = if name.is_empty() { String::new() } else { format!(" {name}") };
        write!(
            f,
            "requests of webhook{name} of app {app} to {address} will be refused: {ip} is a private or local address. \
             Set allow_private_addresses = true in its [[apps.webhooks]]"
        )
    }
}

/// The webhooks of these apps whose receivers are refused, as far as names can be resolved now.
pub async fn refused(apps: &[AppSettings]) -> Vec<RefusedReceiver> {
    let mut checks = JoinSet::new();
    for app in apps {
        for webhook in &app.webhooks {
            // The configuration has checked it.
            let Ok(uri) = webhook.url.expose().parse::<Uri>() else { continue };
            let reach = Reach { public_only: !webhook.allow_private_addresses, ca_file: None };
            let (app, name, address) = (app.id.clone(), webhook.name.clone(), http_client::address(&uri));
            checks.spawn(async move {
                let ip = tokio::time::timeout(RESOLUTION, reach.refused_address(&uri)).await.ok()??;
                Some(RefusedReceiver { app, name, address, ip })
            });
        }
    }
    let mut refused: Vec<_> = checks.join_all().await.into_iter().flatten().collect();
    refused.sort();
    refused
}

/// Logs them. Resolving names may take a while, so nothing waits for this.
pub(super) fn warn_of_refused(apps: Vec<AppSettings>) {
    tokio::spawn(async move {
        for receiver in refused(&apps).await {
            tracing::warn!("{receiver}");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, WebhookSettings};

    fn app(url: &str, allow_private_addresses: bool) -> AppSettings {
        let url = Secret::new(url.to_owned());
        let webhook = WebhookSettings {
            name: "orders".to_owned(),
            url,
            allow_private_addresses,
            ..WebhookSettings::default()
        };
        AppSettings { webhooks: vec![webhook], ..AppSettings::new("1001", "key", "secret") }
    }

    #[tokio::test]
    async fn receivers_that_are_not_on_the_internet_are_named_without_their_paths() {
        for (url, address, ip) in [
            ("http://127.0.0.1:8000/hook?token=x", "http://127.0.0.1:8000", "127.0.0.1"),
            ("https://10.1.2.3/hook", "https://10.1.2.3", "10.1.2.3"),
            ("http://[::1]:81/", "http://[::1]:81", "::1"),
        ] {
            let found = refused(&[app(url, false)]).await;
            assert_eq!(found.len(), 1, "{url}");
            assert_eq!((found[0].address.as_str(), found[0].ip.to_string().as_str()), (address, ip));
            let text = found[0].to_string();
            assert!(text.contains("webhook orders of app 1001") && !text.contains("hook?"), "{text}");
            assert_eq!(refused(&[app(url, true)]).await, []);
        }
        assert_eq!(refused(&[app("http://localhost:8000/", false)]).await.len(), 1);
        assert_eq!(refused(&[app("https://8.8.8.8/hook", false)]).await, []);
    }
}
