//! The portal of `examples/portal/` in a real browser: two users, each on a page of their own.

use std::path::Path;

use serde_json::{Value, json};

use crate::browser::chromium;
use crate::clients::{Driver, RECONNECT_LIMIT, example};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, Router, Setup};

/// The carrier's stand-in refuses messages to this number.
const INVALID: &str = "+15005550001";

/// The router, the portal's backend and its users' pages.
struct Portal {
    router: Router,
    browser: Driver,
    address: String,
}

impl Portal {
    async fn start() -> Self {
        Self::with(Router::setup(), "public").await
    }

    /// Both users have each other's names, and Carla's, who is outside.
    async fn with(setup: Setup, channels: &str) -> Self {
        example("portal/dist/index.html");
        let router = setup.routing("channels.mode", channels).start().await;
        for (user, name, number) in [(1, "Ben Ortiz", BOB), (2, "Ann Lee", ANN)] {
            router
                .ok("/conversations", json!({"user_id": user, "to": number, "contact": {"name": name}}))
                .await;
            let carla = json!({"user_id": user, "to": OUTSIDE, "contact": {"name": "Carla Diaz"}});
            router.ok("/conversations", carla).await;
        }
        let (app, public) = (&router.app, router.server().public);
        let env = json!({
            "PUSHER_APP_ID": app.id,
            "PUSHER_APP_KEY": app.key,
            "PUSHER_APP_SECRET": app.secret,
            "PUSHER_HOST": public.ip().to_string(),
            "PUSHER_PORT": public.port().to_string(),
            "PUSHER_SCHEME": "http",
            "CHANNELS": channels,
        });
        let mut browser = Driver::node("messenger.mjs", &[]);
        let address = browser.ask("start", json!({"env": env})).await;
        let address = address.as_str().expect("an address").to_owned();
        Self { router, browser, address }
    }

    /// Ann and Ben, both looking at their conversation.
    async fn talking(mut self) -> Self {
        self.open("Ann", 1, json!({})).await;
        self.open("Ben", 2, json!({})).await;
        self.on("Ann", "pick", json!({"name": "Ben Ortiz"})).await;
        self.on("Ben", "pick", json!({"name": "Ann Lee"})).await;
        self
    }

    async fn open(&mut self, on: &str, user: u64, options: Value) {
        let command = json!({"user": user, "executable": chromium(), "options": options});
        self.on(on, "open", command).await;
    }

    /// Something on one of the pages; waits as long as a client may need to come back.
    async fn on(&mut self, page: &str, action: &str, mut options: Value) -> Value {
        options["on"] = page.into();
        self.browser.ask_within(RECONNECT_LIMIT, action, options).await
    }

    async fn write(&mut self, page: &str, text: &str) {
        self.on(page, "write", json!({"text": text})).await;
    }

    /// Waits for a message with this text in this state; returns all that is written on it.
    async fn sees(&mut self, page: &str, text: &str, status: &str) -> String {
        let seen = self.on(page, "sees", json!({"text": text, "status": status})).await;
        seen.as_str().expect("a text").to_owned()
    }

    /// Waits for a text to be seen.
    async fn shows(&mut self, page: &str, text: &str) {
        self.on(page, "shows", json!({"text": text})).await;
    }

    async fn screenshot(&mut self, page: &str, file: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        self.on(page, "screenshot", json!({"path": folder.join(file)})).await;
    }

    /// Fails when a page's scripts failed.
    async fn close(mut self, pages: &[&str]) {
        for page in pages {
            assert_eq!(self.on(page, "errors", json!({})).await, json!([]), "{page}");
        }
        self.browser.ask("close", json!({})).await;
    }
}

#[tokio::test]
async fn two_users_talk_without_reloading() {
    let mut portal = Portal::start().await.talking().await;
    portal.write("Ann", "Is the flat still free?").await;
    portal.sees("Ben", "Is the flat still free?", "received").await;
    portal.write("Ben", "It is. Come and see it!").await;
    portal.sees("Ann", "It is. Come and see it!", "received").await;
    portal.sees("Ann", "Is the flat still free?", "read").await;
    assert_eq!(portal.router.carrier.sends().await, Vec::<Value>::new());
    portal.close(&["Ann", "Ben"]).await;
}
