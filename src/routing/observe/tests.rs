use serde_json::{Value, json};
use tokio::task::spawn_local;

use super::*;
use crate::config::{AppSettings, ChannelMode, DirectoryMode, StoreSettings};
use crate::hub::testing::{self, Client, OneShard};
use crate::outbox::Outbox;
use crate::protocol::id::{SocketId, UserId};
use crate::routing::records::ConversationKey;
use crate::storage::{Database, Transaction};

const EVENT: &str = "App\\Events\\ContactPresence";
const ANN: &str = "+13125550100";
const BOB: &str = "+13125550101";
const STRANGER: &str = "+13125550199";

fn app() -> AppSettings {
    let mut app = testing::app();
    app.routing.features.offline_grace = Duration::ZERO;
    app
}

/// Users 7 (Ann) and 8 (Bob), who have each other as contacts: conversations 1 (Ann's) and 2 (Bob's);
/// conversation 3 is Ann's with somebody else.
struct Portal {
    one: OneShard,
    router: Router,
    _folder: tempfile::TempDir,
}

impl Portal {
    async fn open(app: AppSettings) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let database = Database::open(&StoreSettings::default(), folder.path()).expect("a store");
        let settings = app.routing.clone();
        let fill = move |tx: &mut Transaction<'_>| {
            for (user, number) in [("7", ANN), ("8", BOB)] {
                tx.execute(
                    "INSERT INTO phone_numbers (app_id, number, user_id, status, is_default, created_at, updated_at) \
                     VALUES ('1001', ?1, ?2, 'assigned', 1, 0, 0)",
                    &[number.into(), user.into()],
                )?;
            }
            for (user_id, own_number, contact_number, thread_id, is_internal) in [
                ("7", ANN, BOB, "one", true),
                ("8", BOB, ANN, "one", true),
                ("7", ANN, STRANGER, "two", false),
            ] {
                let key = ConversationKey { app_id: "1001", user_id, own_number, contact_number, thread_id };
                Conversation::find_or_create(tx, &key, is_internal, &settings, 1)?;
            }
            Ok::<_, StorageError>(())
        };
        database.write(fill).await.expect("filled");
        let one = OneShard::new(app);
        let outbox = Outbox::new(database, one.hub.clone(), "node".into());
        let router = Router::new(outbox, one.hub.clone()).await.expect("a router");
        let running = router.clone();
        spawn_local(async move { run(&running).await });
        Self { one, router, _folder: folder }
    }

    async fn connect(&self) -> Client {
        self.one.connect().await
    }

    /// Waits until a user was looked at and written down.
    async fn last_seen(&self, user: &'static str) -> i64 {
        loop {
            let read = move |tx: &mut Transaction<'_>| {
                tx.query_one("SELECT last_seen_at FROM users_seen WHERE user_id = ?1", &[user.into()])
            };
            if let Some(row) = self.router.database().read(read).await.expect("read") {
                return row.int(0).expect("a time");
            }
        }
    }
}

async fn presence(client: &mut Client) -> Value {
    let frame = client.next().await;
    assert_eq!(frame["event"], EVENT, "{frame}");
    serde_json::from_str(frame["data"].as_str().expect("a string")).expect("JSON")
}

