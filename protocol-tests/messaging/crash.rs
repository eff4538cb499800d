//! The crash test: the server is killed at random moments while a portal sends through a carrier that
//! misbehaves at random. In the end nothing may be missing and nothing may be there twice.
//!
//! The portal does what portals do: a request without an answer is repeated, with the same idempotency
//! key, until there is one. Then each of its messages was acknowledged, and these must hold:
//!
//! - The carrier accepted each external message exactly once, each lane in the order of its records.
//! - All states are final, and the ones the faults lead to.
//! - Each internal message is there exactly once for the sender and once for the recipient.
//! - A client that reconnects and subscribes again after each kill saw each broadcast at least once; of
//!   changes of state, all that lead from the first to the last. Only what a new server does before this
//!   client has subscribed is told to nobody and can't be asked for. What the old one did is: that it was
//!   killed before its events were out is no excuse.
//! - Nothing waits any more: no call, no webhook, no broadcast.
//!
//! `SWITCHBOARD_CRASH_SEED` repeats a run (the same messages, faults and moments, as far as a machine's
//! timing can be repeated), `SWITCHBOARD_CRASH_SENDS` makes it longer. A failure's last lines say what was
//! found and name the seed.

mod observer;
mod plan;
mod portal;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;

use crate::harness::databases::postgres;
use crate::harness::messaging::{RECEIVED, Router, SENT, Setup, plain, text};
use crate::harness::server::binary;
use observer::Observer;
use plan::{End, Plan, Planned};
use portal::Portal;

