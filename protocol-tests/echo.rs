//! Laravel Echo 1.x and 2.x, as either of its broadcasters, with the events Laravel sends.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clients::{Echo, Sdk, user};
use crate::harness::http::Request;
use crate::harness::names::unique;
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::shared;

/// Makes each test once for every combination of releases and broadcaster.
macro_rules! each_echo {
    ($($test:ident;)+) => {$(
        mod $test {
            use super::Echo;

            #[tokio::test]
            async fn echo_1_16_on_pusher_js_7_as_reverb() {
                super::$test(Echo::start("1.16", "7", "reverb")).await;
            }

            #[tokio::test]
            async fn echo_1_on_pusher_js_7_as_pusher() {
                super::$test(Echo::start("1", "7", "pusher")).await;
            }

            #[tokio::test]
            async fn echo_1_on_pusher_js_8_as_reverb() {
                super::$test(Echo::start("1", "8", "reverb")).await;
            }

            #[tokio::test]
            async fn echo_2_on_pusher_js_8_as_pusher() {
                super::$test(Echo::start("2", "8", "pusher")).await;
            }

            #[tokio::test]
            async fn echo_2_on_pusher_js_8_as_reverb() {
                super::$test(Echo::start("2", "8", "reverb")).await;
            }
        }
    )+};
}

each_echo! {
    each_listener_hears_its_event_once;
    private_presence_and_encrypted_channels_hear_and_whisper;
    refusals_reach_error_and_successes_reach_subscribed;
    leaving_ends_delivery;
    to_others_leaves_the_sender_out;
    a_path_prefix_is_accepted_before_the_key;
    a_signed_in_page_gets_its_users_events;
}

/// Publishes as Laravel does: `name` and JSON text on one channel, in the form of the PHP SDK.
async fn broadcast(sdk: &mut Sdk, server: &TestServer, channel: &str, name: &str, data: &str) {
    let body = json!({"name": name, "data": data, "channel": channel});
    let request = json!({"method": "POST", "resource": "/events", "body": body});
    let answer = sdk.send(server, server.app(), request).await;
    assert_eq!(answer, json!({"status": 200, "body": {}}));
}

async fn each_listener_hears_its_event_once(mut echo: Echo) {
    let server = shared();
    let mut sdk = Sdk::php();
    let listeners = [
        "MessageReceived",
        ".MessageReceived",
        r"\MessageReceived",
        "Chat.MessageReceived",
        ".chat.message",
        r"\Foo\Bar",
    ];
    let with_namespace = [
        r"App\Events\MessageReceived",
        "MessageReceived",
        "MessageReceived",
        r"App\Events\Chat\MessageReceived",
        "chat.message",
        r"Foo\Bar",
    ];
    let without = [
        "MessageReceived",
        "MessageReceived",
        "MessageReceived",
        r"Chat\MessageReceived",
        "chat.message",
        r"Foo\Bar",
    ];
    let room = unique("room");
    for (on, options) in [("App.Events", json!({})), ("none", json!({"namespace": ""}))] {
        echo.connect_with(on, &server, user("ann"), options).await;
        for event in listeners.iter().chain(&[".end"]) {
            echo.chain(on, json!([["channel", room], ["listen", event]])).await;
        }
        echo.chain(on, json!([["channel", room], ["listenToAll"]])).await;
        echo.subscribed(on, &room).await;
    }
    let wire = [
        r"App\Events\MessageReceived",
        "MessageReceived",
        r"App\Events\Chat\MessageReceived",
        r"Chat\MessageReceived",
        "chat.message",
        r"Foo\Bar",
    ];
    for name in wire.iter().chain(&["end"]) {
        broadcast(&mut sdk, &server, &room, name, &json!({"wire": name}).to_string()).await;
    }
    for (on, expected) in [("App.Events", with_namespace), ("none", without)] {
        echo.driver.report(json!({"on": on, "heard": "listen", "of": ".end"})).await;
        let mut heard = BTreeMap::<_, Vec<_>>::new();
        for call in echo.driver.passed(json!({"on": on, "heard": "listen"})) {
            heard.entry(call["of"].as_str().expect("a name")).or_default().push(call["got"]["wire"].clone());
        }
        let expected: BTreeMap<_, _> =
            listeners.iter().zip(expected).map(|(&listener, name)| (listener, vec![json!(name)])).collect();
        assert_eq!(heard, expected, "with namespace {on}");
    }
    echo.driver
        .report(json!({"on": "App.Events", "heard": "listenToAll", "got": [".end", {"wire": "end"}]}))
        .await;
    let all: Vec<_> = echo
        .driver
        .passed(json!({"on": "App.Events", "heard": "listenToAll"}))
        .iter()
        .map(|call| call["got"][0].clone())
        .collect();
    assert_eq!(
        all,
        [
            "MessageReceived",
            ".MessageReceived",
            r"Chat\MessageReceived",
            r".Chat\MessageReceived",
            ".chat.message",
            r".Foo\Bar"
        ]
    );
}