/// Bob's page is open while Ann comes by each of the ways, and goes.
async fn bob_sees_ann(app: AppSettings, conversation: &str, come: impl AsyncFn(&mut Client)) {
    let portal = Portal::open(app).await;
    let mut bob = portal.connect().await;
    bob.subscribe(conversation).await;
    let offline = json!({"conversation_id": 2, "contact_id": 2, "online": false, "last_seen_at": null});
    assert_eq!(presence(&mut bob).await, offline);
    let mut ann = portal.connect().await;
    come(&mut ann).await;
    let online = presence(&mut bob).await;
    assert_eq!((&online["conversation_id"], &online["contact_id"]), (&json!(2), &json!(2)));
    assert_eq!(online["online"], true);
    assert!(online["last_seen_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{online}");
    drop(ann);
    let gone = presence(&mut bob).await;
    assert_eq!(gone["online"], false);
    assert!(gone["last_seen_at"].as_str() >= online["last_seen_at"].as_str());
    assert!(portal.last_seen("7").await > 0);
    // Whoever opens the page later is told the state at once.
    let mut next = portal.connect().await;
    drop(bob);
    while portal.one.hub.connections() > 1 {
        tokio::task::yield_now().await;
    }
    next.subscribe(conversation).await;
    let told = presence(&mut next).await;
    assert_eq!((&told["online"], told["last_seen_at"].is_string()), (&json!(false), true));
}

#[test]
fn contacts_see_who_subscribes_to_the_own_channel_come_and_go() {
    testing::run(bob_sees_ann(app(), "messenger.2", async |ann| ann.subscribe("user.7").await));
}

#[test]
fn contacts_see_who_signs_in_come_and_go() {
    testing::run(bob_sees_ann(app(), "messenger.2", async |ann| ann.sign_in("7").await));
}

#[test]
fn the_private_mode_has_private_channels_and_believes_no_public_ones() {
    let mut app = app();
    app.routing.channels.mode = ChannelMode::Private;
    testing::run(bob_sees_ann(app, "private-messenger.2", async |ann| {
        ann.subscribe("user.7").await;
        ann.subscribe("private-user.7").await;
    }));
}

#[test]
fn with_the_portals_own_directory_the_other_half_tells_whose_a_number_is() {
    let mut app = app();
    app.routing.directory.mode = DirectoryMode::Sql;
    testing::run(bob_sees_ann(app, "messenger.2", async |ann| ann.sign_in("7").await));
}

#[test]
fn a_change_of_page_and_strangers_are_not_told() {
    let mut app = app();
    app.routing.features.offline_grace = Duration::from_mins(1);
    testing::run(async {
        let portal = Portal::open(app).await;
        let mut ann = portal.connect().await;
        ann.subscribe("user.7").await;
        assert!(portal.last_seen("7").await > 0);
        let mut bob = portal.connect().await;
        bob.subscribe("messenger.2").await;
        assert_eq!(presence(&mut bob).await["online"], true);
        bob.subscribe("messenger.3").await;
        for _ in 0..3 {
            ann.send("pusher:unsubscribe", json!({"channel": "user.7"})).await;
            ann.subscribe("user.7").await;
        }
        ann.sign_in("9").await;
        let mut other = portal.connect().await;
        other.subscribe("messenger.1").await;
        assert_eq!(presence(&mut other).await["online"], false);
        assert!(bob.names_until_now().await.is_empty());
    });
}

#[test]
fn who_is_internal_is_a_secret_where_it_is_not_exposed() {
    let silent: [fn(&mut AppSettings); 3] = [
        |app| app.routing.expose_internal = false,
        |app| app.routing.features.contact_presence = false,
        |app| app.routing.enabled = false,
    ];
    for change in silent {
        let mut app = app();
        change(&mut app);
        testing::run(async {
            let portal = Portal::open(app).await;
            let mut presence = ContactPresence::new(portal.router.clone(), Arc::default());
            let mut bob = portal.connect().await;
            bob.subscribe("messenger.2").await;
            bob.subscribe("user.7").await;
            presence.look([Person::new("1001", "7")], Instant::now()).await;
            let channel = ChannelName::parse("messenger.2").expect("a name");
            presence.greet([("1001".into(), channel)], Instant::now()).await;
            assert!(bob.names_until_now().await.is_empty());
        });
    }
}

#[test]
fn everybody_is_looked_at_after_observations_were_lost() {
    testing::run(async {
        let portal = Portal::open(app()).await;
        let mut presence = ContactPresence::new(portal.router.clone(), Arc::default());
        let (mut ann, mut bob) = (portal.connect().await, portal.connect().await);
        ann.subscribe("user.7").await;
        bob.sign_in("8").await;
        assert_eq!(bob.names(1).await, ["pusher:signin_success"]);
        presence.look_at_all(Instant::now()).await;
        let channel = |id| ChannelName::parse(&format!("messenger.{id}")).expect("a name");
        for id in [1, 2] {
            // A page of its own: that the users came may be told late, and more than once.
            let mut page = portal.connect().await;
            page.subscribe(&channel(id).to_string()).await;
            assert_eq!(self::presence(&mut page).await["online"], true);
            presence.greet([("1001".into(), channel(id))], Instant::now()).await;
            assert_eq!(self::presence(&mut page).await["online"], true);
        }
    });
}

#[test]
fn a_full_queue_counts_what_it_loses() {
    let (observer, hints) = observer();
    let user = UserId::signed_in("7").expect("an id");
    (0..QUEUE + 3).for_each(|_| observer.see("1001", &Observation::UserCame(&user)));
    let news = ChannelName::parse("news").expect("a name");
    observer.see(
        "1001",
        &Observation::ChannelOccupied(&news, SocketId::parse("1.1").expect("a form").expect("an id")),
    );
    assert_eq!(hints.lost(), 3);
}

#[test]
fn typing_is_on_unless_the_client_says_it_is_off() {
    for (data, is_on) in [
        (r#""{\"typing\":true}""#, true),
        (r#""{\"typing\":false}""#, false),
        (r#""{\"typing\":false,\"user\":7}""#, false),
        (r#""{\"typing\":\"no\"}""#, true),
        (r#""{}""#, true),
        (r#""""#, true),
        (r#""null""#, true),
    ] {
        assert_eq!(is_typing(data), is_on, "{data}");
    }
    assert!(is_typing(&format!(r#""{{\"typing\":false,\"x\":\"{}\"}}""#, "x".repeat(300))));
}

#[test]
fn repeated_typing_is_passed_on_now_and_then_and_each_change_at_once() {
    let (mut typed, app, start) = (Typed::default(), Arc::from("1001"), Instant::now());
    for (seconds, conversation, is_typing, is_news) in [
        (0, "1", true, true),
        (1, "1", true, false),
        (1, "2", true, true),
        (1, "1", false, true),
        (2, "1", false, false),
        (3, "1", false, true),
        (3, "2", true, true),
    ] {
        let now = start + Duration::from_secs(seconds);
        assert_eq!(typed.is_news(&app, conversation, is_typing, now), is_news, "{seconds} {conversation}");
    }
}

#[test]
fn public_channels_are_for_their_users_once_they_are_authenticated() {
    let mut app = app();
    app.routing.channels.authenticated_public = true;
    app.routing.features.contact_presence = false;
    testing::run(async {
        let portal = Portal::open(app).await;
        let mut ann = portal.connect().await;
        let refused = ["pusher:subscription_error", "pusher:error"];
        for channel in ["user.7", "messenger.1"] {
            ann.ask_for(channel).await;
        }
        ann.subscribe("news").await;
        ann.sign_in("7").await;
        let granted = |channel| format!("pusher_internal:subscription_succeeded {channel}");
        assert_eq!(
            ann.names(3).await,
            ["pusher:signin_success".to_owned(), granted("user.7"), granted("messenger.1")]
        );
        for channel in ["user.8", "messenger.2", "messenger.99", "messenger.x", "user."] {
            ann.ask_for(channel).await;
            let names = ann.names(2).await;
            assert_eq!(names, [format!("{} {channel}", refused[0]), refused[1].to_owned()]);
        }
    });
}
