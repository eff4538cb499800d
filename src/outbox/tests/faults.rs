//! Faults of the program and of what it stores.

use super::*;

#[tokio::test]
async fn a_courier_that_panics_starts_again_and_delays_no_other() {
    let world = World::new();
    let (mut a, mut b) = (world.point("a", |_| OK).await, world.point("b", |_| OK).await);
    world.portal.panics.lock().expect("not poisoned").insert("a".to_owned(), 4);
    world.post("a", "lane", [json!(1)]).await;
    world.post("b", "lane", [json!(2)]).await;
    assert_eq!(b.next().await.data(), json!(2));
    assert_eq!(a.next().await.data(), json!(1), "posted by the fifth");
    world.until_done("a").await;
    assert_eq!(world.portal.panics_still("a"), 0);
}

#[tokio::test]
async fn an_answer_that_can_not_be_stored_is_left_out_and_its_lane_goes_on() {
    let world = World::new();
    let mut a = world.point("a", |_| Reply::Status("200 OK", "poison")).await;
    world.portal.refuses_answers.store(true, std::sync::atomic::Ordering::Relaxed);
    let about = Some(About { message: Some(1), conversation: None });
    world.post_at("a", "lane", json!(1), about, storage::now()).await;
    world.post("a", "lane", [json!(2)]).await;
    assert_eq!([a.next().await.data(), a.next().await.data()], [json!(1), json!(2)], "each once");
    world.until_done("a").await;
    assert!(a.rest().is_empty());
}
