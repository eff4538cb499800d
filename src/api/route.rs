//! Paths and methods.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::http::request::Parts;
use hyper::{Method, Response};
use percent_encoding::percent_decode_str;

use super::access::Signed;
use super::{ApiError, batch, channels, trigger, users};
use crate::protocol::http_auth::Query;
use crate::routing::Router;

/// A known path.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`, `/up`, `/live`
    Live,
    /// `/ready`
    Ready,
    /// `/app/{key}`
    WebSocket,
    /// `/users/{user}/terminate_connections`: where the Python SDK posts to.
    TerminateByKey {
        /// The user's id.
        user: String,
    },
    /// `/apps/{id}/…`
    App {
        /// The app's id.
        id: String,
        /// What is wanted of it.
        action: Action,
    },
    /// `/apps/{id}/messaging/…`, which looks for its calls itself.
    Messaging {
        /// The app's id.
        id: String,
        /// What follows `messaging`, decoded.
        path: Vec<String>,
    },
    /// `/carriers/telnyx/{app}` and `/carriers/telnyx/{app}/{token}`. The token stands in the signed body,
    /// too.
    CarrierWebhook {
        /// The app's id.
        id: String,
    },
    /// `/attachments/{app}/{id}` and `/attachments/{app}/{id}/{name}`, which looks at the method itself.
    Attachment {
        /// The app's id.
        app: String,
        /// The attachment's.
        id: String,
    },
    /// `/openapi.json`
    OpenApi,
}

/// A path and a method that belong together.
pub type Endpoint = Route;

/// What of an app is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// `events`
    Trigger,
    /// `batch_events`
    Batch,
    /// `channels`
    Channels,
    /// `channels/{name}`
    Channel(String),
    /// `channels/{name}/users`
    ChannelUsers(String),
    /// `users/{user}/terminate_connections`
    Terminate(String),
    /// `connections`
    Connections,
}

impl Route {
    /// The route of a path without its prefix and query; names in it are percent-decoded.
    pub fn find(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_start_matches('/').trim_end_matches('/').split('/').collect();
        let route = match segments.as_slice() {
            [""] | ["up"] | ["live"] => Self::Live,
            ["ready"] => Self::Ready,
            ["app", _] => Self::WebSocket,
            ["users", user, "terminate_connections"] => Self::TerminateByKey { user: decoded(user) },
            ["openapi.json"] => Self::OpenApi,
            ["carriers", "telnyx", id] | ["carriers", "telnyx", id, _] => {
                Self::CarrierWebhook { id: decoded(id) }
            }
            ["attachments", app, id] | ["attachments", app, id, _] => {
                Self::Attachment { app: decoded(app), id: decoded(id) }
            }
            ["apps", id, "messaging", path @ ..] => Self::Messaging {
                id: decoded(id),
                path: path.iter().map(|segment| decoded(segment)).collect(),
            },
            ["apps", id, rest @ ..] => {
                let action = match rest {
                    ["events"] => Action::Trigger,
                    ["batch_events"] => Action::Batch,
                    ["channels"] => Action::Channels,
                    ["channels", name] => Action::Channel(decoded(name)),
                    ["channels", name, "users"] => Action::ChannelUsers(decoded(name)),
                    ["users", user, "terminate_connections"] => Action::Terminate(decoded(user)),
                    ["connections"] => Action::Connections,
                    _ => return None,
                };
                Self::App { id: decoded(id), action }
            }
            _ => return None,
        };
        Some(route)
    }

    /// The route, if it can be used with this method.
    pub fn endpoint(self, method: &Method) -> Result<Endpoint, ApiError> {
        let (fits, allowed) = match &self {
            Self::Messaging { .. } | Self::Attachment { .. } => (true, ""),
            // HAProxy's `option httpchk` asks with OPTIONS unless it is told otherwise.
            Self::Live | Self::Ready => {
                (matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS), "GET, HEAD, OPTIONS")
            }
            Self::OpenApi => (method == Method::GET || method == Method::HEAD, "GET, HEAD"),
            Self::App { action: Action::Trigger | Action::Batch | Action::Terminate(_), .. }
            | Self::TerminateByKey { .. }
            | Self::CarrierWebhook { .. } => (method == Method::POST, "POST"),
            Self::WebSocket | Self::App { .. } => (method == Method::GET, "GET"),
        };
        if fits { Ok(self) } else { Err(ApiError::method_not_allowed(allowed)) }
    }
}

