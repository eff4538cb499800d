//! Group MMS: everybody of the group is shown, and an answer reaches all of them where the carrier takes it.

use serde_json::{Value, json};

use super::own::includes;
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, Setup, Thread, text};
use crate::harness::webhook::{event, inbound};
use crate::harness::ws::WsClient;

/// More people who are no users.
const BEN: &str = "+13125550172";
const CYD: &str = "+13125550173";

/// Makes a test of each for either store.
macro_rules! each_store {
    ($($test:ident;)+) => {$(
        mod $test {
            use crate::harness::messaging::Router;

            #[tokio::test]
            async fn sqlite() {
                Box::pin(super::$test(Router::setup())).await;
            }

            #[tokio::test]
            async fn postgresql() {
                let database = crate::harness::databases::postgres().await;
                Box::pin(super::$test(Router::setup().store(&database.url))).await;
            }
        }
    )+};
}

each_store! {
    an_answer_reaches_the_whole_group;
    the_reports_of_all_recipients_are_summed_up;
}

/// A message to Ann and these others; as Ann has it.
async fn group_message(router: &Router, others: Value) -> Value {
    let mut ann = router.listen("user.1").await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "cc": others, "text": "lunch?"})).await;
    ann.wait_for(RECEIVED).await.json()["message"].take()
}

fn statuses(message: &Value) -> Vec<(String, String)> {
    let recipients = message["recipients"].as_array().expect("a list");
    recipients.iter().map(|one| (text(&one["phone_number"]), text(&one["status"]))).collect()
}

fn each(recipients: &[(&str, &str)]) -> Vec<(String, String)> {
    recipients.iter().map(|(number, status)| ((*number).to_owned(), (*status).to_owned())).collect()
}

#[tokio::test]
async fn a_received_group_message_names_everybody_else() {
    let mut router = Router::setup().own_webhooks().portal().start().await;
    let mut ann = router.listen("user.1").await;
    let mut bob = router.listen("user.2").await;
    // As the carrier writes it: the list has the receiving number as well, as texts or as objects, in any spelling.
    for cc in [
        json!([BEN, CYD, ANN, BOB]),
        json!([{"phone_number": BEN}, {"phone_number": "+1 (312) 555-0173"}, {"phone_number": ANN}, BOB, BEN]),
        json!(["13125550172", "312-555-0173", OUTSIDE, ANN, BOB]),
    ] {
        let mut message = inbound(OUTSIDE, ANN, "lunch?");
        message["data"]["payload"]["cc"] = cc;
        message["data"]["payload"]["type"] = json!("MMS");
        router.webhook(&message).await;
        let seen = ann.wait_for(RECEIVED).await.json()["message"].take();
        let expected = json!({"cc": [BEN, CYD, BOB], "group": true, "type": "MMS", "from_number": OUTSIDE,
            "to_number": ANN, "recipients": []});
        includes(&seen, &expected);
        assert_eq!(router.portal().event("message_received").await["data"]["message"]["cc"], seen["cc"]);
        assert_eq!(router.message(1, &seen["id"]).await, seen);
    }
    // One webhook for two of our numbers: each user has the message, with the other in it.
    let mut message = inbound(OUTSIDE, ANN, "both");
    message["data"]["payload"]["to"] = json!([{"phone_number": ANN}, {"phone_number": BOB}]);
    message["data"]["payload"]["cc"] = json!([BEN]);
    router.webhook(&message).await;
    assert_eq!(ann.wait_for(RECEIVED).await.json()["message"]["cc"], json!([BOB, BEN]));
    let seen = bob.wait_for(RECEIVED).await.json()["message"].take();
    includes(&seen, &json!({"cc": [ANN, BEN], "group": true, "to_number": BOB, "user_id": 2}));
    // A message to nobody of ours tells the backend the group as well.
    let mut message = inbound(OUTSIDE, "+13125550150", "lost");
    message["data"]["payload"]["cc"] = json!([BEN, "+13125550150"]);
    router.webhook(&message).await;
    assert_eq!(router.portal().event("message_unrouted").await["data"]["cc"], json!([BEN]));
    let listed = router.get("/unrouted_messages", &[]).await;
    assert_eq!(listed["messages"][0]["cc"], json!([BEN]), "{listed}");
}

