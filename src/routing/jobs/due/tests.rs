use std::num::NonZeroU32;

use super::*;
use crate::routing::carrier::{CarrierError, ConfigScope, ConfigUntil, Outcome};
use crate::routing::test_support::Lab;

const SENDER: &str = "+13125550100";
const OTHER: &str = "+13125550101";
const MANY: i64 = 600;

/// A lab in which one number has more jobs than are looked at in one round, and another has one that came later.
async fn lab() -> (Lab, Arc<Line>) {
    let lab = Lab::with(|settings| settings.telnyx.number_rate = NonZeroU32::new(1)).await;
    lab.write(|tx| {
        for job in 0..=MANY {
            let number = if job < MANY { SENDER } else { OTHER };
            tx.execute(
                "INSERT INTO carrier_jobs (app_id, message_id, lane, own_number, body, idempotency_key, token, state, \
                 attempts, not_before, valid_until, locked_until, created_at) VALUES \
                 ('1001', ?1, ?2, ?3, x'', 'key', ?2, 'waiting', 0, ?1, ?4, 0, ?4)",
                &[job.into(), format!("lane-{job}").into(), number.into(), i64::MAX.into()],
            )?;
        }
        Ok(())
    })
    .await;
    let line = lab.router.inner.jobs.lines.get(&lab.app).expect("a line");
    (lab, line)
}

async fn numbers(lab: &Lab, line: &Line) -> Vec<(String, usize)> {
    let due = find(&lab.router, &lab.app, line).await.expect("readable");
    let mut numbers: Vec<(String, usize)> = Vec::new();
    for due in due {
        match numbers.iter_mut().find(|(number, _)| *number == due.own_number) {
            Some((_, count)) => *count += 1,
            None => numbers.push((due.own_number, 1)),
        }
    }
    numbers
}

#[tokio::test]
async fn many_jobs_of_one_number_hide_no_other() {
    let (lab, line) = lab().await;
    let both = [(SENDER.to_owned(), PER_NUMBER as usize), (OTHER.to_owned(), 1)];
    assert_eq!(numbers(&lab, &line).await, both, "those that have waited longest first");
    // Its rate is used up: it is not even looked at.
    assert!(line.state().take_number_rate(SENDER, &lab.app.settings.routing.telnyx));
    assert_eq!(numbers(&lab, &line).await, [(OTHER.to_owned(), 1)]);
    assert_eq!(numbers(&lab, &line).await, [(OTHER.to_owned(), 1)]);
    let waits = lab.router.counters().throttle_waits("1001", ThrottledBy::NumberRate);
    assert_eq!(waits, 1, "counted once");
}

#[tokio::test]
async fn a_number_that_is_held_hides_no_other() {
    let (lab, line) = lab().await;
    let error = CarrierError { code: "40305".to_owned(), title: String::new(), detail: None };
    let held = Outcome::Config { scope: ConfigScope::Number, until: ConfigUntil::Probe, error };
    line.state().held.report(SENDER, None, &held, storage::now());
    assert_eq!(numbers(&lab, &line).await, [(OTHER.to_owned(), 1)]);
}

/// However many wait, what is read are seeks.
#[tokio::test]
async fn what_may_go_is_found_by_an_index() {
    let (lab, _) = lab().await;
    let plan = lab
        .write(|tx| {
            let sql = "EXPLAIN QUERY PLAN SELECT f.id FROM carrier_jobs f WHERE f.app_id = '1001' \
                 AND f.own_number = '+13125550100' AND f.state = 'waiting' AND f.not_before <= 5 \
                 AND f.locked_by IS NULL ORDER BY f.not_before, f.id LIMIT 1";
            tx.query(sql, &[])?.iter().map(|row| row.text(3)).collect::<Result<Vec<_>, _>>()
        })
        .await;
    assert_eq!(plan.len(), 1, "{plan:?}");
    assert!(plan[0].contains("carrier_jobs_number (app_id=? AND own_number=? AND not_before<?)"), "{plan:?}");
}