impl Action {
    /// Carries it out.
    pub(super) async fn run(
        self,
        router: Option<&Router>,
        request: &Signed,
        parts: &Parts,
        query: &Query<'_>,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        match self {
            Self::Trigger => trigger::trigger(request, &parts.headers),
            Self::Batch => batch::trigger(request, &parts.headers),
            Self::Channels => channels::list(request, query),
            Self::Channel(name) => channels::show(request, query, &name),
            Self::ChannelUsers(name) => channels::users(request, &name),
            Self::Terminate(user) => users::terminate(router, request, &user).await,
            Self::Connections => Ok(channels::connections(request)),
        }
    }
}

/// A path as logs show it. Left out: the token of a carrier's webhook, what follows a call of the messaging API
/// (it may be a phone number), and the key of a WebSocket (it may be a secret that somebody took for the key).
pub(super) fn shown(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').collect();
    let kept = segments.iter().enumerate().find_map(|(at, segment)| match *segment {
        "carriers" => Some(at + 3),
        "messaging" => Some(at + 2),
        "app" => Some(at + 1),
        _ => None,
    });
    match kept {
        Some(kept) if kept < segments.len() => format!("{}/…", segments[..kept].join("/")),
        _ => path.to_owned(),
    }
}

/// A path with one slash where there are several: pusher-js with `wsPath: '/'` asks for `//app/KEY`, and other
/// settings that end with a slash do likewise.
pub fn single_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut single = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !single.ends_with('/') {
            single.push(character);
        }
    }
    Cow::Owned(single)
}

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_show_no_token_and_no_number_of_a_path() {
        for (path, expected) in [
            ("/apps/1001/events", "/apps/1001/events"),
            ("/carriers/telnyx/1001", "/carriers/telnyx/1001"),
            ("/carriers/telnyx/1001/token", "/carriers/telnyx/1001/…"),
            ("/ws/carriers/telnyx/1001/token/x", "/ws/carriers/telnyx/1001/…"),
            ("/app/key", "/app/…"),
            ("/apps/1001/messaging/messages", "/apps/1001/messaging/messages"),
            ("/apps/1001/messaging/conversations/+13125550100/read", "/apps/1001/messaging/conversations/…"),
        ] {
            assert_eq!(shown(path), expected, "{path}");
        }
    }

    #[test]
    fn slashes_collapse() {
        for (path, single) in [
            ("//app/key", "/app/key"),
            ("/ws//app///key//", "/ws/app/key/"),
            ("/app/a%2F%2Fb", "/app/a%2F%2Fb"),
            ("//", "/"),
        ] {
            assert_eq!(single_slashes(path), single);
        }
    }

    #[test]
    fn paths_find_their_routes() {
        let app = |action| Some(Route::App { id: "1001".to_owned(), action });
        for (path, route) in [
            ("/", Some(Route::Live)),
            ("/ready", Some(Route::Ready)),
            ("/app/key", Some(Route::WebSocket)),
            ("/apps/1001/events", app(Action::Trigger)),
            ("/apps/1001/events/", app(Action::Trigger)),
            ("/apps/1001/channels/presence-a", app(Action::Channel("presence-a".to_owned()))),
            ("/apps/1001/channels/%23x/users", app(Action::ChannelUsers("#x".to_owned()))),
            ("/users/a%20b/terminate_connections", Some(Route::TerminateByKey { user: "a b".to_owned() })),
            (
                "/apps/1001/messaging/conversations/a%20b/read",
                Some(Route::Messaging {
                    id: "1001".to_owned(),
                    path: ["conversations", "a b", "read"].map(str::to_owned).to_vec(),
                }),
            ),
            ("/carriers/telnyx/1001", Some(Route::CarrierWebhook { id: "1001".to_owned() })),
            ("/carriers/telnyx/1001/token", Some(Route::CarrierWebhook { id: "1001".to_owned() })),
            ("/carriers/telnyx/1001/token/x", None),
            ("/carriers/other/1001", None),
            (
                "/attachments/1001/01J/a%20b.png",
                Some(Route::Attachment { app: "1001".to_owned(), id: "01J".to_owned() }),
            ),
            ("/attachments/1001", None),
            ("/openapi.json", Some(Route::OpenApi)),
            ("/apps/1001/channels/x/events", None),
            ("/apps/1001/channels/x/stats", None),
            ("/pusher/app/key/1/abcdefgh/xhr_streaming", None),
            ("/nowhere", None),
        ] {
            assert_eq!(Route::find(path), route, "{path}");
        }
        assert!([Method::HEAD, Method::OPTIONS].iter().all(|method| Route::Live.endpoint(method).is_ok()));
        assert!(Route::Live.endpoint(&Method::POST).is_err());
    }
}
