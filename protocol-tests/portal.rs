//! The portal of `examples/portal/` in a real browser: two users, each on a page of their own.

use serde_json::{Value, json};

use crate::clients::{Driver, RECONNECT_LIMIT, chromium, example, screenshot};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, Router, SENT, Setup, plain};

mod files;
mod laravel;
mod reading;

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
        let address = browser.ask_within(RECONNECT_LIMIT, "start", json!({"env": env})).await;
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

    /// Waits for a message of the other side with this text; returns all that is written on it.
    async fn gets(&mut self, page: &str, text: &str) -> String {
        let seen = self.on(page, "gets", json!({"text": text})).await;
        seen.as_str().expect("a text").to_owned()
    }

    /// Waits for a text to be seen.
    async fn shows(&mut self, page: &str, text: &str) {
        self.on(page, "shows", json!({"text": text})).await;
    }

    /// Fails when a checker of the rules for accessible pages complains.
    async fn is_accessible(&mut self, page: &str) {
        assert_eq!(self.on(page, "violations", json!({})).await, json!([]), "{page}");
    }

    async fn screenshot(&mut self, page: &str, file: &str) {
        self.on(page, "screenshot", json!({"path": screenshot(file)})).await;
    }

    /// Fails when a page's scripts failed.
    async fn close(mut self, pages: &[&str]) {
        for page in pages {
            assert_eq!(self.on(page, "errors", json!({})).await, json!([]), "{page}");
        }
        self.browser.ask("close", json!({})).await;
    }
}

/// What two users do with each other.
async fn talk(channels: &str) {
    let setup = Router::setup().routing("features.offline_grace", "1s");
    let mut portal = Portal::with(setup, channels).await.talking().await;
    portal.write("Ann", "Is the flat still free?").await;
    portal.gets("Ben", "Is the flat still free?").await;
    let received = portal.sees("Ann", "Is the flat still free?", "read").await;
    assert!(received.ends_with("Read"), "{received}");

    portal.on("Ben", "type", json!({"text": "It is"})).await;
    portal.shows("Ann", "Ben Ortiz is typing").await;
    portal.write("Ben", "It is. Come and see it!").await;
    portal.gets("Ann", "It is. Come and see it!").await;
    portal.on("Ann", "shows", json!({"text": "Ben Ortiz is typing", "gone": true})).await;

    portal.on("Ben", "act", json!({"text": "Come and see it", "action": "Edit"})).await;
    portal.on("Ben", "edit", json!({"text": "It is. Come at six."})).await;
    let edited = portal.gets("Ann", "Come at six").await;
    assert!(edited.contains("edited"), "{edited}");
    portal.write("Ben", "Wrong person, sorry").await;
    portal.gets("Ann", "Wrong person").await;
    portal.on("Ben", "act", json!({"text": "Wrong person", "action": "Delete…"})).await;
    portal.on("Ben", "click", json!({"name": "Delete"})).await;
    portal.gets("Ann", "Message deleted").await;
    portal.sees("Ben", "Message deleted", "read").await;
    let texts = json!(["Is the flat still free?", "It is. Come at six.", "Message deleted"]);
    assert_eq!(portal.on("Ann", "texts", json!({})).await, texts);
    assert_eq!(portal.on("Ben", "texts", json!({})).await, texts);

    portal.shows("Ann", "Online").await;
    portal.screenshot("Ann", &format!("portal-desktop-{channels}.png")).await;
    portal.on("Ben", "leave", json!({})).await;
    portal.shows("Ann", "Last seen").await;
    assert_eq!(portal.router.carrier.sends().await, Vec::<Value>::new());
    portal.close(&["Ann"]).await;
}

#[tokio::test]
async fn two_users_talk_without_reloading() {
    talk("public").await;
}

#[tokio::test]
async fn private_channels_work_the_same() {
    talk("private").await;
}

