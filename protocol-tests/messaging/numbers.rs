//! Addresses as they really are: whoever wrote is answered, plans are newer than any library, and one line has
//! several spellings.

use serde_json::{Value, json};

use super::portal_database::directory;
use crate::harness::databases::{Database, mariadb, postgres};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, Setup, plain, text};
use crate::harness::names::unique;
use crate::harness::server::{binary, run};
use crate::harness::webhook::inbound;

each_store! {
    Router::setup().own_webhooks() =>
    whoever_wrote_is_answered_at_the_stored_address;
    one_line_is_one_conversation_in_every_spelling;
    a_users_line_is_internal_in_every_spelling;
    a_line_is_in_the_directory_once_and_moves_in_any_spelling;
    a_contact_who_becomes_a_user_under_another_spelling_is_the_same_contact;
    an_opt_out_holds_for_the_line;
    unrouted_messages_are_given_to_the_line;
}

/// Where the carrier was asked to send to, in the order of the calls.
async fn sent_to(router: &Router) -> Vec<String> {
    let sends = router.carrier.sends().await;
    sends.iter().map(|send| text(&send["body"]["to"])).collect()
}

/// The conversation of user 1 with a contact who writes now.
async fn who_wrote(router: &Router, from: &str) -> Value {
    let mut ann = router.listen("user.1").await;
    let hello = unique("hello ");
    router.webhook(&inbound(from, ANN, &hello)).await;
    loop {
        // After a restart events of before may come again.
        let mut told = ann.wait_for(RECEIVED).await.json();
        if told["message"]["text"] == hello {
            return told["conversation"].take();
        }
    }
}

async fn whoever_wrote_is_answered_at_the_stored_address(setup: Setup) {
    // No setting for what may be written to refuses an answer.
    let router = setup.routing("numbers.check", "valid").start().await;
    let mut expected = Vec::new();
    for (from, contact, to) in [
        ("+75973", "+75973", "75973"),
        ("+5215512345678", "+5215512345678", "+5215512345678"),
        ("+9990000000", "+9990000000", "+9990000000"),
        ("+15551234567", "+15551234567", "+15551234567"),
        ("+15550100", "+15550100", "+15550100"),
        ("+7597", "+7597", "+7597"),
        ("5550199", "5550199", "5550199"),
        ("ACME", "ACME", "ACME"),
        ("offers@shop.example", "offers@shop.example", "offers@shop.example"),
    ] {
        let stranger = json!({"user_id": 2, "to": contact, "text": "hello"});
        router.post("/messages", &stranger).await.refused(422, "invalid_number");
        let conversation = who_wrote(&router, from).await;
        assert_eq!(conversation["phone_number"], ANN);
        assert_eq!(conversation["contact"]["phone_number"], contact);
        for request in [
            json!({"user_id": 1, "to": contact, "text": "to the contact"}),
            json!({"user_id": 1, "to": format!("\u{61c}{contact}\u{200e}"), "text": "as a page writes it"}),
            json!({"user_id": 1, "conversation_id": conversation["id"], "text": "to the conversation"}),
            json!({"user_id": 1, "conversation_id": conversation["id"], "to": contact, "text": "to both"}),
        ] {
            let answer = router.ok("/messages", request).await;
            assert_eq!(answer["conversation"]["id"], conversation["id"], "{answer}");
            assert_eq!(answer["message"]["to_number"], to, "{answer}");
            expected.push(to);
        }
        // The other user has no such contact.
        router.post("/messages", &stranger).await.refused(422, "invalid_number");
    }
    assert_eq!(sent_to(&router).await, expected);
    for (request, status, code) in [
        (json!({"user_id": 1, "text": "to nobody"}), 422, "invalid_field"),
        (json!({"user_id": 1, "conversation_id": 999_999, "text": "to no conversation"}), 404, "not_found"),
        (json!({"user_id": 2, "conversation_id": 1, "text": "to another's"}), 404, "not_found"),
    ] {
        router.post("/messages", &request).await.refused(status, code);
    }
}

/// How many conversations of user 1 a search finds.
async fn found(router: &Router, search: &str) -> usize {
    let list = router.get("/conversations", &[("user_id", "1"), ("q", search)]).await;
    list["conversations"].as_array().expect("a list").len()
}

