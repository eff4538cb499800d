//! Nothing lost, nothing doubled, nothing out of order, whatever happens at the same time.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::http::{HttpConnection, Request};
use crate::harness::names::unique;
use crate::harness::raw_ws::RawWs;
use crate::harness::server::{Config, TestServer, UNLIMITED};
use crate::harness::shared::{SharedServer, shared};
use crate::harness::sign::App;
use crate::harness::ws::{Event, WsClient};

/// Several shards, so that publishers, subscribers and channels meet on different threads.
static SHARDED: SharedServer = SharedServer::new(|| Config::new().server("shards = 3").tables(UNLIMITED));

fn trigger(server: &TestServer, channel: &str, data: &str) -> Request {
    Request::trigger(server.app(), &json!({"name": "n", "channel": channel, "data": data}))
}

fn number(event: &Event) -> u64 {
    assert_eq!(event.event, "n", "{}", event.text);
    event.data().parse().expect("a number")
}

/// Runs futures as tasks of their own and fails with the first that fails.
async fn all<T: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}

/// One publish and one subscription at the same time, again and again: the subscriber sees the value
/// before and this one, or this one alone; either way the last one exactly once.
#[tokio::test]
async fn a_publish_during_a_subscription_is_seen_exactly_once() {
    const ROUNDS: u64 = 10_000;
    const WORKERS: u64 = 4;
    let server = SHARDED.get();
    let workers =
        (0..WORKERS).map(|worker| race(server.public, server.app().clone(), worker, ROUNDS / WORKERS));
    let races: u64 = all(workers).await.into_iter().sum();
    assert!(races > 0, "a publish never came between, so nothing was tested");
}

/// Returns how often the value before was seen first.
async fn race(addr: SocketAddr, app: App, worker: u64, rounds: u64) -> u64 {
    let channel = unique("cache-race-");
    let publish = |value: u64| {
        Request::trigger(&app, &json!({"name": "n", "channel": channel, "data": value.to_string()})).bytes()
    };
    let mut publisher = HttpConnection::connect(addr).await;
    publisher.write(publish(0)).await;
    publisher.response().await.expect_ok("{}");
    // Others in the channel, so that its events are on their way to all shards when somebody comes.
    let mut residents = Vec::new();
    for _ in 0..3 {
        let mut resident = connect(addr, &app).await;
        resident.subscribe(&channel).await;
        residents.push(resident);
    }
    let mut subscriber = connect(addr, &app).await;
    let mut came_before = 0;
    for round in 1..=rounds {
        // Either side gets a head start in half of the rounds.
        let request = publish(round);
        if (round + worker).is_multiple_of(2) {
            publisher.write(request).await;
            subscriber.send_subscribe(&channel).await;
        } else {
            subscriber.send_subscribe(&channel).await;
            publisher.write(request).await;
        }
        subscriber.expect_subscribed(&channel).await;
        let mut seen = number(&subscriber.next().await);
        if seen + 1 == round {
            came_before += 1;
            seen = number(&subscriber.next().await);
        }
        assert_eq!(seen, round);
        publisher.response().await.expect_ok("{}");
        subscriber.unsubscribe(&channel).await;
        // Also waits until it has left, or it would get the next one by its old subscription.
        subscriber.expect_nothing().await;
    }
    for resident in &mut residents {
        for expected in 0..=rounds {
            assert_eq!(number(&resident.next().await), expected);
        }
        resident.expect_nothing().await;
    }
    came_before
}

async fn connect(addr: SocketAddr, app: &App) -> WsClient {
    WsClient::open(addr, app, &format!("/app/{}?protocol=7", app.key), &[]).await.established().await
}

