//! What a text may be, and how many parts it has: where the carrier may count otherwise, the carrier judges.

use serde_json::{Value, json};

use super::own::includes;
use crate::harness::messaging::{BOB, OUTSIDE, Router};

/// Texts and what is counted for them; its first line says what the columns are.
const TABLE: &str = include_str!("../data/sms.tsv");

/// A row's text, its parts by the standard, and the most that the carrier may count.
fn rows() -> Vec<(String, u64, u64)> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |at: usize| fields[at].parse().expect("a number");
        (serde_json::from_str(fields[1]).expect("a JSON string"), number(4), number(7))
    });
    rows.collect()
}

#[tokio::test]
async fn every_text_of_the_table_has_the_parts_it_says() {
    let router = Router::setup().routing("send.user_rate", 0).start().await;
    for (text, parts, most) in rows().into_iter().filter(|(text, ..)| !text.trim().is_empty()) {
        let message = router.send(1, BOB, &text).await["message"].take();
        includes(&message, &json!({"text": text, "parts": parts, "parts_max": most}));
    }
}

#[tokio::test]
async fn the_carriers_count_stands_beside_the_most_there_may_be() {
    let router = Router::start().await;
    let counts = async |text: &str| {
        let message = router.send(1, OUTSIDE, text).await["message"].take();
        (message["parts"].clone(), message["parts_max"].clone(), message["encoding"].clone())
    };
    let euros = "€".repeat(153);
    assert_eq!(counts(&euros).await, (json!(2), json!(3), json!("GSM-7")));
    assert_eq!(counts(&"Ω".repeat(100)).await, (json!(1), json!(2), json!("GSM-7")));
    let quoted = format!("“{}”", "a".repeat(150));
    assert_eq!(counts(&quoted).await, (json!(3), json!(3), json!("UCS-2")));
    router.carrier.settings(json!({"smart_encoding": true})).await;
    assert_eq!(counts(&format!("{quoted}.")).await, (json!(1), json!(3), json!("GSM-7")));
}

#[tokio::test]
async fn a_text_that_some_encoding_lets_through_is_for_the_carrier_to_judge() {
    let router = Router::start().await;
    // As it is, eleven parts; with the quotation marks replaced, five.
    let quoted = format!("“{}”", "a".repeat(700));
    let refused = router.send(1, OUTSIDE, &quoted).await["message"].take();
    let error = json!({"code": "40302", "title": "Message too large", "carrier": "telnyx"});
    includes(&refused, &json!({"status": "failed", "error": error}));
    router.carrier.settings(json!({"smart_encoding": true})).await;
    let sent = router.send(1, OUTSIDE, &format!("{quoted}.")).await["message"].take();
    includes(&sent, &json!({"parts": 5, "encoding": "GSM-7", "error": null, "text": format!("{quoted}.")}));
    // At the limit by the carrier's formula.
    for text in ["€".repeat(765), "😀".repeat(335)] {
        let sent = router.send(1, OUTSIDE, &text).await["message"].take();
        includes(&sent, &json!({"parts": 10, "parts_max": 11, "error": null}));
    }
    let sends = router.carrier.sends().await.len();
    // No encoding helps these.
    for text in ["a".repeat(1_531), "“".repeat(1_531), "😀".repeat(336), "й".repeat(671)] {
        let body = json!({"user_id": 1, "to": OUTSIDE, "text": text});
        let error = router.post("/messages", &body).await.refused(422, "too_long");
        assert_eq!(error["field"], "text");
    }
    assert_eq!(router.carrier.sends().await.len(), sends);
}

#[tokio::test]
async fn an_mms_has_no_parts_and_their_limit_is_none_of_its() {
    let router = Router::start().await;
    let long = "й".repeat(5_000);
    let mms = |to: &str, more: Value| {
        let mut body = json!({"user_id": 1, "to": to, "text": long, "wait": false});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let media = json!({"media_urls": ["https://cdn.example/a.jpg"]});
    for more in [media.clone(), json!({"subject": "A long story"})] {
        let message = router.ok("/messages", mms(OUTSIDE, more)).await["message"].take();
        includes(&message, &json!({"type": "MMS", "parts": null, "parts_max": null, "encoding": null}));
    }
    router.carrier.wait("accepted=2").await;
    let sent = router.carrier.sends().await;
    assert!(sent.iter().all(|send| send["body"]["text"] == long.as_str()), "as it is");
    // Without either it is an SMS.
    router.post("/messages", &mms(OUTSIDE, json!({}))).await.refused(422, "too_long");
    // Inside the portal nothing is sent in parts.
    let message = router.ok("/messages", mms(BOB, media)).await["message"].take();
    includes(&message, &json!({"type": "MMS", "parts": null, "status": "delivered"}));
}

#[tokio::test]
async fn a_short_code_may_have_fewer_characters() {
    let router = Router::setup().routing("numbers.allow_short_codes", true).start().await;
    let accented = "é".repeat(71);
    for (to, most) in [(OUTSIDE, 1), ("75973", 2)] {
        let body = json!({"user_id": 1, "to": to, "text": accented, "wait": false});
        let message = router.ok("/messages", body).await["message"].take();
        includes(&message, &json!({"parts": 1, "parts_max": most}));
    }
}
