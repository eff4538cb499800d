//! One server owns an SQLite file, and knows when it lost it: nothing is acknowledged that the next start does
//! not find.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::http::{Response, get_until};
use crate::harness::messaging::{ANN, BOB, Router, text};
use crate::harness::server::{Finished, binary, run};

/// Runs a command with the configuration of a server, perhaps with another name of its data folder.
fn beside(router: &Router, arguments: &[&str], data: Option<&Path>) -> Finished {
    let folder = router.server().folder();
    let mut command = binary();
    command.args(arguments).arg("--config").arg(folder.join("switchboard.toml")).current_dir(&folder);
    command.env("SWITCHBOARD__SERVER__BIND", "127.0.0.1:0");
    if let Some(data) = data {
        command.env("SWITCHBOARD__SERVER__DATA_DIR", data);
    }
    run(command, "")
}

fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What is in a database: the texts of all messages.
fn texts(file: &Path) -> Vec<String> {
    let store = Connection::open(file).expect("a database");
    let mut query = store.prepare("SELECT DISTINCT body FROM messages ORDER BY body").expect("a query");
    let rows = query.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("texts")
}

/// A server with one message whose files somebody meddles with; the answers to the sends that follow are refusals,
/// and so is what routes know of its state.
async fn meddled(meddle: impl FnOnce(&Path)) -> Router {
    let router = Router::start().await;
    router.send(1, BOB, "before").await;
    meddle(&router.database_file());
    let message = json!({"user_id": 1, "to": BOB, "text": "after"});
    for _ in 0..20 {
        router.post("/messages", &message).await.refused(503, "storage_unavailable");
    }
    router.logged("the message store refuses all writes until the next start", 1);
    get_until(router.server().admin, "/ready/router", |answer| answer.status == 503).await;
    router.try_get("/conversations", &[("user_id", "2")]).await.refused(503, "storage_unavailable");
    router.server().expect_alive();
    router
}

#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused_with_the_pid_of_the_first() {
    let router = Router::start().await;
    let elsewhere = TempDir::new().expect("a folder");
    let link = elsewhere.path().join("data");
    symlink(router.database_file().parent().expect("a folder"), &link).expect("linked");
    for data in [None, Some(link.as_path())] {
        let refused = beside(&router, &["serve"], data);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        let pid = format!("(process {}", router.server().pid);
        assert!(refused.stderr.contains("another server uses the database file"), "{}", refused.stderr);
        assert!(refused.stderr.contains(&pid), "{}", refused.stderr);
        assert!(refused.stderr.contains("server.data_dir"), "{}", refused.stderr);
    }
    assert_eq!(router.send(1, BOB, "undisturbed").await["internal"], true);
}

#[tokio::test]
async fn commands_work_beside_the_server() {
    let router = Router::start().await;
    let checked = beside(&router, &["check", "--json"], None);
    let answer: Value = serde_json::from_str(&checked.stdout).expect("JSON");
    let store =
        answer["checks"].as_array().expect("a list").iter().find(|check| check["check"] == "store.url");
    assert_eq!(store.expect("a finding")["status"], "ok", "{answer}");
    let numbers = router.server().folder().join("numbers.csv");
    fs::write(&numbers, "number,user_id\n+13125550142,3\n").expect("written");
    let imported = beside(&router, &["numbers", "import", numbers.to_str().expect("a plain name")], None);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    // The import had the log copied and begun anew; the server takes no harm from that.
    for round in 0..5 {
        router.send(3, ANN, &format!("from the new number {round}")).await;
        let listed = beside(&router, &["numbers", "list", "--json"], None);
        assert!(listed.stdout.contains("+13125550142"), "{}", listed.stdout);
    }
    assert!(!router.server().output().contains("refuses all writes"), "{}", router.server().output());
}

#[tokio::test]
async fn what_vacuum_does_beside_the_server_is_no_loss() {
    let router = Router::start().await;
    for n in 0..50 {
        router.send(1, BOB, &format!("{n} {}", "long ".repeat(200))).await;
    }
    let store = Connection::open(router.database_file()).expect("a database");
    store.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("copied");
    router.send(1, BOB, "more").await;
    store
        .execute_batch("CREATE TABLE big AS SELECT body AS a, body AS b, body AS c FROM messages")
        .expect("made");
    store.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); DROP TABLE big; VACUUM").expect("shortened");
    store.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("copied");
    drop(store);
    for n in 0..5 {
        // The files are looked at before each is acknowledged.
        router.send(1, BOB, &format!("{n} and on")).await;
    }
    assert!(!router.server().output().contains("refuses all writes"), "{}", router.server().output());
}