/// Every late subscriber of a cache channel sees an unbroken rest of what an early one sees, however
/// many publishers there are.
#[tokio::test]
async fn newcomers_see_an_unbroken_rest_of_the_same_sequence() {
    let server = SHARDED.get();
    for _ in 0..40 {
        let channel = unique("cache-");
        let mut early = WsClient::connect(&server).await;
        early.subscribe(&channel).await;
        early.expect("pusher:cache_miss").await;
        let publishers = (0..3_u64).map(|publisher| {
            let (addr, app, channel) = (server.public, server.app().clone(), channel.clone());
            async move {
                let mut connection = HttpConnection::connect(addr).await;
                for n in 0..10_u64 {
                    let body =
                        json!({"name": "n", "channel": channel, "data": (publisher * 100 + n).to_string()});
                    Request::trigger(&app, &body).send_over(&mut connection).await.expect_ok("{}");
                }
            }
        });
        let newcomers = (0..3).map(|_| {
            let (addr, app, channel) = (server.public, server.app().clone(), channel.clone());
            async move {
                let mut client = connect(addr, &app).await;
                client.subscribe(&channel).await;
                client
            }
        });
        let (_, late) = tokio::join!(all(publishers), all(newcomers));
        let whole: Vec<u64> = early.published_so_far(&server).await.iter().map(number).collect();
        assert_eq!(whole.len(), 30);
        for publisher in 0..3 {
            let own: Vec<u64> = whole.iter().filter(|n| *n / 100 == publisher).map(|n| n % 100).collect();
            assert_eq!(own, (0..10).collect::<Vec<_>>(), "each publisher's order is kept");
        }
        for mut client in late {
            let mut events = client.published_so_far(&server).await;
            if events.first().is_some_and(|event| event.event == "pusher:cache_miss") {
                events.remove(0);
                assert_eq!(events.len(), 30, "who finds nothing sees everything");
            }
            let rest: Vec<u64> = events.iter().map(number).collect();
            assert!(!rest.is_empty() && whole.ends_with(&rest), "{rest:?} is no rest of {whole:?}");
        }
    }
}

/// The same for a channel that remembers nothing, under a stream of events: first the success, then
/// numbers without a gap, and nothing after leaving.
/// Publishes `from`, `from` + 1, … until it is aborted.
fn stream_numbers(mut connection: HttpConnection, app: &App, channel: &str, from: u64) -> JoinHandle<()> {
    let (app, channel) = (app.clone(), channel.to_owned());
    tokio::spawn(async move {
        for n in from.. {
            let body = json!({"name": "n", "channel": channel, "data": n.to_string()});
            Request::trigger(&app, &body).send_over(&mut connection).await.expect_ok("{}");
        }
    })
}

#[tokio::test]
async fn no_event_precedes_the_success_and_none_follows_leaving() {
    let server = SHARDED.get();
    let channel = unique("news-");
    let connection = HttpConnection::connect(server.public).await;
    let stream = stream_numbers(connection, server.app(), &channel, 0);
    let visitors = (0..3).map(|_| {
        let (addr, app, channel) = (server.public, server.app().clone(), channel.clone());
        async move {
            let mut client = connect(addr, &app).await;
            for round in 0..100 {
                client.subscribe(&channel).await;
                let mut numbers = Vec::new();
                for _ in 0..round % 5 {
                    numbers.push(number(&client.next().await));
                }
                client.unsubscribe(&channel).await;
                // Up to the answer there may be events that were on their way; behind it, none.
                numbers.extend(client.drain().await.iter().map(number));
                assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
            }
        }
    });
    all(visitors).await;
    assert!(!stream.is_finished(), "the publisher failed");
    stream.abort();
}

/// With so many subscribers a publication goes out in several steps, between which others are served.
/// Whoever comes or goes between two steps still sees each event once and none after leaving.
#[tokio::test]
async fn order_holds_while_an_event_goes_out_to_many() {
    let server = Config::new().server("shards = 1").start();
    let channel = unique("cache-");
    let mut residents = Vec::new();
    for _ in 0..400 {
        let mut resident = RawWs::connect(server.public, server.app()).await;
        let data = json!({"channel": channel});
        resident.write_text(&json!({"event": "pusher:subscribe", "data": data}).to_string()).await;
        residents.push(resident);
    }
    for resident in &mut residents {
        resident.established().await;
        assert!(resident.expect_text().await.contains("subscription_succeeded"));
        assert!(resident.expect_text().await.contains("cache_miss"));
    }
    let mut connection = HttpConnection::connect(server.public).await;
    trigger(&server, &channel, "0").send_over(&mut connection).await.expect_ok("{}");
    let stream = stream_numbers(connection, server.app(), &channel, 1);
    let visitors = (0..3).map(|_| {
        let (addr, app, channel) = (server.public, server.app().clone(), channel.clone());
        async move {
            let mut client = connect(addr, &app).await;
            let mut last = 0;
            for round in 0..100 {
                client.subscribe(&channel).await;
                let mut numbers = vec![number(&client.next().await)];
                for _ in 0..round % 3 {
                    numbers.push(number(&client.next().await));
                }
                client.unsubscribe(&channel).await;
                numbers.extend(client.drain().await.iter().map(number));
                assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
                assert!(numbers[0] >= last, "{numbers:?} after {last}");
                last = numbers[numbers.len() - 1];
            }
        }
    });
    all(visitors).await;
    assert!(!stream.is_finished(), "the publisher failed");
    stream.abort();
    // None of them was given up for not reading.
    for resident in residents.iter_mut().step_by(40) {
        for expected in 0..10 {
            assert_eq!(number(&Event::read(&resident.expect_text().await)), expected);
        }
    }
}

