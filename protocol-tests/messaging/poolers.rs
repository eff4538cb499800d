//! Poolers between us and the databases, whose connections others use too.

use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection, Row};

use super::own::includes;
use super::portal_database::directory;
use crate::harness::databases::poolers::{Pooler, pgbouncer, pgpool};
use crate::harness::databases::{Database, mariadb, postgres};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, Router, Setup};

/// A connection of the portal's own, by way of the pooler.
async fn portals_own(database: &Database) -> PgConnection {
    let options: PgConnectOptions = database.url.parse().expect("a URL");
    options.extra_float_digits(None).connect().await.expect("a connection")
}

async fn setting(connection: &mut PgConnection, name: &str) -> String {
    let sql = AssertSqlSafe(format!("SHOW {name}"));
    connection.fetch_one(sqlx::raw_sql(sql)).await.expect("a setting").get(0)
}

/// The portal's tables by way of a pooler with one process of PostgreSQL for all, so that each sees what
/// another left.
async fn pooled_directory() -> (Setup, Pooler) {
    let database = postgres().await;
    let pooler = pgbouncer(&database, "transaction", "default_pool_size = 1");
    let setup = directory(&database).await.routing("directory.url", pooler.database.url.clone());
    (setup, pooler)
}

#[tokio::test]
async fn the_portals_connections_stay_as_they_are_behind_a_pooler() {
    let (setup, pooler) = pooled_directory().await;
    let mut portal = portals_own(&pooler.database).await;
    let before = (
        setting(&mut portal, "default_transaction_read_only").await,
        setting(&mut portal, "statement_timeout").await,
    );
    let (status, detail) = setup.check("routing.directory");
    assert_eq!(status, "ok", "{detail}");
    let router = setup.start().await;
    assert_eq!(router.send(1, BOB, "inside").await["internal"], true);
    assert_eq!(router.send(1, OUTSIDE, "outside").await["internal"], false);
    let after = (
        setting(&mut portal, "default_transaction_read_only").await,
        setting(&mut portal, "statement_timeout").await,
    );
    assert_eq!(after, before);
    let written = portal.execute("INSERT INTO phone_numbers VALUES (3, '+13125550103', 'assigned', 1)").await;
    assert_eq!(written.expect("written").rows_affected(), 1);
    assert_eq!(router.send(1, "+13125550103", "new").await["internal"], true);
}

/// Names of statements are numbers of each connection, and belong to the process that several share.
#[tokio::test]
async fn a_portals_statements_and_ours_are_apart_behind_a_pooler() {
    let (setup, pooler) = pooled_directory().await;
    let router = setup.start().await;
    let mut portal = portals_own(&pooler.database).await;
    for number in 0..20 {
        // They take a text as our look-ups do, and know nobody.
        let sql = AssertSqlSafe(format!(
            "SELECT 'nobody{number}' AS user_id, $1 AS number, 'assigned' AS status WHERE $1 = 'never'"
        ));
        let found = sqlx::query(sql).bind("+1").fetch_optional(&mut portal).await.expect("prepared");
        assert!(found.is_none());
        assert_eq!(router.send(1, BOB, "Hello").await["internal"], true, "after {number} statements");
    }
    assert_eq!(router.carrier.sends().await.len(), 0);
}

#[tokio::test]
async fn the_store_works_through_pgbouncer_in_session_mode() {
    the_store_works(pgbouncer(&postgres().await, "session", "").database, "PostgreSQL can be reached").await;
}

#[tokio::test]
async fn the_store_works_through_pgbouncer_in_transaction_mode() {
    let pooler = pgbouncer(&postgres().await, "transaction", "");
    the_store_works(pooler.database, "through a pooler").await;
}

async fn the_store_works(database: Database, found: &str) {
    let setup = Router::setup().store(&database.url);
    let (status, detail) = setup.check("store.url");
    assert!(status == "ok" && detail.contains(found), "{status}: {detail}");
    // Others see nothing of our settings.
    let mut other = portals_own(&database).await;
    let router = std::sync::Arc::new(setup.start().await);
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..40 {
        let router = std::sync::Arc::clone(&router);
        let (user, to) = if n % 2 == 0 { (1, BOB) } else { (2, ANN) };
        sends.spawn(async move { router.send(user, to, &n.to_string()).await });
        assert_eq!(setting(&mut other, "statement_timeout").await, "0");
    }
    let sent = sends.join_all().await;
    assert_eq!(sent.len(), 40);
    let conversation = &router.conversations(1).await[0];
    assert_eq!(router.messages(1, &conversation["id"]).await.len(), 40);
    assert_eq!(router.send(1, OUTSIDE, "outside").await["internal"], false);
}

#[tokio::test]
async fn a_parameter_that_a_pooler_refuses_is_named_and_no_outage() {
    let pooler = pgbouncer(&postgres().await, "transaction", "");
    let refused = Database { url: format!("{}?options=-c%20search_path%3Dpublic", pooler.database.url) };
    let setup = Router::setup().store(&refused.url);
    let (status, detail) = setup.check("store.url");
    assert!(status == "failed" && detail.contains("ignore_startup_parameters"), "{status}: {detail}");

    let setup = directory(&postgres().await).await.routing("directory.url", refused.url);
    let (status, detail) = setup.check("routing.directory");
    assert!(status == "failed" && detail.contains("ignore_startup_parameters"), "{status}: {detail}");
    let ended = setup.refusal();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("routing.directory.url"), "{}", ended.stderr);
}

/// pgpool asks the standby what it may, and the standby is late.
#[tokio::test]
async fn what_was_sent_is_there_though_a_standby_lags() {
    let pooler = pgpool("20s").await;
    let router = Router::setup().store(&pooler.database.url).start().await;
    for n in 0..5 {
        let sent = router.send(1, BOB, &n.to_string()).await;
        includes(&sent["message"], &json!({"status": "delivered", "text": n.to_string()}));
        let id = &sent["message"]["id"];
        includes(&router.message(1, id).await, &json!({"text": n.to_string()}));
    }
    assert_eq!(router.send(1, OUTSIDE, "outside").await["internal"], false);
    assert_eq!(router.conversations(2).await.len(), 1);
}

/// Why MariaDB takes no login is said in its own words.
#[tokio::test]
async fn a_refused_login_is_named() {
    let database = mariadb().await;
    let setup = directory(&database).await;
    let name = database.url.rsplit('/').next().expect("a name");
    let prepare = format!(
        "CREATE USER IF NOT EXISTS locked IDENTIFIED BY 'hunter2' ACCOUNT LOCK; \
         CREATE USER IF NOT EXISTS expired IDENTIFIED BY 'hunter2' PASSWORD EXPIRE; \
         CREATE USER IF NOT EXISTS elsewhere@'192.0.2.1' IDENTIFIED BY 'hunter2'; \
         GRANT ALL ON {name}.* TO locked, expired"
    );
    database.run(&prepare).await;
    for (user, words) in [
        ("locked", "locked"),
        ("expired", "SET PASSWORD"),
        ("elsewhere", "Access denied"),
        ("nobody", "Access denied"),
    ] {
        let url = database.url.replace("root@", &format!("{user}:hunter2@"));
        let (status, detail) = setup.clone().routing("directory.url", url).check("routing.directory");
        assert!(status == "failed" && detail.contains(words), "{user}: {status}: {detail}");
        assert!(!detail.contains("hunter2"), "{detail}");
    }
}