#[tokio::test]
async fn an_external_message_is_seen_sending_sent_and_delivered() {
    for channels in ["public", "private"] {
        let setup = Router::setup().carrier(&["--manual-finalize"]);
        let mut portal = Portal::with(setup, channels).await;
        portal.open("Ann", 1, json!({})).await;
        portal.on("Ann", "pick", json!({"name": "Carla Diaz"})).await;
        portal.write("Ann", "See you at noon").await;
        portal.sees("Ann", "See you at noon", "sent").await;
        let carriers = portal.router.carrier.messages().await[0]["id"].clone();
        portal.router.carrier.finalize(carriers.as_str().expect("an id"), "delivered", &[]).await;
        let seen = portal.sees("Ann", "See you at noon", "delivered").await;
        assert!(seen.ends_with("Delivered"), "{seen}");
        let states = portal.on("Ann", "states", json!({"text": "See you at noon"})).await;
        assert_eq!(states, json!(["sending", "sent", "delivered"]));
        portal.close(&["Ann"]).await;
    }
}

#[tokio::test]
async fn repeated_and_late_events_change_nothing() {
    let mut portal = Portal::start().await.talking().await;
    let id = portal.router.conversations(1).await.into_iter().find(|c| c["contact"]["phone_number"] == BOB);
    let channel = format!("messenger.{}", plain(&id.expect("a conversation")["id"]));
    let mut events = portal.router.listen(&channel).await;
    portal.write("Ann", "first wording").await;
    let sent = events.wait_for(SENT).await;
    portal.sees("Ann", "first wording", "read").await;
    portal.on("Ann", "act", json!({"text": "first wording", "action": "Edit"})).await;
    portal.on("Ann", "edit", json!({"text": "second wording"})).await;
    portal.gets("Ben", "second wording").await;
    portal.router.server().publish(&channel, SENT, sent.data()).await;
    // Comes after it, on the same connection.
    portal.write("Ben", "marker").await;
    portal.gets("Ann", "marker").await;
    portal.sees("Ann", "second wording", "read").await;
    assert_eq!(portal.on("Ann", "texts", json!({})).await, json!(["second wording", "marker"]));
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn a_failed_message_shows_why_and_can_be_tried_again() {
    let mut portal = Portal::start().await;
    portal.open("Ann", 1, json!({})).await;
    portal.on("Ann", "begin", json!({"number": INVALID, "name": "Typo"})).await;
    portal.write("Ann", "Anybody there?").await;
    let failed = portal.sees("Ann", "Anybody there?", "failed").await;
    assert!(failed.contains("Not sent: The number is wrong or cannot receive text messages."), "{failed}");
    portal.on("Ann", "pick", json!({"name": "Carla Diaz"})).await;
    portal.router.carrier.fault("invalid_number", 1, json!({})).await;
    portal.write("Ann", "Second thoughts").await;
    portal.sees("Ann", "Second thoughts", "failed").await;
    portal.screenshot("Ann", "portal-failed.png").await;
    portal.is_accessible("Ann").await;
    portal.on("Ann", "click", json!({"name": "Try again"})).await;
    portal.sees("Ann", "Second thoughts", "delivered").await;
    portal.close(&["Ann"]).await;
}

#[tokio::test]
async fn what_the_server_refuses_is_said_where_it_was_asked_for() {
    let mut portal = Portal::start().await;
    portal.open("Ann", 1, json!({})).await;
    portal.on("Ann", "click", json!({"name": "New message"})).await;
    portal.on("Ann", "press", json!({"keys": ["1", "2", "Enter"]})).await;
    portal.on("Ann", "shows", json!({"text": "number", "within": "[role=alert]"})).await;
    portal.on("Ann", "press", json!({"keys": ["Escape"]})).await;
    portal.on("Ann", "pick", json!({"name": "Ben Ortiz"})).await;
    let long = "word ".repeat(2_100);
    portal.on("Ann", "write", json!({"text": long})).await;
    let failed = portal.sees("Ann", "word word", "failed").await;
    assert!(failed.contains("Not sent: "), "{failed}");
    portal.close(&["Ann"]).await;
}

#[tokio::test]
async fn an_inbound_sms_arrives_and_counts_as_unread_until_it_is_seen() {
    let mut portal = Portal::start().await;
    let hidden = json!({"state": "hidden"});
    portal.open("Ann", 1, json!({"permissions": ["notifications"]})).await;
    portal.open("Ann's other tab", 1, json!({})).await;
    portal.on("Ann", "look", hidden.clone()).await;
    let message = json!({"from": OUTSIDE, "to": ANN, "text": "Hello from my phone"});
    portal.router.carrier.inbound(message).await;
    let row = json!({"name": "Carla Diaz", "text": "Hello from my phone"});
    portal.on("Ann", "lists", row).await;
    portal.on("Ann", "lists", json!({"name": "Carla Diaz", "text": "1 unread"})).await;
    portal.on("Ann's other tab", "title", json!({"title": "(1) Messages"})).await;
    let announced =
        json!({"text": "New message from Carla Diaz. Hello from my phone", "within": "[data-announcement]"});
    portal.on("Ann", "holds", announced).await;
    let notified = portal.on("Ann", "notified", json!({"count": 1})).await;
    assert_eq!(notified, json!(["Carla Diaz: Hello from my phone"]));

    // Nobody looks, so opening it is not reading it.
    portal.on("Ann", "pick", json!({"name": "Carla Diaz"})).await;
    portal.gets("Ann", "Hello from my phone").await;
    assert_eq!(portal.router.conversations(1).await[0]["unread_count"], 1);
    portal.on("Ann", "look", json!({"state": "visible"})).await;
    portal.on("Ann", "title", json!({"title": "Carla Diaz · Messages"})).await;
    portal.on("Ann's other tab", "title", json!({"title": "Messages"})).await;
    assert_eq!(portal.on("Ann's other tab", "notified", json!({"count": 0})).await, json!([]));
    portal.close(&["Ann", "Ann's other tab"]).await;
}

/// The server is killed while both write, and comes back on the same port and data.
async fn restart(channels: &str) {
    let mut portal = Portal::with(Router::setup(), channels).await.talking().await;
    portal.write("Ann", "before").await;
    portal.gets("Ben", "before").await;
    portal.router.kill();
    for page in ["Ann", "Ben"] {
        portal.shows(page, "Try now").await;
    }
    portal.write("Ann", "from Ann, meanwhile").await;
    portal.sees("Ann", "from Ann, meanwhile", "waiting").await;
    portal.shows("Ann", "No connection to the portal").await;
    portal.screenshot("Ann", &format!("portal-down-{channels}.png")).await;
    portal.router.revive();
    portal.gets("Ben", "from Ann, meanwhile").await;
    for page in ["Ann", "Ben"] {
        portal.on(page, "shows", json!({"text": "Try now", "gone": true})).await;
    }
    portal.write("Ben", "after").await;
    portal.gets("Ann", "after").await;
    portal.sees("Ann", "from Ann, meanwhile", "read").await;
    let texts = json!(["before", "from Ann, meanwhile", "after"]);
    for page in ["Ann", "Ben"] {
        assert_eq!(portal.on(page, "texts", json!({})).await, texts, "{page}");
    }
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn pages_recover_from_a_killed_server() {
    restart("public").await;
}

#[tokio::test]
async fn pages_with_private_channels_recover_from_a_killed_server() {
    restart("private").await;
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_goes_out_once() {
    let mut portal = Portal::start().await.talking().await;
    portal.on("Ann", "lose_answer", json!({})).await;
    portal.write("Ann", "once").await;
    portal.sees("Ann", "once", "read").await;
    portal.write("Ben", "got it").await;
    portal.gets("Ann", "got it").await;
    for page in ["Ann", "Ben"] {
        assert_eq!(portal.on(page, "texts", json!({})).await, json!(["once", "got it"]), "{page}");
    }
    portal.on("Ann", "reload", json!({})).await;
    portal.gets("Ann", "got it").await;
    assert_eq!(portal.on("Ann", "texts", json!({})).await, json!(["once", "got it"]));
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn without_a_socket_messages_come_by_polling_and_a_banner_says_so() {
    let mut portal = Portal::start().await.talking().await;
    portal.on("Ann", "cut", json!({})).await;
    portal.shows("Ann", "Live updates are interrupted").await;
    portal.write("Ben", "by another way").await;
    portal.gets("Ann", "by another way").await;
    portal.screenshot("Ann", "portal-polling.png").await;
    portal.is_accessible("Ann").await;
    portal.on("Ann", "mend", json!({})).await;
    portal.on("Ann", "click", json!({"name": "Try now"})).await;
    portal.shows("Ann", "Connected again").await;
    portal.on("Ann", "shows", json!({"text": "Live updates are interrupted", "gone": true})).await;
    portal.write("Ben", "and again live").await;
    portal.gets("Ann", "and again live").await;
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn events_with_ids_only_do_as_well() {
    let setup = Router::setup().routing("payload", "ids");
    let mut portal = Portal::with(setup, "public").await.talking().await;
    portal.write("Ann", "Is it still free?").await;
    portal.gets("Ben", "Is it still free?").await;
    portal.sees("Ann", "Is it still free?", "read").await;
    portal.write("Ben", "It is.").await;
    portal.gets("Ann", "It is.").await;
    portal.on("Ben", "act", json!({"text": "It is.", "action": "Edit"})).await;
    portal.on("Ben", "edit", json!({"text": "It is not."})).await;
    portal.gets("Ann", "It is not.").await;
    assert_eq!(portal.on("Ann", "texts", json!({})).await, json!(["Is it still free?", "It is not."]));
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn everything_can_be_done_with_the_keyboard() {
    let mut portal = Portal::start().await;
    portal.open("Ann", 1, json!({})).await;
    portal.open("Ben", 2, json!({})).await;
    portal.on("Ben", "pick", json!({"name": "Ann Lee"})).await;
    portal.on("Ann", "tab_to", json!({"name": "Skip to the open conversation"})).await;
    portal.on("Ann", "tab_to", json!({"name": "New message"})).await;
    portal.on("Ann", "tab_to", json!({"name": "Ben Ortiz"})).await;
    portal.on("Ann", "press", json!({"keys": ["Enter"]})).await;
    portal.on("Ann", "focus", json!({"name": "Message"})).await;
    portal.on("Ann", "type", json!({"text": "No mouse"})).await;
    portal.on("Ann", "press", json!({"keys": ["Enter"]})).await;
    portal.gets("Ben", "No mouse").await;

    portal.on("Ann", "tab_to", json!({"name": "Actions for: No mouse", "back": true})).await;
    portal.on("Ann", "press", json!({"keys": ["Enter"]})).await;
    portal.on("Ann", "focus", json!({"name": "Edit"})).await;
    portal.screenshot("Ann", "portal-keyboard.png").await;
    portal.on("Ann", "press", json!({"keys": ["Escape"]})).await;
    portal.on("Ann", "focus", json!({"name": "Actions for: No mouse"})).await;
    portal.on("Ann", "press", json!({"keys": ["Enter"]})).await;
    portal.on("Ann", "focus", json!({"name": "Edit"})).await;
    portal.on("Ann", "press", json!({"keys": ["Enter"]})).await;
    portal.on("Ann", "focus", json!({"name": "Message"})).await;
    portal.on("Ann", "press", json!({"keys": ["End", "!", "Enter"]})).await;
    portal.gets("Ben", "No mouse!").await;
    portal.on("Ann", "focus", json!({"name": "Message"})).await;

    portal.on("Ann", "tab_to", json!({"name": "Actions for: No mouse!", "back": true})).await;
    portal.on("Ann", "press", json!({"keys": ["Enter"]})).await;
    portal.on("Ann", "tab_to", json!({"name": "Delete"})).await;
    portal.on("Ann", "press", json!({"keys": ["Enter"]})).await;
    portal.shows("Ann", "Delete this message?").await;
    portal.screenshot("Ann", "portal-delete.png").await;
    portal.is_accessible("Ann").await;
    portal.on("Ann", "press", json!({"keys": ["Enter"]})).await;
    portal.gets("Ben", "Message deleted").await;
    portal.on("Ann", "focus", json!({"name": "Message"})).await;
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn it_suits_phones_and_desktops_in_light_and_dark() {
    let mut portal = Portal::start().await;
    let phone = json!({"width": 390, "height": 780});
    let narrow = json!({"width": 320, "height": 568});
    for (page, user, viewport, scheme) in [
        ("phone-light", 1, &phone, "light"),
        ("desktop-dark", 2, &json!({"width": 1440, "height": 900}), "dark"),
        ("phone-dark", 1, &phone, "dark"),
        ("phone-narrow", 1, &narrow, "light"),
        ("desktop-light", 2, &json!({"width": 1024, "height": 700}), "light"),
    ] {
        let is_phone = page.starts_with("phone");
        let options =
            json!({"viewport": viewport, "colorScheme": scheme, "hasTouch": is_phone, "isMobile": is_phone});
        portal.open(page, user, options).await;
    }
    let pages = ["phone-light", "phone-dark", "phone-narrow", "desktop-light", "desktop-dark"];
    for page in pages {
        assert_eq!(portal.on(page, "fits", json!({})).await, true, "{page}");
        portal.screenshot(page, &format!("portal-{page}-list.png")).await;
        let name = if page.starts_with("phone") { "Ben Ortiz" } else { "Ann Lee" };
        portal.on(page, "pick", json!({"name": name})).await;
    }
    let long =
        format!("A long word {} and a link https://portal.example/{}", "o".repeat(80), "path/".repeat(20));
    for (page, text) in [
        ("phone-light", "Hi Ben, are the keys with you?"),
        ("desktop-dark", "They are. I am at the flat from six to eight, so come whenever it suits you."),
        ("phone-dark", &long),
        ("desktop-light", "See you then!"),
    ] {
        portal.write(page, text).await;
        for page in pages {
            portal.on(page, "sees", json!({"text": text})).await;
        }
    }
    portal.on("phone-light", "shows", json!({"text": "Read"})).await;
    for page in pages {
        assert_eq!(portal.on(page, "fits", json!({})).await, true, "{page}");
        portal.is_accessible(page).await;
        portal.screenshot(page, &format!("portal-{page}.png")).await;
    }
    portal.on("phone-light", "click", json!({"name": "Back to the conversations"})).await;
    portal.on("phone-light", "lists", json!({"name": "Ben Ortiz", "text": "See you then!"})).await;
    portal.is_accessible("phone-light").await;
    portal.close(&pages).await;
}

#[tokio::test]
async fn the_backend_answers_only_for_the_signed_in_user() {
    let mut portal = Portal::with(Router::setup(), "private").await;
    portal.router.send(2, OUTSIDE, "Ben's own").await;
    let theirs = portal.router.conversations(2).await[0]["id"].clone();
    let ours = portal.router.conversations(1).await[0]["id"].clone();
    portal.open("Ann", 1, json!({})).await;
    let messages = |id: &Value| format!("/1/api/conversations/{id}/messages");
    let channel = |name: String| {
        let form = json!({"socket_id": "1.1", "channel_name": name});
        json!({"method": "POST", "path": "/1/broadcasting/auth", "form": form})
    };
    for (request, status) in [
        (json!({"path": messages(&ours)}), 200),
        (json!({"path": messages(&theirs)}), 404),
        (json!({"path": "/1/api/conversations"}), 200),
        (json!({"path": "/2/api/conversations"}), 401),
        (json!({"path": "/2/"}), 303),
        // Both users in one browser.
        (json!({"path": "/?user=2"}), 303),
        (json!({"path": "/2/api/conversations"}), 200),
        (json!({"path": "/1/api/conversations"}), 200),
        (json!({"path": "/1/../server.mjs"}), 404),
        (json!({"path": "/assets/..%2f..%2fserver.mjs"}), 404),
        (channel("private-user.1".to_owned()), 200),
        (channel("private-user.2".to_owned()), 403),
        (channel(format!("private-messenger.{ours}")), 200),
        (channel(format!("private-messenger.{theirs}")), 403),
        // A form of another site.
        (json!({"method": "POST", "path": "/1/api/messages", "form": {"to": BOB, "text": "forged"}}), 415),
    ] {
        assert_eq!(portal.on("Ann", "request", request.clone()).await, status, "{request}");
    }
    portal.close(&["Ann"]).await;
}

#[tokio::test]
async fn without_the_server_the_backend_answers_503_and_no_signed_address() {
    let mut portal = Portal::start().await;
    portal.open("Ann", 1, json!({})).await;
    portal.router.kill();
    for request in [
        json!({"path": "/1/api/conversations"}),
        json!({"path": "/1/api/conversations/1/messages"}),
        json!({"method": "POST", "path": "/1/api/messages", "body": {"to": BOB, "text": "Hi"}}),
        json!({"method": "POST", "path": "/1/api/conversations", "body": {"to": BOB}}),
    ] {
        let mut whole = request.clone();
        whole["whole"] = true.into();
        let answer = portal.on("Ann", "request", whole).await;
        assert_eq!(answer["status"], 503, "{request}");
        assert!(!answer["body"].as_str().expect("a text").contains("auth_signature"), "{answer}");
    }
    portal.close(&["Ann"]).await;
}
