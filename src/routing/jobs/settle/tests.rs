use std::sync::Arc;
use std::time::Duration;

use super::super::worker::{Claimed, claim};
use super::*;
use crate::routing::carrier::ConfigUntil;
use crate::routing::test_support::Lab;

const SOMEBODY: &str = "+13125559999";

fn error(code: &str) -> CarrierError {
    CarrierError { code: code.to_owned(), title: "title".to_owned(), detail: None }
}

fn unclear() -> Outcome {
    Outcome::Unclear { reason: "no answer".to_owned(), error: None, alert: false }
}

fn accepted(carrier_id: &str) -> Outcome {
    Outcome::Accepted(Accepted {
        carrier_id: carrier_id.to_owned(),
        status: "queued".to_owned(),
        parts: None,
        encoding: None,
        cost: None,
        replayed: false,
    })
}

/// Whatever leads to no call that could tell more.
fn dead_ends() -> Vec<Outcome> {
    let config = |scope| Outcome::Config { scope, until: ConfigUntil::Probe, error: error("20012") };
    vec![
        Outcome::NotSent { reason: "no connection".to_owned() },
        Outcome::Throttled { wait: None, scope: ConfigScope::App, error: error("10011") },
        config(ConfigScope::App),
        config(ConfigScope::Number),
        config(ConfigScope::Lane),
    ]
}

impl Lab {
    /// An attempt of the message's job, as the worker begins it.
    async fn attempt(&self, message: &Message) -> Claimed {
        let message = message.id;
        self.write(move |tx| {
            let row = tx.query_one("SELECT id FROM carrier_jobs WHERE message_id = ?1", &[message.into()])?;
            claim(tx, "node", row.expect("a job").int(0)?, storage::now())
        })
        .await
        .expect("it waits")
    }

    async fn settle(&self, attempt: &Claimed, outcome: &Outcome) {
        settle(&self.router, &self.app, attempt.job, attempt.attempt, outcome).await.expect("stored");
    }

    /// Status, and the code of the error.
    async fn end(&self, message: &Message) -> (Status, Option<String>) {
        let message = self.message(message.id).await;
        let error = message.error.map(|error| serde_json::from_str(&error).expect("JSON"));
        (
            message.status,
            error.map(|error: serde_json::Value| error["code"].as_str().expect("text").to_owned()),
        )
    }

    async fn retry(&self, message: &Message) {
        let (app, id) = (Arc::clone(&self.app), message.public_id().to_string());
        self.router.retry(app, message.user_id.clone(), id).await.expect("it may be sent again");
    }
}

#[tokio::test]
async fn doubt_outlives_whatever_comes_after_it() {
    let mut ends = dead_ends();
    ends.extend([unclear(), Outcome::InProgress { wait: Duration::ZERO }]);
    for end in ends {
        let lab = Lab::new().await;
        let message = lab.send("7", SOMEBODY, "hello").await;
        lab.settle(&lab.attempt(&message).await, &unclear()).await;
        assert_eq!(lab.end(&message).await, (Status::Sending, None), "it is tried again");
        let last = lab.attempt(&message).await;
        lab.sql("UPDATE carrier_jobs SET valid_until = 1").await;
        lab.settle(&last, &end).await;
        assert_eq!(lab.end(&message).await, (Status::Unconfirmed, None), "{end:?}");
        assert_eq!(lab.texts("SELECT state FROM carrier_jobs").await, ["held"], "{end:?}");
    }
}

#[tokio::test]
async fn without_doubt_a_message_whose_time_is_over_has_failed() {
    for end in dead_ends() {
        let lab = Lab::new().await;
        let message = lab.send("7", SOMEBODY, "hello").await;
        let last = lab.attempt(&message).await;
        lab.sql("UPDATE carrier_jobs SET valid_until = 1").await;
        lab.settle(&last, &end).await;
        assert_eq!(lab.end(&message).await.0, Status::Failed, "{end:?}");
    }
}

#[tokio::test]
async fn only_with_a_key_a_refusal_is_about_the_earlier_calls_too() {
    for (idempotency, expected) in [
        (Idempotency::Header, (Status::Failed, Some("40001"))),
        (Idempotency::Off, (Status::Unconfirmed, None)),
    ] {
        let lab = Lab::with(|settings| {
            settings.telnyx.idempotency = idempotency;
            settings.telnyx.on_unclear = OnUnclear::Resend;
        })
        .await;
        let message = lab.send("7", SOMEBODY, "hello").await;
        lab.settle(&lab.attempt(&message).await, &unclear()).await;
        lab.settle(&lab.attempt(&message).await, &Outcome::Refused(error("40001"))).await;
        let (status, code) = lab.end(&message).await;
        assert_eq!((status, code.as_deref()), expected, "{idempotency:?}");
    }
}