async fn one_line_is_one_conversation_in_every_spelling(setup: Setup) {
    let router = setup.start().await;
    let mut expected = Vec::new();
    for (one, other) in [
        ("+525512345678", "+5215512345678"),
        ("+5213387654321", "+523387654321"),
        ("+541123456789", "+5491123456789"),
        ("+5492914123456", "+542914123456"),
        ("+551187654321", "+5511987654321"),
        ("+2290197001234", "+22997001234"),
    ] {
        let conversation = who_wrote(&router, one).await;
        assert_eq!(conversation["contact"]["phone_number"], one);
        // A message goes to the number that is written, an answer to the one that wrote.
        let written = router.send(1, other, "written").await;
        let answer = json!({"user_id": 1, "conversation_id": conversation["id"], "text": "an answer"});
        let answer = router.ok("/messages", answer).await;
        for sent in [&written, &answer] {
            assert_eq!(sent["conversation"]["id"], conversation["id"], "{one} {other}");
            assert_eq!(sent["conversation"]["contact"]["phone_number"], one);
        }
        expected.extend([other, one]);
        assert_eq!(who_wrote(&router, other).await["id"], conversation["id"]);
        let named = json!({"user_id": 1, "number": other, "name": "One person"});
        let named = router.ok("/contacts", named).await;
        assert_eq!(named["contact"]["id"], conversation["contact"]["id"]);
        for search in [one, other, &one[3..], &other[3..]] {
            assert_eq!(found(&router, search).await, 1, "{search}");
        }
    }
    assert_eq!(sent_to(&router).await, expected);
    assert_eq!(router.conversations(1).await.len(), 6);
    // A fixed line and a mobile one, and numbers of which nobody is sure.
    for (one, other) in [("+551131234567", "+5511931234567"), ("+551178123456", "+5511978123456")] {
        assert_ne!(who_wrote(&router, one).await["id"], who_wrote(&router, other).await["id"]);
    }
    assert_eq!(router.conversations(1).await.len(), 10);
}

async fn a_users_line_is_internal_in_every_spelling(setup: Setup) {
    let router = setup.start().await;
    let (listed, other) = ("+525512345678", "+5215512345678");
    router.assign(listed, 3).await;
    let mut carla = router.listen("user.3").await;
    let looked_up = router.ok("/phone_numbers/lookup", json!({"number": other})).await;
    assert_eq!(looked_up["internal"], true, "{looked_up}");
    for to in [other, listed] {
        let sent = router.send(1, to, "inside").await;
        assert_eq!(sent["internal"], true, "{sent}");
        assert_eq!(sent["conversation"]["contact"]["phone_number"], listed);
        let told = carla.wait_for(RECEIVED).await.json();
        assert_eq!(told["message"]["conversation_id"], told["conversation"]["id"]);
    }
    let answer = json!({"user_id": 3, "from": other, "to": ANN, "text": "an answer"});
    assert_eq!(router.ok("/messages", answer).await["message"]["from_number"], listed);
    assert_eq!((router.conversations(1).await.len(), router.conversations(3).await.len()), (1, 1));
    assert_eq!(router.carrier.sends().await.len(), 0);
    let oneself = json!({"user_id": 3, "to": other, "text": "to myself"});
    router.post("/messages", &oneself).await.refused(422, "self_message");
    // What comes from outside.
    router.webhook(&inbound(OUTSIDE, other, "from outside")).await;
    assert_eq!(carla.wait_for(RECEIVED).await.json()["message"]["text"], "from outside");
}

async fn a_line_is_in_the_directory_once_and_moves_in_any_spelling(setup: Setup) {
    let router = setup.start().await;
    let (listed, other) = ("+525512345678", "+5215512345678");
    router.assign(listed, 3).await;
    router.assign(other, 2).await;
    let numbers = router.get("/phone_numbers", &[]).await;
    let numbers = numbers["phone_numbers"].as_array().expect("a list").clone();
    let lines: Vec<_> = numbers.iter().filter(|number| text(&number["number"]).starts_with("+52")).collect();
    assert_eq!(lines.len(), 1, "{numbers:?}");
    assert_eq!((&lines[0]["number"], &lines[0]["user_id"]), (&json!(listed), &json!(2)));
    let moved = router.send(1, listed, "to the new owner").await;
    assert_eq!(moved["internal"], true);
    assert_eq!(router.conversations(2).await.len(), 1);
    router.ok("/phone_numbers/release", json!({"number": other})).await;
    assert_eq!(router.send(1, listed, "outside").await["internal"], false);
}

