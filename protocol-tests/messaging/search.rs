//! Searching conversations: case in every script, the same on both stores.

use serde_json::{Value, json};

use crate::harness::databases::postgres;
use crate::harness::messaging::{ANN, RECEIVED, Router, Setup};

async fn found(router: &Router, search: &str) -> Vec<String> {
    let list = router.get("/conversations", &[("user_id", "1"), ("q", search)]).await;
    let names = list["conversations"].as_array().expect("a list").iter();
    let name = |conversation: &Value| conversation["contact"]["name"].as_str().unwrap_or_default().to_owned();
    let mut names: Vec<String> = names.map(name).collect();
    names.sort();
    names
}

async fn a_search_finds_text_in_any_case_and_form(setup: Setup) {
    let router = setup.start().await;
    // The second as macOS writes it, an accent behind its letter.
    let people = ["Élodie", "Jose\u{301}", "Ирина", "Straße", "İpek", "Οδυσσεύς", "100% Sure_Thing"];
    for (number, name) in people.iter().enumerate() {
        let to = format!("+1312555020{number}");
        let contact = json!({"user_id": 1, "to": to, "contact": {"name": name}});
        router.ok("/conversations", contact).await;
    }
    for (search, name) in [
        ("ÉLODIE", "Élodie"),
        ("élo", "Élodie"),
        ("E\u{301}LO", "Élodie"),
        ("JOSÉ", "Jose\u{301}"),
        ("ирина", "Ирина"),
        ("ИРИНА", "Ирина"),
        ("STRASSE", "Straße"),
        ("straße", "Straße"),
        ("ipek", "İpek"),
        ("İPEK", "İpek"),
        ("ΟΔΥΣΣΕΎΣ", "Οδυσσεύς"),
        ("0% s", "100% Sure_Thing"),
        ("e_t", "100% Sure_Thing"),
        ("(312) 555-0203", "Straße"),
    ] {
        assert_eq!(found(&router, search).await, [name], "{search}");
    }
    for search in ["elodie", "%", "_", "\\", "nobody"] {
        let expected: &[&str] = if matches!(search, "%" | "_") { &["100% Sure_Thing"] } else { &[] };
        assert_eq!(found(&router, search).await, expected, "{search}");
    }
    // The last message, and a sender that is no number.
    let mut ann = router.listen("user.1").await;
    router.carrier.inbound(json!({"from": "MyBank", "to": ANN, "text": "Ваш КОД"})).await;
    ann.wait_for(RECEIVED).await;
    for search in ["mybank", "MYBANK", "ваш код"] {
        assert_eq!(found(&router, search).await.len(), 1, "{search}");
    }
}

#[tokio::test]
async fn a_search_finds_text_in_any_case_and_form_on_sqlite() {
    a_search_finds_text_in_any_case_and_form(Router::setup()).await;
}

#[tokio::test]
async fn a_search_finds_text_in_any_case_and_form_on_postgresql() {
    let database = postgres().await;
    a_search_finds_text_in_any_case_and_form(Router::setup().store(&database.url)).await;
}