#[tokio::test]
async fn a_thousand_events_reach_every_subscriber_in_order() {
    let server = SHARDED.get();
    let channel = unique("private-");
    let mut subscribers = Vec::new();
    for _ in 0..6 {
        let mut client = WsClient::connect(&server).await;
        client.subscribe(&channel).await;
        subscribers.push(client);
    }
    let mut connection = HttpConnection::connect(server.public).await;
    for n in 0..1000_u64 {
        trigger(&server, &channel, &n.to_string()).send_over(&mut connection).await.expect_ok("{}");
    }
    let expected: Vec<u64> = (0..1000).collect();
    for subscriber in &mut subscribers {
        let received: Vec<u64> = subscriber.published_so_far(&server).await.iter().map(number).collect();
        assert_eq!(received, expected);
    }
}

/// A publish that was answered precedes one that starts later, also over other connections.
#[tokio::test]
async fn order_is_kept_over_changing_connections() {
    let server = SHARDED.get();
    let channel = unique("news-");
    let mut subscriber = WsClient::connect(&server).await;
    subscriber.subscribe(&channel).await;
    for n in 0..200_u64 {
        trigger(&server, &channel, &n.to_string()).send(server.public).await.expect_ok("{}");
    }
    let received: Vec<u64> = subscriber.published_so_far(&server).await.iter().map(number).collect();
    assert_eq!(received, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn all_subscribers_see_the_publications_of_a_channel_in_one_order() {
    let server = SHARDED.get();
    let channel = unique("news-");
    let mut subscribers = Vec::new();
    for _ in 0..6 {
        let mut client = WsClient::connect(&server).await;
        client.subscribe(&channel).await;
        subscribers.push(client);
    }
    all((0..4_u64).map(|publisher| {
        let (addr, app, channel) = (server.public, server.app().clone(), channel.clone());
        async move {
            let mut connection = HttpConnection::connect(addr).await;
            for n in 0..200_u64 {
                let body =
                    json!({"name": "n", "channel": channel, "data": (publisher * 1000 + n).to_string()});
                Request::trigger(&app, &body).send_over(&mut connection).await.expect_ok("{}");
            }
        }
    }))
    .await;
    let mut orders = Vec::new();
    for subscriber in &mut subscribers {
        orders.push(subscriber.published_so_far(&server).await.iter().map(number).collect::<Vec<_>>());
    }
    assert_eq!(orders[0].len(), 800);
    assert!(orders.iter().all(|order| *order == orders[0]));
}

#[tokio::test]
async fn channels_of_one_connection_share_its_order() {
    let server = shared();
    let channels = [unique("news-"), unique("private-"), unique("cache-")];
    let mut client = WsClient::connect(&server).await;
    for channel in &channels {
        client.subscribe(channel).await;
    }
    client.drain().await;
    let mut connection = HttpConnection::connect(server.public).await;
    for n in 0..90 {
        trigger(&server, &channels[n % 3], &n.to_string()).send_over(&mut connection).await.expect_ok("{}");
    }
    let received: Vec<u64> = client.published_so_far(&server).await.iter().map(number).collect();
    assert_eq!(received, (0..90).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_channel_named_twice_gets_the_event_once() {
    let server = shared();
    let (first, second) = (unique("news-"), unique("news-"));
    let mut client = WsClient::connect(&server).await;
    client.subscribe(&first).await;
    client.subscribe(&second).await;
    let body = json!({"name": "n", "channels": [first, second, first], "data": "1"});
    Request::trigger(server.app(), &body).send(server.public).await.expect_ok("{}");
    let mut channels: Vec<Value> =
        client.published_so_far(&server).await.iter().map(|event| json!(event.channel())).collect();
    channels.sort_by_key(Value::to_string);
    let mut expected = vec![json!(first), json!(second)];
    expected.sort_by_key(Value::to_string);
    assert_eq!(channels, expected);
}