async fn a_contact_who_becomes_a_user_under_another_spelling_is_the_same_contact(setup: Setup) {
    let router = setup.start().await;
    let (listed, wrote) = ("+5511987654321", "+551187654321");
    let conversation = who_wrote(&router, wrote).await;
    router.assign(listed, 3).await;
    let sent = router.send(1, listed, "inside").await;
    assert_eq!((&sent["internal"], &sent["conversation"]["id"]), (&json!(true), &conversation["id"]));
    let theirs = router.conversations(3).await.remove(0);
    let page = |conversation: &Value| format!("messenger.{}", plain(&conversation["id"]));
    let (mut ann, mut carla) =
        (router.listen(&page(&conversation)).await, router.listen(&page(&theirs)).await);
    let typing = format!("/conversations/{}/typing", plain(&conversation["id"]));
    router.ok(&typing, json!({"user_id": 1, "typing": true})).await;
    carla.wait_for(r"App\Events\UserTyping").await;
    let _online = router.listen("user.3").await;
    loop {
        if ann.wait_for(r"App\Events\ContactPresence").await.json()["online"] == true {
            break;
        }
    }
}

async fn an_opt_out_holds_for_the_line(setup: Setup) {
    let router = setup.start().await;
    let (one, other) = ("+551187654321", "+5511987654321");
    let conversation = who_wrote(&router, one).await;
    for (noted, lifted) in [(one, other), (other, one)] {
        router.ok("/opt_outs", json!({"number": noted})).await;
        for to in [one, other] {
            let request = json!({"user_id": 1, "to": to, "text": "unwanted"});
            router.post("/messages", &request).await.refused(403, "opted_out");
        }
        let shown = router.conversations(1).await;
        assert_eq!((&shown[0]["id"], &shown[0]["opted_out"]), (&conversation["id"], &json!(true)));
        let left = router.ok("/opt_outs/remove", json!({"number": lifted})).await;
        assert_eq!(left["opt_outs"], json!([]));
        assert_eq!(router.conversations(1).await[0]["opted_out"], false);
        router.send(1, noted, "wanted").await;
    }
    // Before there is a conversation.
    router.ok("/opt_outs", json!({"number": "+5215512345678"})).await;
    let made = router.ok("/conversations", json!({"user_id": 1, "to": "+525512345678"})).await;
    assert_eq!(made["conversation"]["opted_out"], true, "{made}");
}

async fn unrouted_messages_are_given_to_the_line(setup: Setup) {
    let router = setup.start().await;
    let (listed, other) = ("+5491123456789", "+541123456789");
    for (own, from, number) in
        [(other, "+525512345678", "1"), (listed, "+5215512345678", "2"), (other, "+5215512345678", "3")]
    {
        router.webhook(&inbound(from, own, number)).await;
    }
    let waiting = router.get("/unrouted_messages", &[("number", listed)]).await;
    assert_eq!(waiting["messages"].as_array().map(Vec::len), Some(3), "{waiting}");
    let mut carla = router.listen("user.3").await;
    router.assign(listed, 3).await;
    for number in ["1", "2", "3"] {
        let told = carla.wait_for(RECEIVED).await.json();
        assert_eq!((&told["late"], &told["message"]["text"]), (&json!(true), &json!(number)), "{told}");
    }
    assert_eq!(router.conversations(3).await.len(), 1);
}

/// As an earlier version left it: a contact and a conversation for each spelling.
const TWO_CONVERSATIONS: &str = "\
    UPDATE contacts SET number = '+5215512345678' WHERE number = '+5215511111111'; \
    UPDATE conversations SET contact_number = '+5215512345678' WHERE contact_number = '+5215511111111'; \
    UPDATE messages SET from_number = '+5215512345678' WHERE from_number = '+5215511111111'";

async fn conversations_of_both_spellings_go_on(router: &Router) {
    for (number, text) in [("+525512345678", "new"), ("+5215512345678", "old")] {
        let conversation = who_wrote(router, number).await;
        assert_eq!(conversation["contact"]["phone_number"], number, "each goes on with its own");
        let sent = router.send(1, number, text).await;
        assert_eq!(sent["conversation"]["id"], conversation["id"]);
        let answer = json!({"user_id": 1, "conversation_id": conversation["id"], "text": text});
        assert_eq!(router.ok("/messages", answer).await["message"]["to_number"], number);
        assert_eq!(router.messages(1, &conversation["id"]).await.len(), 4);
    }
    assert_eq!(router.conversations(1).await.len(), 2);
    router.ok("/opt_outs", json!({"number": "+525512345678"})).await;
    assert!(router.conversations(1).await.iter().all(|conversation| conversation["opted_out"] == true));
}

async fn two_conversations(router: &Router) {
    who_wrote(router, "+525512345678").await;
    who_wrote(router, "+5215511111111").await;
}

#[tokio::test]
async fn conversations_of_both_spellings_in_an_older_store_go_on_on_sqlite() {
    let mut router = Router::setup().own_webhooks().start().await;
    two_conversations(&router).await;
    router.kill();
    let store = rusqlite::Connection::open(router.database_file()).expect("the server's own file");
    store.execute_batch(TWO_CONVERSATIONS).expect("changed");
    drop(store);
    router.revive();
    conversations_of_both_spellings_go_on(&router).await;
}

