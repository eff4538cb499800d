//! Channels and users as pusher-js sees them, in every major version that is still deployed.

use serde_json::{Value, json};

use crate::clients::{PusherJs, Sdk, each_version, user};
use crate::harness::names::unique;
use crate::harness::shared::{COUNTING, DEFAULTS, shared};

each_version! {
    every_channel_kind_delivers: v4 v6 v7 v8;
    a_cache_channel_gives_its_last_event_to_the_next_subscriber: v4 v6 v7 v8;
    members_come_and_go_once_per_user: v4 v6 v7 v8;
    numeric_user_ids_are_found_as_me: v4 v6 v7 v8;
    client_events_reach_the_others_with_the_verified_user_id: v4 v6 v7 v8;
    client_events_of_an_app_without_them_are_refused_and_the_connection_stays: v4 v6 v7 v8;
    a_refused_subscription_is_reported_on_its_channel: v4 v6 v7 v8;
    unsubscribing_ends_delivery_and_subscribing_again_resumes_it: v4 v6 v7 v8;
    subscription_counts_are_kept: v7 v8;
    a_signed_in_user_gets_what_is_sent_to_that_user_alone: v7 v8;
    a_signed_in_user_joins_presence_without_channel_data: v7 v8;
    the_watchlist_tells_who_is_online: v7 v8;
    a_forged_sign_in_is_an_error_and_the_connection_stays: v7 v8;
}

const KINDS: [&str; 8] = [
    "",
    "private-",
    "presence-",
    "private-encrypted-",
    "cache-",
    "private-cache-",
    "private-encrypted-cache-",
    "presence-cache-",
];

/// One channel of each kind, with a name of its own.
fn channels() -> Vec<String> {
    let name = unique("room");
    KINDS.iter().map(|kind| format!("{kind}{name}")).collect()
}

/// An event whose data is the name of its channel, on each of these channels.
fn batch(channels: &[String]) -> Value {
    let event = |channel| json!({"channel": channel, "name": "Posted", "data": {"on": channel}});
    channels.iter().map(event).collect()
}

async fn every_channel_kind_delivers(version: &str) {
    let server = shared();
    let (mut page, mut sdk) = (PusherJs::start(version), Sdk::node());
    page.connect("ann", &server, user("ann")).await;
    page.0.never(json!({"on": "ann", "state": "unavailable"}));
    let channels = channels();
    for channel in &channels {
        page.subscribe("ann", channel).await;
        if channel.contains("cache-") {
            page.event("ann", channel, "pusher:cache_miss").await;
        }
    }
    sdk.call(&server, server.app(), "triggerBatch", json!([batch(&channels)])).await;
    for channel in &channels {
        assert_eq!(page.event("ann", channel, "Posted").await, json!({"on": channel}));
    }
}

async fn a_cache_channel_gives_its_last_event_to_the_next_subscriber(version: &str) {
    let server = shared();
    let (mut page, mut sdk) = (PusherJs::start(version), Sdk::node());
    let channels: Vec<_> = channels().into_iter().filter(|name| name.contains("cache-")).collect();
    sdk.call(&server, server.app(), "triggerBatch", json!([batch(&channels)])).await;
    page.connect("ann", &server, user("ann")).await;
    for channel in &channels {
        page.subscribe("ann", channel).await;
        assert_eq!(page.event("ann", channel, "Posted").await, json!({"on": channel}));
        page.0.never(json!({"on": "ann", "channel": channel, "event": "pusher:cache_miss"}));
    }
}

async fn members_come_and_go_once_per_user(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    let room = unique("presence-room");
    for (tab, who) in [("ann", "ann"), ("bob's tab", "bob"), ("bob's other tab", "bob")] {
        page.connect(tab, &server, user(who)).await;
        page.subscribe(tab, &room).await;
    }
    let members = page.ask("members", "bob's other tab", &room).await;
    assert_eq!(
        members,
        json!({
            "count": 2,
            "me": {"id": "bob", "info": {"name": "bob"}},
            "members": {"ann": {"name": "ann"}, "bob": {"name": "bob"}},
        })
    );
    let bob = json!({"id": "bob", "info": {"name": "bob"}});
    assert_eq!(page.event("ann", &room, "pusher:member_added").await, bob);
    page.ask("unsubscribe", "bob's tab", &room).await;
    page.ask("disconnect", "bob's other tab", &room).await;
    assert_eq!(page.event("ann", &room, "pusher:member_removed").await, bob);
    assert_eq!(page.ask("members", "ann", &room).await["count"], 1);
    page.0.never(json!({"channel": room, "event": "pusher:member_added"}));
    page.0.never(json!({"channel": room, "event": "pusher:member_removed"}));
}