async fn an_answer_reaches_the_whole_group(setup: Setup) {
    // Bob is a user, and gets it as the others do: the carrier makes the thread on the phones.
    let mut router =
        setup.portal().carrier(&["--strict", "--loopback", "--own", ANN, "--own", BOB]).start().await;
    let received = group_message(&router, json!([BEN, ANN, BOB])).await;
    let mut bob = router.listen("user.2").await;
    let media = json!(["https://cdn.example/a.jpg"]);
    let send = json!({"user_id": 1, "reply_all": received["id"], "text": "yes", "media_urls": media,
        "subject": "Lunch", "idempotency_key": "k"});
    let answer = router.ok("/messages", send.clone()).await;
    let expected = json!({"direction": "OUTBOUND", "type": "MMS", "from_number": ANN, "to_number": OUTSIDE,
        "cc": [BEN, BOB], "group": true, "is_internal": false, "conversation_id": received["conversation_id"]});
    includes(&answer["message"], &expected);
    assert_eq!(answer["internal"], false);
    let sends = router.carrier.sends().await;
    let [sent] = &sends[..] else { panic!("{sends:?}") };
    assert_eq!(sent["path"], "/v2/messages/group_mms");
    let expected = json!({"from": ANN, "to": [OUTSIDE, BEN, BOB], "text": "yes", "media_urls": media,
        "subject": "Lunch"});
    includes(&sent["body"], &expected);
    assert_eq!(sent["unknown_fields"], json!([]));

    let id = answer["message"]["id"].clone();
    Box::pin(others_answer_too(&router, &mut bob, &id)).await;

    let told = router.portal().event("message_sent").await;
    includes(&told["data"]["message"], &json!({"cc": [BEN, BOB], "to_number": OUTSIDE}));
    assert_eq!(router.ok("/messages", send.clone()).await["replayed"], true);
    let mut other = send;
    other["reply_all"] = answer["message"]["id"].clone();
    assert_eq!(
        router.ok("/messages", other).await["replayed"],
        true,
        "the same group, named by another message"
    );
    let decision = format!("/messages/{}/decision", answer["message"]["id"]);
    let why = router.get(&decision, &[("user_id", "1")]).await["decision"].take();
    includes(&why, &json!({"route": "external", "reason": "group"}));
}

async fn others_answer_too(router: &Router, bob: &mut WsClient, answer: &Value) {
    // Bob's copy comes from outside, with the rest of the group in it, and he answers all of them.
    let copy = bob.wait_for(RECEIVED).await.json()["message"].take();
    includes(
        &copy,
        &json!({"from_number": ANN, "to_number": BOB, "cc": [OUTSIDE, BEN], "text": "yes", "group": true}),
    );
    let theirs =
        router.ok("/messages", json!({"user_id": 2, "reply_all": copy["id"], "text": "me too"})).await;
    includes(&theirs["message"], &json!({"from_number": BOB, "to_number": ANN, "cc": [OUTSIDE, BEN]}));
    // Also the own message names the group.
    let again = json!({"user_id": 1, "reply_all": answer, "text": "at noon"});
    includes(
        &router.ok("/messages", again).await["message"],
        &json!({"to_number": OUTSIDE, "cc": [BEN, BOB]}),
    );
    assert_eq!(router.carrier.sends().await.len(), 3);
    // A message to one of them goes its usual way.
    assert_eq!(router.send(1, BOB, "only you").await["internal"], true);
    assert_eq!(
        router.conversations(1).await.len(),
        2,
        "with the sender of the group's message, and with Bob"
    );
}

async fn the_reports_of_all_recipients_are_summed_up(setup: Setup) {
    let router = setup.carrier(&["--manual-finalize", "--own", ANN, "--own", BOB]).start().await;
    for ids in ["shared", "own"] {
        router.carrier.settings(json!({"group_ids": ids})).await;
        let received = Box::pin(group_message(&router, json!([BEN, BOB]))).await;
        let mut sent = Box::pin(Sent::answer(&router, &received)).await;
        Box::pin(differing_reports(&router, &sent)).await;
        sent.report(BEN, "delivered", &[]).await;
        sent.report(BOB, "delivered", &[]).await;
        sent.thread.reaches(&sent.id, "delivered").await;
        let message = router.message(1, &sent.id).await;
        includes(&message, &json!({"status": "delivered", "delivery_unconfirmed": false, "error": null}));
        assert_eq!(
            statuses(&message),
            each(&[(OUTSIDE, "delivered"), (BEN, "delivered"), (BOB, "delivered")])
        );
    }
    assert!(!router.server().output().contains("the carrier accepted this message twice"));
}