#[tokio::test]
async fn conversations_of_both_spellings_in_an_older_store_go_on_on_postgresql() {
    let database = postgres().await;
    let router = Router::setup().own_webhooks().store(&database.url).start().await;
    two_conversations(&router).await;
    database.run(TWO_CONVERSATIONS).await;
    conversations_of_both_spellings_go_on(&router).await;
}

#[tokio::test]
async fn a_number_of_a_newer_plan_is_sent_and_what_can_not_be_one_is_refused() {
    let router = Router::start().await;
    let numbers =
        ["+22507070707", "+9990000000", "+5215512345678", "+13575550123", "+14575550123", "+16795550123"];
    for to in numbers {
        assert_eq!(router.send(1, to, "hello").await["message"]["to_number"], to);
    }
    assert_eq!(sent_to(&router).await, numbers);
    for to in ["+1312555010", "+999000", "+9991234567890123", "+0123456789", "+15550100", "ACME"] {
        let request = json!({"user_id": 1, "to": to, "text": "hello"});
        router.post("/messages", &request).await.refused(422, "invalid_number");
    }
    let router = Router::setup().routing("numbers.check", "valid").start().await;
    for to in numbers {
        let request = json!({"user_id": 1, "to": to, "text": "hello"});
        router.post("/messages", &request).await.refused(422, "invalid_number");
    }
}

/// What ICU writes before a number in `ar-EG`, and its like.
const MARKS: [&str; 5] = ["\u{61c}", "\u{200e}", "\u{2066}", "\u{2069}", "\u{200b}"];

#[tokio::test]
async fn marks_that_nobody_sees_are_no_part_of_a_number_wherever_it_is_written() {
    let router = Router::setup().own_webhooks().start().await;
    let folder = router.server().folder();
    for (at, mark) in MARKS.iter().enumerate() {
        let written = |number: &str| format!("{mark}{number}{mark}");
        let request = json!({"user_id": 1, "from": written(ANN), "to": written(BOB), "text": "hello"});
        let sent = router.ok("/messages", request).await;
        assert_eq!((&sent["internal"], &sent["message"]["to_number"]), (&json!(true), &json!(BOB)));
        let own = format!("+1312555030{at}");
        let saved = router.ok("/phone_numbers", json!({"number": written(&own), "user_id": 3})).await;
        assert_eq!(saved["phone_number"]["number"], own);
        let imported = format!("+1312555040{at}");
        let file = format!("number,user_id\n{},4\n", written(&imported));
        std::fs::write(folder.join("numbers.csv"), file).expect("written");
        let mut command = binary();
        command.current_dir(&folder).args(["numbers", "import", "numbers.csv"]);
        let done = run(command, "");
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(router.send(1, &imported, "hello").await["internal"], true, "{mark:?}");
        let conversation = who_wrote(&router, &written(OUTSIDE)).await;
        assert_eq!(conversation["contact"]["phone_number"], OUTSIDE);
    }
}

async fn the_tables_are_asked_for_each_spelling(database: Database) {
    let router = directory(&database).await.start().await;
    if database.url.starts_with("mysql") {
        database.run("ALTER TABLE phone_numbers CONVERT TO CHARACTER SET utf8mb4").await;
    }
    // The second as a page in Arabic writes it.
    database
        .run(
            "INSERT INTO phone_numbers VALUES (3, '+525512345678', 'assigned', 1), \
              (4, '\u{61c}+13125550104', 'assigned', 1)",
        )
        .await;
    for to in ["+525512345678", "+5215512345678"] {
        let sent = router.send(1, to, "inside").await;
        assert_eq!(sent["internal"], true, "{sent}");
    }
    assert_eq!(router.conversations(3).await.len(), 1);
    let answer = json!({"user_id": 3, "from": "+5215512345678", "to": ANN, "text": "an answer"});
    assert_eq!(router.ok("/messages", answer).await["internal"], true);
    assert_eq!(router.conversations(1).await.len(), 1);
    let marked = router.ok("/messages", json!({"user_id": 4, "to": BOB, "text": "hello"})).await;
    assert_eq!(marked["message"]["from_number"], "+13125550104");
    assert_eq!(router.carrier.sends().await.len(), 0);
}

#[tokio::test]
async fn the_portals_tables_are_asked_for_each_spelling_of_a_line_in_postgresql() {
    the_tables_are_asked_for_each_spelling(postgres().await).await;
}

#[tokio::test]
async fn the_portals_tables_are_asked_for_each_spelling_of_a_line_in_mariadb() {
    the_tables_are_asked_for_each_spelling(mariadb().await).await;
}