async fn numeric_user_ids_are_found_as_me(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    let room = unique("presence-room");
    // What Laravel sends with an integer key and a channel callback that returns true.
    page.connect("ann", &server, json!({"id": 42, "user_info": true})).await;
    let members = page.subscribe("ann", &room).await;
    assert_eq!(members["members"], json!({"42": true}));
    assert_eq!(members["me"]["info"], true, "{members}");
}

async fn client_events_reach_the_others_with_the_verified_user_id(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    let (presence, private) = (unique("presence-room"), unique("private-room"));
    for on in ["ann", "bob"] {
        page.connect(on, &server, user(on)).await;
        for channel in [&presence, &private] {
            page.subscribe(on, channel).await;
            let handler = json!({"on": on, "channel": channel, "event": "client-typing"});
            page.0.ask("bind", handler).await;
        }
    }
    for (channel, user_id) in [(&presence, json!("ann")), (&private, Value::Null)] {
        let data = json!({"n": 1, "user_id": "eve"});
        page.trigger("ann", channel, "client-typing", data.clone()).await;
        let seen = page.0.report(json!({"channel": channel, "bound": "client-typing"})).await;
        assert_eq!((&seen["on"], &seen["data"], &seen["user_id"]), (&json!("bob"), &data, &user_id));
        server.publish(channel, "marker", "{}").await;
        page.event("ann", channel, "marker").await;
        page.0.never(json!({"on": "ann", "channel": channel, "bound": "client-typing"}));
    }
}

async fn client_events_of_an_app_without_them_are_refused_and_the_connection_stays(version: &str) {
    let server = shared();
    let app = server.app_with_id(DEFAULTS);
    let mut page = PusherJs::start(version);
    let room = unique("private-room");
    page.open("ann", &server, app, user("ann")).await;
    page.reaches("ann", "connected").await;
    page.subscribe("ann", &room).await;
    page.trigger("ann", &room, "client-typing", json!({})).await;
    let failure = page.0.report(json!({"on": "ann", "frame": "pusher:error"})).await;
    assert_eq!(failure["data"]["code"], Value::Null, "{failure}");
    assert!(failure["data"]["message"].as_str().is_some_and(|text| text.contains("enable")), "{failure}");
    server.publish_to(app, &room, "marker", "{}").await;
    page.event("ann", &room, "marker").await;
    assert_eq!(page.ask("state", "ann", &room).await, "connected");
}

async fn a_refused_subscription_is_reported_on_its_channel(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    for (on, who) in [("refused", json!({"refuse": true})), ("forged", json!({"id": "ann", "forged": true}))]
    {
        page.connect(on, &server, who).await;
        for kind in ["private-", "presence-", "private-encrypted-"] {
            let channel = unique(kind);
            page.ask("subscribe", on, &channel).await;
            let error = page.event(on, &channel, "pusher:subscription_error").await;
            if on == "forged" {
                assert_eq!((&error["type"], &error["status"]), (&json!("AuthError"), &json!(401)));
            }
        }
        let invalid = format!("{} room", unique("no"));
        page.ask("subscribe", on, &invalid).await;
        let error = page.event(on, &invalid, "pusher:subscription_error").await;
        assert_eq!((&error["type"], &error["status"]), (&json!("InvalidChannel"), &json!(400)));
        // The connection is none the worse for it.
        page.subscribe(on, &unique("public")).await;
    }
}

async fn unsubscribing_ends_delivery_and_subscribing_again_resumes_it(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    let (room, other) = (unique("room"), unique("other"));
    page.connect("ann", &server, user("ann")).await;
    page.subscribe("ann", &room).await;
    page.ask("unsubscribe", "ann", &room).await;
    // Frames of one connection are handled in order: the second success proves the first departure.
    page.subscribe("ann", &other).await;
    server.publish(&room, "unheard", "{}").await;
    page.subscribe("ann", &room).await;
    server.publish(&room, "heard", "{}").await;
    page.event("ann", &room, "heard").await;
    page.0.never(json!({"frame": "unheard"}));
}