/// Requests of the portal at the same time.
const SENDERS: usize = 8;
/// In which everything must come to rest after the last kill: a lease of a dead process, a pause of the
/// breaker, a few backoffs.
const REST: Duration = Duration::from_secs(90);
/// Findings that a failure lists.
const LISTED: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t20_kills_and_faults_lose_nothing_and_double_nothing() {
    crash(Router::setup()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t20_kills_and_faults_lose_nothing_and_double_nothing_on_postgresql() {
    let database = postgres().await;
    crash(Router::setup().store(&database.url)).await;
}

async fn crash(setup: Setup) {
    let seed = variable("SWITCHBOARD_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let sends = variable("SWITCHBOARD_CRASH_SENDS").unwrap_or(500);
    let _run = Run(format!("SWITCHBOARD_CRASH_SEED={seed} SWITCHBOARD_CRASH_SENDS={sends}"));
    let plan = Plan::new(seed, usize::try_from(sends).expect("small"));
    let mut router = impatient(setup).start().await;
    prepare(&router, &plan).await;
    let observer = Observer::start(&router, channels(&router, &plan).await).await;

    let portal = Portal::new(&router, observer.is_there());
    let mut senders = JoinSet::new();
    for first in 0..SENDERS {
        let portal = portal.clone();
        let messages: Vec<Planned> = plan.messages.iter().skip(first).step_by(SENDERS).cloned().collect();
        senders.spawn(async move { portal.send_all(messages).await });
    }
    // All ends of the plan, and more until the portal is through.
    let mut ends = plan.ends.iter().cycle();
    let mut count = 0;
    while count < plan.ends.len() || !senders.is_empty() {
        let mut end = ends.next().expect("endless").clone();
        if count >= plan.ends.len() {
            // These are to let the portal come through, on a slow machine as well: each leaves it more time.
            end.in_order = false;
            let more = u32::try_from(count - plan.ends.len()).expect("few");
            end.after = end.after.max(Duration::from_millis(500) + Duration::from_millis(50) * more);
        }
        end_and_restart(&mut router, &observer, &end).await;
        count += 1;
        while let Some(done) = senders.try_join_next() {
            done.expect("the portal's requests are taken");
        }
    }
    let acknowledged = portal.acknowledged();
    assert_eq!(acknowledged.len(), plan.messages.len());
    eprintln!("acknowledged after {:?} and {count} ends", portal.started.elapsed());

    rest(&router).await;
    let records = check_states(&router, &plan, &acknowledged).await;
    check_carrier(&router, &plan, &acknowledged).await;
    check_pairs(&router, &plan).await;
    check_broadcasts(&plan, &records, &observer).await;
    eprintln!("at rest after {:?}", portal.started.elapsed());
}

/// Names the run behind whatever it failed with: that is what is left of a long log.
struct Run(String);

impl Drop for Run {
    fn drop(&mut self) {
        let end = if std::thread::panicking() { "failed" } else { "passed" };
        eprintln!("{end}: {}", self.0);
    }
}

/// Fails if anything was found, with what it was in the first line and, shorter, in the last.
fn nothing(what: &str, found: &[String]) {
    let Some(first) = found.first() else { return };
    let list = found.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join("\n");
    let count = found.len();
    let short: String = first.chars().take(120).collect();
    panic!("{count} {what}:\n{list}\n{count} {what}, the first one: {short}");
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Calls that hang are given up soon; nothing but the faults slows the sending down.
fn impatient(setup: Setup) -> Setup {
    setup
        .server("drain.window = \"0s\"\n")
        // One client hears everybody's events, and after a few short lives of the server all at once.
        .server("backlog_limit = \"256MB\"\nbacklog_max_age = \"60s\"\n")
        .routing("carrier.telnyx.timeout", "1s")
        .routing("send.wait", "300ms")
        .routing("send.user_rate", 0)
        .routing("send.app_rate", 0)
        .routing("carrier.telnyx.concurrency", 64)
        // The carrier's patience covers a start on a loaded machine.
        .carrier(&["--quiet", "--webhook-attempts", "8", "--webhook-backoff-ms", "250"])
}

async fn prepare(router: &Router, plan: &Plan) {
    for (user, number) in plan.users() {
        router.assign(&number, user).await;
    }
    for message in &plan.messages {
        for fault in &message.faults {
            router.carrier.fault(fault, 1, json!({"text": message.text})).await;
        }
    }
}

/// All channels that the messages are told on.
async fn channels(router: &Router, plan: &Plan) -> Vec<String> {
    let mut channels: Vec<String> = plan.users().map(|(user, _)| format!("user.{user}")).collect();
    let threads: HashSet<_> =
        plan.messages.iter().map(|message| (message.user, message.to.clone())).collect();
    for (user, to) in threads {
        let answer = router.ok("/conversations", json!({"user_id": user, "to": to})).await;
        channels.push(format!("messenger.{}", plain(&answer["conversation"]["id"])));
    }
    channels
}

async fn end_and_restart(router: &mut Router, observer: &Observer, end: &End) {
    // The moment is what is random here: nothing marks it.
    tokio::time::sleep(end.after).await;
    if end.in_order {
        router.server().signal(Signal::TERM);
        router.server().exit_status(Duration::from_secs(30)).await;
    }
    let home = router.server().folder();
    tokio::task::block_in_place(|| {
        router.kill();
        for after in &end.starts_cut_off {
            let mut command = binary();
            command.args(["serve", "--json", "--config"]).arg(home.join("switchboard.toml"));
            command.current_dir(&home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            observer.server_starts();
            let mut child = command.spawn().expect("the binary starts");
            std::thread::sleep(*after);
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
        observer.server_starts();
        router.revive();
    });
}

/// Waits until nothing waits any more.
async fn rest(router: &Router) {
    let start = Instant::now();
    loop {
        let status = router.get("/status", &[]).await;
        let depths = [&status["carrier"]["waiting"], &status["inbox"], &status["broadcasts"]];
        if depths.iter().all(|depth| depth["count"] == 0) {
            let stats = router.carrier.stats().await;
            if stats["pending_jobs"] == 0 && !redeliver(router).await {
                return;
            }
        }
        assert!(start.elapsed() < REST, "no rest: {status}\n{}", router.carrier.stats().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Has the carrier send again the webhooks it gave up, if there are any: that its patience ends while the
/// server keeps being killed is not what is tested here.
async fn redeliver(router: &Router) -> bool {
    let mut events = router.carrier.events("").await;
    events.retain(|event| event["state"] == "given_up");
    for event in &events {
        router.carrier.redeliver(&text(&event["id"]), 1).await;
    }
    !events.is_empty()
}

/// All states are what the faults lead to; returns the records by their text.
async fn check_states(
    router: &Router,
    plan: &Plan,
    acknowledged: &HashMap<String, Value>,
) -> HashMap<String, Value> {
    let mut wrong = Vec::new();
    let mut records = HashMap::new();
    for message in &plan.messages {
        let record = router.message(message.user, &acknowledged[&message.text]).await;
        if record["status"] != message.ends {
            wrong.push(format!(
                "{} instead of {} with {:?}: {record}",
                record["status"], message.ends, message.faults
            ));
        }
        records.insert(message.text.clone(), record);
    }
    nothing("wrong states", &wrong);
    records
}

/// The carrier accepted each external message once, a lane's in their order, and nothing else.
async fn check_carrier(router: &Router, plan: &Plan, acknowledged: &HashMap<String, Value>) {
    let external = plan.messages.iter().filter(|message| !message.is_internal());
    let mut expected: BTreeMap<(String, String), Vec<(u64, String)>> = BTreeMap::new();
    for message in external {
        let id = acknowledged[&message.text].as_u64().expect("a number");
        let lane = (message.from(), message.to.clone());
        expected.entry(lane).or_default().push((id, message.text.clone()));
    }
    let mut accepted: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for message in router.carrier.messages().await {
        let lane = (text(&message["from"]["phone_number"]), text(&message["to"][0]["phone_number"]));
        accepted.entry(lane).or_default().push(text(&message["text"]));
    }
    for (lane, messages) in &mut expected {
        messages.sort();
        let texts: Vec<&String> = messages.iter().map(|(_, text)| text).collect();
        let got: Vec<&String> = accepted.get(lane).into_iter().flatten().collect();
        assert_eq!(got, texts, "{lane:?}");
    }
    assert_eq!(accepted.len(), expected.len(), "lanes nobody sent in");
    router.carrier.sent_once(expected.values().map(Vec::len).sum()).await;
}

/// Both records of each internal message are there once, and no others.
async fn check_pairs(router: &Router, plan: &Plan) {
    let mut expected: Vec<(u64, &str, String)> = Vec::new();
    for message in plan.messages.iter().filter(|message| message.is_internal()) {
        expected.push((message.user, "OUTBOUND", message.text.clone()));
        expected.push((plan.user_of(&message.to), "INBOUND", message.text.clone()));
    }
    let mut found = Vec::new();
    for (user, _) in plan.users() {
        for conversation in router.conversations(user).await {
            if conversation["is_internal"] != true {
                continue;
            }
            for message in all_messages(router, user, &conversation["id"]).await {
                let direction = if message["direction"] == "INBOUND" { "INBOUND" } else { "OUTBOUND" };
                found.push((user, direction, text(&message["text"])));
            }
        }
    }
    expected.sort();
    found.sort();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
}

async fn all_messages(router: &Router, user: u64, conversation: &Value) -> Vec<Value> {
    let (user, path) = (user.to_string(), format!("/conversations/{}/messages", plain(conversation)));
    let mut all = Vec::new();
    let mut before: Option<String> = None;
    loop {
        let mut params = vec![("user_id", user.as_str()), ("limit", "200")];
        if let Some(before) = &before {
            params.push(("before", before));
        }
        let mut page = router.get(&path, &params).await;
        match page["messages"].take() {
            Value::Array(messages) => all.extend(messages),
            other => panic!("no list: {other}"),
        }
        if page["next"].is_null() {
            return all;
        }
        before = Some(plain(&page["next"]));
    }
}

/// Each broadcast was seen.
async fn check_broadcasts(plan: &Plan, records: &HashMap<String, Value>, observer: &Observer) {
    observer.fence().await;
    let seen = observer.seen();
    let (mut missing, mut excused, mut expected) = (Vec::new(), 0, 0);
    for message in &plan.messages {
        let record = &records[&message.text];
        let at = |field: &str| OffsetDateTime::parse(&text(&record[field]), &Rfc3339).expect("a time");
        let (made, changed) = (at("created_at"), at("updated_at"));
        let mut check = |is_seen: bool, what: &str, from, to| {
            expected += 1;
            match is_seen {
                true => {}
                false if observer.was_away(from, to) => excused += 1,
                false => missing.push(format!(
                    "{what} of {:?}; told: {}; {}; {record}",
                    message.text,
                    seen.told(&message.text),
                    observer.around(from)
                )),
            }
        };
        let has = |event: &str| seen.texts.contains(&(event.to_owned(), message.text.clone()));
        check(has(SENT), SENT, made, made);
        if message.is_internal() {
            check(has(RECEIVED), RECEIVED, made, made);
        } else {
            check(seen.has_step(&message.text, message.ends), "the last step", changed, changed);
            check(seen.has_all_steps(&message.text, message.ends), "a step", made, changed);
        }
    }
    eprintln!("{} events seen; of {expected} expected {excused} could not be", seen.count);
    nothing("unseen broadcasts", &missing);
    assert!(
        excused * 8 < expected,
        "{excused} of {expected} broadcasts could not be heard: too many to tell"
    );
}