#[tokio::test]
async fn what_waits_too_long_is_given_up_and_one_bad_row_keeps_back_no_other() {
    let lab = Lab::new().await;
    let mut messages = Vec::new();
    for text in ["bad", "never asked", "in doubt", "asked now", "in time"] {
        messages.push(lab.send("7", SOMEBODY, text).await);
    }
    lab.settle(&lab.attempt(&messages[2]).await, &unclear()).await;
    let now = lab.attempt(&messages[3]).await;
    lab.sql("UPDATE carrier_jobs SET valid_until = 1 WHERE id < (SELECT MAX(id) FROM carrier_jobs)").await;
    // No status of ours.
    lab.sql("UPDATE messages SET status = 'x' WHERE body = 'bad'").await;
    expire(&lab.router).await.expect("done");
    assert_eq!(lab.end(&messages[1]).await, (Status::Failed, Some("expired".to_owned())));
    assert_eq!(lab.end(&messages[2]).await, (Status::Unconfirmed, None));
    assert_eq!(lab.end(&messages[3]).await, (Status::Sending, None));
    assert_eq!(lab.end(&messages[4]).await, (Status::Sending, None));
    // The call that was out decides.
    lab.settle(&now, &accepted("c")).await;
    assert_eq!(lab.message(messages[3].id).await.telnyx_message_id.as_deref(), Some("c"));
}

#[tokio::test]
async fn an_interrupted_call_is_in_doubt_and_one_bad_row_keeps_back_no_other() {
    let lab = Lab::new().await;
    let mut messages = Vec::new();
    for text in ["bad", "good"] {
        messages.push(lab.send("7", SOMEBODY, text).await);
        lab.attempt(messages.last().expect("just sent")).await;
    }
    lab.sql("UPDATE messages SET status = 'x' WHERE body = 'bad'").await;
    recover(&lab.router, i64::MAX).await.expect("done");
    let outcomes = "SELECT COALESCE(outcome, 'none') FROM carrier_attempts ORDER BY id";
    assert_eq!(lab.texts(outcomes).await, ["none", "unclear"]);
    for _ in 2..=MAX_FAULTS {
        assert_eq!(lab.texts(outcomes).await, ["none", "unclear"]);
        recover(&lab.router, i64::MAX).await.expect("done");
    }
    assert_eq!(lab.texts(outcomes).await, ["unclear", "unclear"], "set aside at last");
    lab.sql("UPDATE carrier_jobs SET valid_until = 1").await;
    expire(&lab.router).await.expect("done");
    assert_eq!(lab.end(&messages[1]).await, (Status::Unconfirmed, None));
}

/// A call hangs, its lease ends, the message is held, a person has it sent anew: then the old call answers.
#[tokio::test]
async fn a_late_answer_of_an_older_send_changes_nothing_of_the_new_one() {
    for late in [accepted("old"), Outcome::Refused(error("40001")), unclear()] {
        let lab = Lab::with(|settings| settings.telnyx.idempotency = Idempotency::Off).await;
        let message = lab.send("7", SOMEBODY, "hello").await;
        let old = lab.attempt(&message).await;
        recover(&lab.router, i64::MAX).await.expect("done");
        assert_eq!(lab.end(&message).await, (Status::Unconfirmed, None));
        lab.retry(&message).await;
        for is_out in [false, true] {
            let new = if is_out { Some(lab.attempt(&message).await) } else { None };
            lab.settle(&old, &late).await;
            assert_eq!(lab.end(&message).await, (Status::Sending, None), "{late:?}, new call out: {is_out}");
            assert_eq!(lab.message(message.id).await.telnyx_message_id, None, "{late:?}");
            assert_eq!(lab.texts("SELECT state FROM carrier_jobs").await, ["waiting"], "{late:?}");
            if let Some(new) = new {
                lab.settle(&new, &accepted("new")).await;
                assert_eq!(lab.message(message.id).await.telnyx_message_id.as_deref(), Some("new"));
            }
        }
    }
}

#[tokio::test]
async fn a_webhook_of_an_older_send_changes_nothing_of_the_new_one() {
    let lab = Lab::with(|settings| settings.telnyx.idempotency = Idempotency::Off).await;
    let message = lab.send("7", SOMEBODY, "hello").await;
    lab.settle(&lab.attempt(&message).await, &unclear()).await;
    let token = lab.texts("SELECT token FROM carrier_attempts").await.remove(0);
    lab.retry(&message).await;
    let (router, app) = (lab.router.clone(), Arc::clone(&lab.app));
    lab.write(move |tx| resolve_by_webhook(&router, tx, &app, &token, "old")).await.expect("its message");
    assert_eq!(lab.message(message.id).await.telnyx_message_id, None);
    assert_eq!(lab.texts("SELECT state FROM carrier_jobs").await, ["waiting"]);
}

/// Whatever does not count as an attempt still slows down.
#[tokio::test]
async fn answers_that_do_not_count_are_asked_for_less_and_less_often() {
    let config =
        Outcome::Config { scope: ConfigScope::Lane, until: ConfigUntil::Probe, error: error("40309") };
    for outcome in [
        Outcome::Throttled { wait: None, scope: ConfigScope::Number, error: error("40318") },
        Outcome::InProgress { wait: Duration::from_millis(1500) },
        config,
    ] {
        let lab = Lab::new().await;
        let message = lab.send("7", SOMEBODY, "hello").await;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let attempt = lab.attempt(&message).await;
            let before = storage::now();
            lab.settle(&attempt, &outcome).await;
            let next = lab.texts("SELECT CAST(not_before AS TEXT) FROM carrier_jobs").await.remove(0);
            pauses.push(next.parse::<i64>().expect("a time") - before);
        }
        assert!(pauses[5] > 5 * pauses[0], "{outcome:?}: {pauses:?}");
        assert_eq!(lab.texts("SELECT CAST(attempts AS TEXT) FROM carrier_jobs").await, ["0"], "none counts");
    }
}