/// One got it, one did not, of the third nothing is known.
async fn differing_reports(router: &Router, sent: &Sent<'_>) {
    sent.report(OUTSIDE, "delivered", &[]).await;
    sent.report(BEN, "delivery_failed", &["40008"]).await;
    router.carrier.wait("idle=1").await;
    let message = router.message(1, &sent.id).await;
    assert_eq!(statuses(&message), each(&[(OUTSIDE, "delivered"), (BEN, "failed"), (BOB, "sent")]));
    includes(&message, &json!({"status": "sent", "delivery_unconfirmed": false, "error": null}));
    assert_eq!(message["recipients"][1]["error"]["code"], "40008");
    // The answer's price is that of all; a report has that of one.
    assert_eq!(message["cost"]["amount"], "0.0450");
    sent.report(BOB, "unknown", &[]).await;
    router.carrier.wait("idle=1").await;
    let message = router.message(1, &sent.id).await;
    includes(&message, &json!({"status": "sent", "delivery_unconfirmed": true, "error": null}));
}

/// Ann's answer to a group, which the carrier has handed over.
struct Sent<'a> {
    router: &'a Router,
    thread: Thread,
    id: Value,
    carrier_id: String,
}

impl<'a> Sent<'a> {
    async fn answer(router: &'a Router, received: &Value) -> Self {
        let mut thread = router.thread(1, OUTSIDE).await;
        let send =
            json!({"user_id": 1, "reply_all": received["id"], "text": format!("yes to {}", received["id"])});
        let id = router.ok("/messages", send).await["message"]["id"].take();
        thread.reaches(&id, "sent").await;
        let carrier_id = text(&router.message(1, &id).await["telnyx_message_id"]);
        Self { router, thread, id, carrier_id }
    }

    /// The carrier's last word about one recipient.
    async fn report(&self, to: &str, status: &str, errors: &[&str]) {
        self.router.carrier.finalize_one(&self.carrier_id, to, status, errors).await;
    }
}

#[tokio::test]
async fn what_nobody_of_a_group_got_failed_and_can_be_sent_again() {
    let router = Router::setup().carrier(&["--manual-finalize"]).start().await;
    let received = group_message(&router, json!([BEN])).await;
    let Sent { thread: mut ann, id, carrier_id, .. } = Box::pin(Sent::answer(&router, &received)).await;
    router.carrier.finalize(&carrier_id, "delivery_failed", &["40008"]).await;
    ann.reaches(&id, "failed").await;
    let failed = router.message(1, &id).await;
    assert_eq!(failed["error"]["code"], "40008");
    assert_eq!(statuses(&failed), each(&[(OUTSIDE, "failed"), (BEN, "failed")]));
    router.ok(&format!("/messages/{id}/retry"), json!({"user_id": 1})).await;
    ann.reaches(&id, "sent").await;
    let sends = router.carrier.sends().await;
    assert_eq!((sends.len(), &sends[1]["path"]), (2, &json!("/v2/messages/group_mms")));
}

#[tokio::test]
async fn one_report_may_have_all_recipients() {
    let router = Router::setup().own_webhooks().start().await;
    let mut ann = router.listen("user.1").await;
    let mut message = inbound(OUTSIDE, ANN, "lunch?");
    message["data"]["payload"]["cc"] = json!([BEN]);
    router.webhook(&message).await;
    let received = ann.wait_for(RECEIVED).await.json()["message"].take();
    let mut thread = router.thread(1, OUTSIDE).await;
    let send = json!({"user_id": 1, "reply_all": received["id"], "text": "yes"});
    let sent = router.ok("/messages", send).await["message"].take();
    let report = |word: &str| {
        event(
            "message.finalized",
            json!({"id": sent["telnyx_message_id"], "direction": "outbound",
            "to": [{"phone_number": OUTSIDE, "status": word}, {"phone_number": BEN, "status": "delivered"}]}),
        )
    };
    router.webhook(&report("delivered")).await;
    thread.reaches(&sent["id"], "delivered").await;
    router.webhook(&report("unknown")).await;
    let message = router.message(1, &sent["id"]).await;
    includes(&message, &json!({"status": "delivered", "delivery_unconfirmed": false}));
}