async fn private_presence_and_encrypted_channels_hear_and_whisper(mut echo: Echo) {
    let server = shared();
    let (mut sdk, mut php) = (Sdk::node(), Sdk::php());
    let room = unique("room");
    echo.connect("ann", &server, user("ann")).await;
    echo.connect("bob", &server, user("bob")).await;

    let join = json!([["join", room], ["here"], ["joining"], ["leaving"], ["listen", "Posted"]]);
    echo.chain("ann", join.clone()).await;
    assert_eq!(echo.heard("ann", "here").await, json!([{"name": "ann"}]));
    echo.chain("bob", join).await;
    assert_eq!(echo.heard("ann", "joining").await, json!({"name": "bob"}));
    assert_eq!(echo.heard("bob", "here").await, json!([{"name": "ann"}, {"name": "bob"}]));

    for on in ["ann", "bob"] {
        let private = json!([["private", room], ["listen", "Posted"], ["listenForWhisper", "typing"]]);
        echo.chain(on, private).await;
        echo.chain(on, json!([["private", room], ["notification"]])).await;
        echo.chain(on, json!([["encryptedPrivate", room], ["listen", "Sealed"]])).await;
        echo.chain(on, json!([["private", format!("cache-{room}")], ["listen", "Kept"]])).await;
        for prefix in ["private-", "private-encrypted-", "private-cache-"] {
            echo.subscribed(on, &format!("{prefix}{room}")).await;
        }
    }
    let (private, presence) = (format!("private-{room}"), format!("presence-{room}"));
    let notification = r"Illuminate\Notifications\Events\BroadcastNotificationCreated";
    for (channel, name) in [
        (&private, r"App\Events\Posted"),
        (&presence, r"App\Events\Posted"),
        (&private, notification),
        (&format!("private-cache-{room}"), r"App\Events\Kept"),
    ] {
        let data = format!(r#"{{"body":"h\u00e9","on":"{channel}"}}"#);
        broadcast(&mut php, &server, channel, name, &data).await;
    }
    let sealed = json!([format!("private-encrypted-{room}"), r"App\Events\Sealed", {"n": 1}]);
    sdk.call(&server, server.app(), "trigger", sealed).await;
    for on in ["ann", "bob"] {
        let first = echo.heard(on, "listen").await;
        assert_eq!(first, json!({"body": "hé", "on": private}));
        for (event, data) in [
            ("Posted", json!({"body": "hé", "on": presence})),
            ("Kept", json!({"body": "hé", "on": format!("private-cache-{room}")})),
            ("Sealed", json!({"n": 1})),
        ] {
            echo.driver.report(json!({"on": on, "heard": "listen", "of": event, "got": data})).await;
        }
        assert_eq!(echo.heard(on, "notification").await["on"], json!(private));
    }

    echo.chain("ann", json!([["private", room], ["whisper", "typing", {"by": "ann"}]])).await;
    assert_eq!(echo.heard("bob", "listenForWhisper").await, json!({"by": "ann"}));
    echo.chain("bob", json!([["leave", room]])).await;
    assert_eq!(echo.heard("ann", "leaving").await, json!({"name": "bob"}));
    echo.driver.never(json!({"on": "ann", "heard": "listenForWhisper"}));
}

async fn refusals_reach_error_and_successes_reach_subscribed(mut echo: Echo) {
    let server = shared();
    let room = unique("room");
    let visitors = [
        ("welcome", user("ann"), "subscribed"),
        ("refused by the application", json!({"refuse": true}), "error"),
        ("refused by the server", json!({"id": "ann", "forged": true}), "error"),
    ];
    for (on, who, outcome) in visitors {
        echo.connect(on, &server, who).await;
        for kind in ["private", "join", "encryptedPrivate"] {
            echo.chain(on, json!([[kind, room], ["subscribed"], ["error"]])).await;
            let heard = echo.heard(on, outcome).await;
            if on == "refused by the server" {
                assert_eq!(heard["status"], 401, "{heard:?}");
            }
        }
    }
    for heard in ["subscribed", "error"] {
        echo.driver.never(json!({"heard": heard}));
    }
}

async fn leaving_ends_delivery(mut echo: Echo) {
    let server = shared();
    let room = unique("room");
    let (private, presence) = (format!("private-{room}"), format!("presence-{room}"));
    echo.connect("ann", &server, user("ann")).await;
    for kind in ["channel", "private", "join"] {
        echo.chain("ann", json!([[kind, room], ["listen", ".Posted"]])).await;
    }
    for channel in [&room, &private, &presence] {
        echo.subscribed("ann", channel).await;
    }
    echo.chain("ann", json!([["leaveChannel", room]])).await;
    settle(&mut echo, "ann").await;
    for channel in [&room, &private] {
        server.publish(channel, "Posted", &json!({"on": channel}).to_string()).await;
    }
    assert_eq!(echo.heard("ann", "listen").await, json!({"on": private}));
    echo.chain("ann", json!([["leave", room]])).await;
    settle(&mut echo, "ann").await;
    for channel in [&room, &private, &presence] {
        server.publish(channel, "Posted", "{}").await;
    }
    // Leaving and joining again at once, as single-page applications do.
    echo.chain("ann", json!([["channel", room], ["subscribed"]])).await;
    echo.heard("ann", "subscribed").await;
    let join = json!([["channel", room], ["listen", ".Posted"], ["subscribed"]]);
    echo.at_once("ann", json!([[["leave", room]], join])).await;
    echo.heard("ann", "subscribed").await;
    server.publish(&room, "Posted", "{\"again\":true}").await;
    assert_eq!(echo.heard("ann", "listen").await, json!({"again": true}));
    echo.driver.never(json!({"frame": "Posted", "data": {}}));
}

/// Waits until the server has handled every frame sent so far.
async fn settle(echo: &mut Echo, on: &str) {
    echo.driver.ask("settle", json!({"on": on})).await;
    echo.driver.report(json!({"on": on, "frame": "pusher:pong"})).await;
}

async fn to_others_leaves_the_sender_out(mut echo: Echo) {
    let server = shared();
    let mut sdk = Sdk::node();
    let room = unique("room");
    for on in ["ann", "bob"] {
        echo.connect(on, &server, user(on)).await;
        echo.chain(on, json!([["private", room], ["listen", "Posted"]])).await;
        echo.subscribed(on, &format!("private-{room}")).await;
    }
    let sender = echo.chain("ann", json!([["socketId"]])).await;
    for (n, socket_id) in [(1, sender), (2, Value::Null)] {
        let params = if socket_id.is_null() { json!({}) } else { json!({"socket_id": socket_id}) };
        let args = json!([format!("private-{room}"), r"App\Events\Posted", {"n": n}, params]);
        sdk.call(&server, server.app(), "trigger", args).await;
    }
    assert_eq!(echo.heard("bob", "listen").await, json!({"n": 1}));
    assert_eq!(echo.heard("bob", "listen").await, json!({"n": 2}));
    assert_eq!(echo.heard("ann", "listen").await, json!({"n": 2}));
}

async fn a_path_prefix_is_accepted_before_the_key(mut echo: Echo) {
    let server = Config::new().server("path_prefix = \"/realtime\"").start();
    let mut sdk = Sdk::php();
    let room = unique("room");
    echo.connect_with("ann", &server, user("ann"), json!({"wsPath": "/realtime"})).await;
    echo.chain("ann", json!([["private", room], ["listen", "Posted"]])).await;
    echo.subscribed("ann", &format!("private-{room}")).await;
    // PHP's `path` option, which is not signed.
    let body = json!({"name": r"App\Events\Posted", "data": "[]", "channel": format!("private-{room}")});
    let request = json!({"method": "POST", "resource": "/events", "path": "/realtime", "body": body});
    assert_eq!(sdk.send(&server, server.app(), request).await["status"], 200);
    assert_eq!(echo.heard("ann", "listen").await, json!([]));
}

async fn a_signed_in_page_gets_its_users_events(mut echo: Echo) {
    let server = shared();
    let ann = unique("ann");
    echo.connect("ann", &server, user(&ann)).await;
    echo.driver.ask("signin", json!({"on": "ann"})).await;
    let own = format!("#server-to-user-{ann}");
    echo.subscribed("ann", &own).await;
    let event = json!({"name": "Notified", "channel": own, "data": "{\"n\":1}"});
    Request::trigger(server.app(), &event).send(server.public).await.expect_ok("{}");
    let frame = echo.driver.report(json!({"on": "ann", "frame": "Notified"})).await;
    assert_eq!(frame["data"], json!({"n": 1}));
}