#[tokio::test]
async fn after_a_kill_the_next_server_owns_the_file_at_once() {
    let mut router = Router::start().await;
    for n in 0..3 {
        router.send(1, BOB, &format!("{n}")).await;
        router.revive();
    }
    assert_eq!(texts(&router.database_file()), ["0", "1", "2"]);
}

#[tokio::test]
async fn after_the_file_was_removed_nothing_is_acknowledged() {
    let router = meddled(|file| {
        for ending in ["", "-wal", "-shm"] {
            fs::remove_file(with_ending(file, ending)).expect("removed");
        }
    })
    .await;
    router.logged("switchboard.db was removed while the server had it open", 1);
    // As the log says, the files can be had back while the process lives.
    let output = router.server().output();
    let open = |what: &str| {
        let end = output.find(what).unwrap_or_else(|| panic!("no {what:?} in {output}"));
        let start = output[..end].rfind("/proc/").expect("a path");
        output[start..end].trim().to_owned()
    };
    let saved = TempDir::new().expect("a folder");
    let file = saved.path().join("saved.db");
    fs::copy(open("(the database)"), &file).expect("copied");
    fs::copy(open("(its -wal)"), with_ending(&file, "-wal")).expect("copied");
    // What was refused may be there nevertheless.
    assert!(texts(&file).contains(&"before".to_owned()));
}

#[tokio::test]
async fn after_the_folder_was_renamed_nothing_is_acknowledged() {
    let mut router = meddled(|file| {
        let folder = file.parent().expect("a folder");
        fs::rename(folder, with_ending(folder, ".old")).expect("renamed");
    })
    .await;
    // What was put back is taken by the next start.
    let folder = router.database_file().parent().expect("a folder").to_owned();
    router.kill();
    fs::rename(with_ending(&folder, ".old"), &folder).expect("renamed");
    router.revive();
    router.send(2, ANN, "on we go").await;
    let texts = texts(&router.database_file());
    assert!(["before", "on we go"].iter().all(|text| texts.contains(&(*text).to_owned())), "{texts:?}");
}

#[tokio::test]
async fn after_the_file_was_replaced_nothing_is_acknowledged() {
    let router = meddled(|file| {
        let copy = with_ending(file, ".backup");
        fs::copy(file, &copy).expect("copied");
        fs::rename(&copy, file).expect("replaced");
    })
    .await;
    router.logged("switchboard.db was replaced by another file", 1);
}

#[tokio::test]
async fn after_the_log_was_removed_nothing_is_acknowledged() {
    let router = meddled(|file| fs::remove_file(with_ending(file, "-wal")).expect("removed")).await;
    router.logged("switchboard.db-wal was removed", 1);
}

#[tokio::test]
async fn after_the_file_was_truncated_nothing_is_acknowledged() {
    let truncate = |file: &Path| drop(fs::File::create(file).expect("truncated"));
    meddled(truncate).await;
    let router = meddled(|file| {
        let file = fs::File::options().write(true).open(file).expect("a file");
        file.set_len(8_192).expect("truncated");
    })
    .await;
    router.logged("switchboard.db was truncated", 1);
}

#[tokio::test]
async fn after_the_log_was_truncated_nothing_is_acknowledged() {
    for left in [0, 4_200] {
        let router = meddled(|file| {
            let log = fs::File::options().write(true).open(with_ending(file, "-wal")).expect("a log");
            log.set_len(left).expect("truncated");
        })
        .await;
        router.logged("switchboard.db-wal", 1);
    }
}

#[tokio::test]
async fn after_a_backup_was_copied_over_the_file_nothing_is_acknowledged() {
    let mut router = Router::start().await;
    router.send(1, BOB, "early").await;
    router.kill();
    let file = router.database_file();
    let backup = with_ending(&file, ".backup");
    fs::copy(&file, &backup).expect("copied");
    router.revive();
    // As `cp backup database` does: the same file with other bytes.
    fs::copy(&backup, &file).expect("copied");
    let message = json!({"user_id": 1, "to": BOB, "text": "after"});
    router.post("/messages", &message).await.refused(503, "storage_unavailable");
    // How much of the copy there was when the server looked is a matter of chance.
    router.logged("while the server had it open", 1);
}

#[tokio::test]
async fn a_loss_is_noticed_while_nothing_is_sent() {
    let router = Router::start().await;
    fs::remove_file(router.database_file()).expect("removed");
    router.logged("the message store refuses all writes until the next start", 1);
    let degraded = |answer: &Response| answer.json()["status"] == "degraded";
    let degraded = get_until(router.server().public, "/ready", degraded).await.expect_status(200).json();
    assert_eq!(text(&degraded["parts"]["store"]), "unavailable", "{degraded}");
    // Publishing needs no store.
    router.server().publish("room", "news", "{}").await;
}