async fn subscription_counts_are_kept(version: &str) {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let mut page = PusherJs::start(version);
    let room = unique("private-room");
    for on in ["ann", "bob"] {
        page.open(on, &server, app, user(on)).await;
        page.reaches(on, "connected").await;
        page.subscribe(on, &room).await;
    }
    for expected in [1, 2] {
        let count = page.event("ann", &room, "pusher:subscription_count").await;
        assert_eq!(count, json!({"subscription_count": expected}));
    }
    page.event("bob", &room, "pusher:subscription_count").await;
    assert_eq!(page.ask("subscription_count", "bob", &room).await, 2);
    page.ask("unsubscribe", "ann", &room).await;
    let count = page.event("bob", &room, "pusher:subscription_count").await;
    assert_eq!(count, json!({"subscription_count": 1}));
}

/// Signs in and waits until the user's own channel is subscribed.
async fn sign_in(page: &mut PusherJs, on: &str, id: &str) {
    page.ask("signin", on, "").await;
    let channel = format!("#server-to-user-{id}");
    let frame = "pusher_internal:subscription_succeeded";
    page.0.report(json!({"on": on, "frame": frame, "channel": channel})).await;
}

async fn a_signed_in_user_gets_what_is_sent_to_that_user_alone(version: &str) {
    let server = shared();
    let (mut page, mut sdk) = (PusherJs::start(version), Sdk::node());
    let (ann, bob) = (unique("ann"), unique("bob"));
    for (on, id) in [("ann", &ann), ("bob", &bob)] {
        page.connect(on, &server, user(id)).await;
        sign_in(&mut page, on, id).await;
    }
    let data = page.ask("signed_in_as", "ann", "").await;
    assert_eq!((&data["id"], &data["user_info"]["name"]), (&json!(ann), &json!(ann)));
    for (id, secret) in [(&ann, 1), (&bob, 2)] {
        let args = json!([id, "Notified", {"secret": secret}]);
        sdk.call(&server, server.app(), "sendToUser", args).await;
    }
    for (on, secret) in [("ann", 1), ("bob", 2)] {
        let event = page.0.report(json!({"on": on, "user_event": "Notified"})).await;
        assert_eq!(event["data"], json!({"secret": secret}));
    }
    page.0.never(json!({"user_event": "Notified"}));
}

async fn a_signed_in_user_joins_presence_without_channel_data(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    let (ann, room) = (unique("ann"), unique("presence-room"));
    let who = json!({"id": ann, "user_info": {"name": "Ann"}, "joins_as_user": true});
    page.connect("ann", &server, who).await;
    sign_in(&mut page, "ann", &ann).await;
    let members = page.subscribe("ann", &room).await;
    assert_eq!(members["me"], json!({"id": ann, "info": {"name": "Ann"}}), "{members}");
}

async fn the_watchlist_tells_who_is_online(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    let (ann, bob) = (unique("ann"), unique("bob"));
    page.connect("ann", &server, json!({"id": ann, "watchlist": [bob]})).await;
    sign_in(&mut page, "ann", &ann).await;
    let event = page.0.report(json!({"on": "ann", "watchlist": "offline"})).await;
    assert_eq!(event["user_ids"], json!([bob]));
    page.connect("bob", &server, user(&bob)).await;
    sign_in(&mut page, "bob", &bob).await;
    let event = page.0.report(json!({"on": "ann", "watchlist": "online"})).await;
    assert_eq!(event["user_ids"], json!([bob]));
    page.ask("disconnect", "bob", "").await;
    let event = page.0.report(json!({"on": "ann", "watchlist": "offline"})).await;
    assert_eq!(event["user_ids"], json!([bob]));
}

async fn a_forged_sign_in_is_an_error_and_the_connection_stays(version: &str) {
    let server = shared();
    let mut page = PusherJs::start(version);
    page.connect("eve", &server, json!({"id": "ann", "forged": true})).await;
    page.ask("signin", "eve", "").await;
    page.fails("eve", 4009).await;
    page.subscribe("eve", &unique("public")).await;
    assert_eq!(page.ask("signed_in_as", "eve", "").await, Value::Null);
}