#[tokio::test]
async fn what_a_group_can_not_be_answered_with_is_told() {
    let router = Router::start().await;
    let received = group_message(&router, json!([BEN])).await;
    let refused = async |body: Value, status: u16, code: &str, field: &str| {
        let error = router.post("/messages", &body).await.refused(status, code);
        assert_eq!(error["field"], field, "{body}: {error}");
        text(&error["message"])
    };
    // A list says what is possible.
    for to in [json!([OUTSIDE, BEN]), json!([OUTSIDE]), json!([]), json!([{"phone_number": OUTSIDE}])] {
        let told = refused(json!({"user_id": 1, "to": to, "text": "x"}), 422, "invalid_field", "to").await;
        assert!(told.contains("reply_all"), "{told}");
    }
    let all = |more: Value| {
        let mut body = json!({"user_id": 1, "reply_all": received["id"], "text": "x"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    refused(all(json!({"to": OUTSIDE})), 422, "invalid_field", "to").await;
    refused(all(json!({"from": BOB})), 422, "invalid_field", "from").await;
    refused(all(json!({"reply_all": 999_999})), 404, "not_found", "reply_all").await;
    refused(all(json!({"user_id": 2})), 404, "not_found", "reply_all").await;
}

#[tokio::test]
async fn a_group_that_the_carrier_does_not_answer_is_refused() {
    let router = Router::start().await;
    let refused = async |id: &Value| {
        let body = json!({"user_id": 1, "reply_all": id, "text": "x"});
        let error = router.post("/messages", &body).await.refused(422, "group_not_possible");
        assert_eq!(error["field"], "reply_all", "{error}");
    };
    let alone = router.send(1, OUTSIDE, "alone").await["message"]["id"].take();
    refused(&alone).await;
    let many: Vec<String> = (0..8).map(|last| format!("+1312555016{last}")).collect();
    for others in [json!(many), json!([BEN, "+447911123456"]), json!(["+75973"]), json!(["ACME"])] {
        let received = group_message(&router, others).await;
        refused(&received["id"]).await;
    }
    assert_eq!(router.carrier.sends().await.len(), 1);
}

#[tokio::test]
async fn a_group_of_which_one_opted_out_gets_nothing() {
    let router = Router::start().await;
    let received = group_message(&router, json!([BEN])).await;
    let body = json!({"user_id": 1, "reply_all": received["id"], "text": "x"});
    router.ok("/opt_outs", json!({"number": BEN})).await;
    let error = router.post("/messages", &body).await.refused(403, "opted_out");
    assert_eq!(error["field"], "reply_all");
    router.ok("/opt_outs/remove", json!({"number": BEN})).await;
    // The number that the group has may be somebody else's now.
    router.ok("/phone_numbers/release", json!({"number": ANN})).await;
    router.post("/messages", &body).await.refused(403, "from_not_owned");
    assert_eq!(router.carrier.sends().await.len(), 0);
}

#[tokio::test]
async fn an_answer_to_a_group_can_wait_for_its_time() {
    let router = Router::start().await;
    let received = group_message(&router, json!([BEN])).await;
    let at = time::OffsetDateTime::now_utc() + time::Duration::seconds(2);
    let at = at.format(&time::format_description::well_known::Rfc3339).expect("a time");
    let send = json!({"user_id": 1, "reply_all": received["id"], "text": "later", "send_at": at});
    let scheduled = router.ok("/messages", send).await["message"].take();
    assert_eq!(statuses(&scheduled), each(&[(OUTSIDE, "scheduled"), (BEN, "scheduled")]));
    router.carrier.wait("accepted=1").await;
    assert_eq!(router.carrier.sends().await[0]["body"]["to"], json!([OUTSIDE, BEN]));
}
