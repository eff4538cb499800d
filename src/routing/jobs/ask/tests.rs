use super::*;
use crate::routing::test_support::Lab;

/// A second ago.
const DUE: &str = "UPDATE messages SET ask_at = (CAST(strftime('%s', 'now') AS INTEGER) - 1) * 1000000";
const SOMEBODY: &str = "+13125559999";

/// A lab whose carrier is nowhere, with a message that it has and that is due.
async fn lab() -> (Lab, Message) {
    let lab = Lab::with(|settings| settings.telnyx.base_url = "http://127.0.0.1:1".to_owned()).await;
    let message = lab.send("7", SOMEBODY, "hello").await;
    lab.sql("UPDATE carrier_jobs SET state = 'done'").await;
    lab.sql("UPDATE messages SET telnyx_message_id = 'm1'").await;
    lab.sql(DUE).await;
    (lab, message)
}

impl Lab {
    async fn round(&self) {
        round(&self.router, &self.app).await.expect("a round");
    }

    async fn seen(&self, message: &Message) -> (Status, bool, i64, bool) {
        let now = self.message(message.id).await;
        (now.status, now.is_unconfirmed, now.awaited.asks, now.awaited.ask_at.is_some())
    }
}

#[tokio::test]
async fn a_question_in_vain_is_asked_again_later_and_not_for_ever() {
    let (lab, message) = lab().await;
    for asks in 1..=5 {
        lab.round().await;
        lab.round().await;
        assert_eq!(lab.seen(&message).await, (Status::Sending, false, asks, true), "once a round");
        // What failed before does not count here.
        lab.router.inner.jobs.lines.get(&lab.app).expect("a line").state().forget();
        lab.sql(DUE).await;
    }
    lab.round().await;
    assert_eq!(lab.seen(&message).await, (Status::Sent, true, 6, false));
    let events = lab.events();
    let last = events.last().expect("told");
    assert_eq!(last.data["message"]["delivery_unconfirmed"], true, "{last:?}");
    assert_eq!(last.data["previous_status"], "sending");
}

#[tokio::test]
async fn what_can_not_be_asked_about_ends_unasked() {
    for change in [
        "UPDATE messages SET telnyx_message_id = NULL",
        // The last answer was lost in a crash.
        "UPDATE messages SET asks = 6",
        // Nobody could ask for 10 days: no key, a paused account.
        "UPDATE messages SET ask_at = ask_at - 864000000001",
    ] {
        let (lab, message) = lab().await;
        lab.sql(change).await;
        lab.round().await;
        let (status, is_unconfirmed, _, is_due) = lab.seen(&message).await;
        assert_eq!((status, is_unconfirmed, is_due), (Status::Sent, true, false), "{change}");
    }
}

#[tokio::test]
async fn of_two_that_see_a_message_one_asks() {
    let (lab, _) = lab().await;
    let due = find(&lab.router, &lab.app, false).await.expect("readable").remove(0);
    let after = Duration::from_mins(15);
    for expected in [true, false] {
        let due = due.clone();
        assert_eq!(lab.write(move |tx| due.take(tx, storage::now(), after)).await, expected);
    }
}

#[tokio::test]
async fn a_carrier_in_trouble_is_not_asked() {
    let (lab, message) = lab().await;
    let line = lab.router.inner.jobs.lines.get(&lab.app).expect("a line");
    for _ in 0..5 {
        let mut state = line.state();
        let permit = state.breaker.may_call(storage::now()).expect("closed");
        state.breaker.report(permit, crate::routing::carrier::Health::Failing, storage::now());
    }
    lab.round().await;
    assert_eq!(lab.seen(&message).await, (Status::Sending, false, 0, true));
}

/// Messages that are settled cost nothing, however many they are.
#[tokio::test]
async fn only_what_is_awaited_is_looked_at() {
    let (lab, _) = lab().await;
    let plan = "EXPLAIN QUERY PLAN SELECT id, telnyx_message_id, asks, ask_at FROM messages \
        WHERE app_id = ?1 AND ask_at <= ?2 AND asks >= 6 ORDER BY ask_at, id LIMIT 100";
    let rows = lab.write(move |tx| tx.query(plan, &["1001".into(), 1_i64.into()])).await;
    let steps: Vec<String> = rows.iter().map(|row| row.text(3).expect("text")).collect();
    assert!(steps.len() == 1 && steps[0].contains("messages_asked"), "{steps:?}");
}
