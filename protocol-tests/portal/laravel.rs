//! The Laravel code of `examples/portal/README.md`, run by PHP against the server, and without it.

use serde_json::{Value, json};

use crate::clients::{Sdk, example};
use crate::harness::messaging::{BOB, OUTSIDE, Router};

/// One call of the controller, or of a channel's rule, as user 1; its status, and all that was said.
async fn call(php: &mut Sdk, router: &Router, method: &str, args: Value) -> (u64, String) {
    let answer = php.try_call_at(router.port(), &router.app, method, args).await.expect("an answer");
    (answer["status"].as_u64().expect("a status"), answer.to_string())
}

#[tokio::test]
async fn the_laravel_controller_serves_its_user_and_passes_refusals_on() {
    let router = Router::start().await;
    router.send(2, OUTSIDE, "Ben's own").await;
    let theirs = router.conversations(2).await[0]["id"].to_string();
    let mut php = Sdk::laravel(&example("portal/README.md"));
    let (status, said) =
        call(&mut php, &router, "send", json!([{"to": BOB, "text": "Hello", "key": "1"}])).await;
    assert!(status == 200 && said.contains("delivered"), "{said}");
    let (status, said) = call(&mut php, &router, "conversations", json!([{"before": null}])).await;
    assert!(status == 200 && said.contains("Hello"), "{said}");
    let ours = router.conversations(1).await[0]["id"].to_string();
    for (conversation, status, owned) in [(&ours, 200, "true"), (&theirs, 404, "false")] {
        let (got, said) = call(&mut php, &router, "messages", json!([{"before": null}, conversation])).await;
        assert_eq!(got, status, "{said}");
        let (_, said) = call(&mut php, &router, "channel", json!(["messenger.{id}", conversation])).await;
        assert!(said.contains(&format!("\"data\":{owned}")), "{said}");
    }
}

#[tokio::test]
async fn without_the_server_the_laravel_controller_answers_503_and_no_signed_address() {
    let mut router = Router::start().await;
    let mut php = Sdk::laravel(&example("portal/README.md"));
    router.kill();
    for (method, args) in [
        ("conversations", json!([{}])),
        ("messages", json!([{}, "1"])),
        ("channel", json!(["messenger.{id}", "1"])),
        ("start", json!([{"to": BOB}])),
        ("attach", json!([{"conversation_id": 1, "name": "a.png"}])),
        ("send", json!([{"to": BOB, "text": "Hi", "key": "1"}])),
        ("read", json!([{"up_to": 1}, "1"])),
        ("typing", json!([{"typing": true}, "1"])),
        ("edit", json!([{"text": "Ho"}, "1"])),
        ("delete", json!([{"scope": "me"}, "1"])),
        ("retry", json!(["1"])),
    ] {
        let (status, said) = call(&mut php, &router, method, args).await;
        assert_eq!(status, 503, "{method}: {said}");
        assert!(!said.contains("auth_signature") && !said.contains("http://"), "{method}: {said}");
    }
}
