//! What both stores promise. PostgreSQL's part runs when `SWITCHBOARD_TEST_POSTGRES` is a
//! `postgres://` URL of an empty database; each test has a schema of its own there.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::config::Secret;

/// A store that can be opened more than once.
struct Place {
    folder: TempDir,
    settings: StoreSettings,
}

impl Place {
    fn sqlite() -> Option<Self> {
        let url = Secret::new("sqlite:deep/store.db".to_owned());
        Some(Self {
            folder: tempfile::tempdir().expect("a folder"),
            settings: StoreSettings { url, pool: 4, ..StoreSettings::default() },
        })
    }

    fn postgres() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let url = std::env::var("SWITCHBOARD_TEST_POSTGRES").ok()?;
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let join = if url.contains('?') { '&' } else { '?' };
        let place = Self {
            folder: tempfile::tempdir().expect("a folder"),
            settings: StoreSettings {
                url: Secret::new(format!("{url}{join}options[search_path]={name}&application_name={name}")),
                pool: 4,
                ..StoreSettings::default()
            },
        };
        place.postgres_command(format!("CREATE SCHEMA {name}"));
        Some(place)
    }

    fn open(&self) -> Result<Database, StorageError> {
        Database::open(&self.settings, self.folder.path())
    }

    /// A store with one table, `t (n, name, bytes)`.
    async fn with_table(&self) -> Database {
        let database = self.open().expect("a store");
        let bytes = if database.is_shared() {
            "CREATE TABLE t (n BIGINT PRIMARY KEY, name TEXT, bytes BYTEA)"
        } else {
            "CREATE TABLE t (n INTEGER PRIMARY KEY, name TEXT, bytes BLOB)"
        };
        let made = database.write(move |tx| tx.execute(bytes, &[])).await;
        made.expect("a table");
        database
    }

    /// Runs a command beside the store.
    fn beside(&self, command: &str) {
        match self.settings.url.expose().strip_prefix("sqlite:") {
            Some(path) => {
                let file = rusqlite::Connection::open(self.folder.path().join(path)).expect("a file");
                file.execute_batch(command).expect("done");
            }
            None => self.postgres_command(command.to_owned()),
        }
    }

    fn postgres_command(&self, command: String) {
        let url = self.settings.url.expose().to_owned();
        let work = async move {
            let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
            let mut connection = options.application_name("beside").connect().await.expect("PostgreSQL");
            sqlx::raw_sql(AssertSqlSafe(command)).execute(&mut connection).await.expect("done");
            connection.close().await.expect("closed");
        };
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        std::thread::spawn(move || runtime().block_on(work)).join().expect("done");
    }
}

macro_rules! for_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Place::sqlite().expect("a place")).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() {
                if let Some(place) = super::Place::postgres() {
                    super::$name(place).await;
                }
            })*
        }
    };
}

for_both! {
    rows_are_read_as_they_were_written
    a_job_that_fails_leaves_nothing_and_harms_no_other
    a_failed_statement_fails_its_job_whatever_it_answers
    a_panicking_job_is_a_fault_and_harms_no_other
    effects_follow_their_commits_in_order
    lazy_writes_are_committed
    data_is_there_after_reopening
    two_handles_share_a_store
    many_open_a_new_store_at_once
    a_newer_store_is_refused
    a_current_store_is_not_migrated_again
    sixty_four_writers_lose_nothing
    a_read_sees_one_state
    ids_are_given_and_conflicts_ignored
    large_reads_keep_back_no_other
}

async fn count(database: &Database) -> i64 {
    let read = database.read(|tx| tx.query_one("SELECT COUNT(*) FROM t", &[])?.expect("a row").int(0)).await;
    read.expect("a number")
}

fn insert(n: i64) -> impl FnMut(&mut Transaction<'_>) -> Result<u64, StorageError> + Send + 'static {
    move |tx| tx.execute("INSERT INTO t (n) VALUES (?1)", &[n.into()])
}

async fn rows_are_read_as_they_were_written(place: Place) {
    let database = place.with_table().await;
    let rows = [
        vec![Value::Int(Some(i64::MIN)), Value::from("'?1' ü 👋 /* FOR SHARE */"), Value::from(vec![0, 255])],
        vec![Value::Int(Some(7)), Value::from(""), Value::Bytes(Some(Vec::new()))],
        vec![Value::Int(Some(i64::MAX)), Value::from(None::<String>), Value::Bytes(None)],
    ];
    let written = rows.clone();
    let write = database.write(move |tx| {
        written.iter().try_fold(0, |sum, row| Ok(sum + tx.execute("INSERT INTO t VALUES (?1, ?2, ?3)", row)?))
    });
    assert_eq!(write.await, Ok::<u64, StorageError>(3));
    let read =
        database.read(|tx| tx.query("SELECT n, name, bytes FROM t ORDER BY n", &[])).await.expect("rows");
    assert_eq!(read.len(), 3);
    assert_eq!(read[0].0, rows[0]);
    assert_eq!(read[1].0, rows[1]);
    assert_eq!((read[2].int(0), read[2].optional_text(1)), (Ok(i64::MAX), Ok(None)));
    assert!(read[2].bytes(2).is_err() && read[2].text(1).is_err() && read[0].int(1).is_err());
    let found = database.read(|tx| {
        let sql = "SELECT n = 7, 1, COUNT(*) OVER () FROM t WHERE name = ?1 AND bytes = ?2";
        tx.query_one(sql, &["".into(), Vec::new().into()])
    });
    let row = found.await.expect("read").expect("a row");
    assert_eq!((row.flag(0), row.int(1), row.int(2)), (Ok(true), Ok(1), Ok(1)));
}

async fn a_job_that_fails_leaves_nothing_and_harms_no_other(place: Place) {
    let database = place.with_table().await;
    let mut jobs = JoinSet::new();
    for n in 0..40 {
        let database = database.clone();
        jobs.spawn(async move {
            let wrote = database.write(move |tx| {
                insert(n)(tx)?;
                if n % 2 == 0 { Ok(n) } else { Err(StorageError::Fault(format!("no {n}"))) }
            });
            assert_eq!(wrote.await.is_ok(), n % 2 == 0);
        });
    }
    while let Some(done) = jobs.join_next().await {
        done.expect("done");
    }
    let odd = database.read(|tx| tx.query("SELECT n FROM t WHERE n % 2 = 1", &[])).await;
    assert_eq!((count(&database).await, odd), (20, Ok(Vec::new())));
}

async fn a_failed_statement_fails_its_job_whatever_it_answers(place: Place) {
    let database = place.with_table().await;
    database.write(insert(1)).await.expect("written");
    for wrong in ["INSERT INTO t (n) VALUES (1)", "INSERT INTO nowhere VALUES (1)", "not SQL"] {
        let wrote = database.write(move |tx| {
            insert(2)(tx)?;
            let first = tx.execute(wrong, &[]);
            assert_eq!(tx.query("SELECT 1", &[]).map(drop), first.map(drop));
            Ok::<_, StorageError>(())
        });
        assert!(matches!(wrote.await, Err(StorageError::Fault(_))), "{wrong}");
        assert_eq!(count(&database).await, 1);
    }
    let read = database.read(|tx| tx.query("not SQL", &[])).await;
    assert!(matches!(read, Err(StorageError::Fault(_))));
    assert_eq!(count(&database).await, 1);
}

async fn a_panicking_job_is_a_fault_and_harms_no_other(place: Place) {
    let database = place.with_table().await;
    let panics = |tx: &mut Transaction<'_>| -> Result<(), StorageError> {
        insert(1)(tx)?;
        panic!("as the test wants");
    };
    let fault = Err(StorageError::Fault("a job panicked".to_owned()));
    for _ in 0..5 {
        let (wrote, other, read) =
            tokio::join!(database.write(panics), database.write(insert(2)), database.read(|_| panic!("too")));
        assert_eq!((wrote, other, read), (fault.clone(), Ok(1), fault.clone()));
        let effect = database.write(|tx| {
            tx.on_commit("lane", || panic!("also"));
            tx.execute("DELETE FROM t", &[])
        });
        assert_eq!(effect.await, Ok(1));
    }
}

#[tokio::test]
async fn nothing_follows_from_a_job_that_fails_when_it_is_run_again() {
    let place = Place::sqlite().expect("a place");
    let database = place.with_table().await;
    let (open, gate) = std::sync::mpsc::channel::<()>();
    // Holds the transaction open until the others wait for it, so that all three share it.
    let first = database.write(move |_| {
        let _ = gate.recv();
        Ok::<_, StorageError>(())
    });
    let followed = Arc::new(AtomicUsize::new(0));
    let (its, mut runs) = (Arc::clone(&followed), 0);
    let twice = database.write(move |tx| {
        runs += 1;
        let its = Arc::clone(&its);
        tx.on_commit("lane", move || {
            its.fetch_add(1, Ordering::Relaxed);
        });
        insert(1)(tx)?;
        if runs == 1 { Ok(()) } else { Err(StorageError::Fault("again".to_owned())) }
    });
    let failing = database.write(|tx| {
        insert(2)(tx)?;
        Err::<(), _>(StorageError::Fault("no".to_owned()))
    });
    let opened = async {
        tokio::task::yield_now().await;
        drop(open);
    };
    let (_, twice, failing, ()) = tokio::join!(first, twice, failing, opened);
    assert_eq!(twice, Err(StorageError::Fault("again".to_owned())));
    assert_eq!(failing, Err(StorageError::Fault("no".to_owned())));
    assert_eq!((count(&database).await, followed.load(Ordering::Relaxed)), (0, 0));
}

async fn effects_follow_their_commits_in_order(place: Place) {
    let database = place.with_table().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    for n in 0..4 {
        database.write(insert(n)).await.expect("a lane");
    }
    let mut jobs = JoinSet::new();
    for job in 0..200_i64 {
        let (database, told) = (database.clone(), told.clone());
        jobs.spawn(async move {
            let wrote = database.write(move |tx| {
                let (lane, told) = (job % 4, told.clone());
                let sql = "UPDATE t SET name = COALESCE(name, '') || 'x' WHERE n = ?1 RETURNING LENGTH(name)";
                let number = tx.query_one(sql, &[lane.into()])?.expect("a row").int(0)?;
                tx.on_commit(format!("lane-{lane}"), move || {
                    told.lock().expect("sound").push((lane, number));
                });
                if job % 10 == 9 { Err(StorageError::Fault("no".to_owned())) } else { Ok(()) }
            });
            assert_eq!(wrote.await.is_ok(), job % 10 != 9);
        });
    }
    while let Some(done) = jobs.join_next().await {
        done.expect("done");
    }
    let told = told.lock().expect("sound");
    assert_eq!(told.len(), 180);
    for lane in 0..4 {
        let numbers: Vec<i64> = told.iter().filter(|told| told.0 == lane).map(|told| told.1).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as i64), "{numbers:?}");
    }
}

async fn lazy_writes_are_committed(place: Place) {
    let database = place.with_table().await;
    let started = Instant::now();
    assert_eq!(database.write_lazily(insert(1)).await, Ok(1));
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(count(&database).await, 1);
    let (lazy, urgent) = tokio::join!(database.write_lazily(insert(2)), database.write(insert(3)));
    assert_eq!((lazy, urgent, count(&database).await), (Ok(1), Ok(1), 3));
}

async fn data_is_there_after_reopening(place: Place) {
    let database = place.with_table().await;
    for n in 0..10 {
        database.write(insert(n)).await.expect("written");
    }
    drop(database);
    assert_eq!(count(&place.open().expect("a store")).await, 10);
}

async fn two_handles_share_a_store(place: Place) {
    let (first, second) = (place.with_table().await, place.open().expect("a second"));
    for n in 0..20 {
        let (one, other) = tokio::join!(first.write(insert(n)), second.write(insert(100 + n)));
        assert_eq!((one, other), (Ok(1), Ok(1)));
    }
    assert_eq!((count(&first).await, count(&second).await), (40, 40));
}

async fn many_open_a_new_store_at_once(place: Place) {
    let stores: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| place.open())).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic").expect("a store")).collect()
    });
    for store in stores {
        let read = store.read(|tx| tx.query("SELECT id FROM messages", &[])).await;
        assert_eq!(read, Ok(Vec::new()));
    }
}

async fn a_newer_store_is_refused(place: Place) {
    let shared = place.open().expect("a store").is_shared();
    place.beside(if shared {
        "UPDATE switchboard_schema SET version = 1000"
    } else {
        "PRAGMA user_version = 1000"
    });
    let error = place.open().map(drop).expect_err("newer");
    assert!(error.to_string().contains("newer version"), "{error}");
}

async fn a_current_store_is_not_migrated_again(place: Place) {
    drop(place.open().expect("a store"));
    place.beside("INSERT INTO users_seen VALUES ('app', 'user', 1)");
    let database = place.open().expect("a store");
    let read = database.read(|tx| tx.query("SELECT last_seen_at FROM users_seen", &[])).await;
    assert_eq!(read, Ok(vec![Row(vec![1.into()])]));
}

async fn sixty_four_writers_lose_nothing(place: Place) {
    let database = place.with_table().await;
    database.write(insert(0)).await.expect("a row");
    let mut jobs = JoinSet::new();
    for writer in 1..=64 {
        let database = database.clone();
        jobs.spawn(async move {
            for step in 0..5 {
                // Read, then write what depends on it: wrong when two do so at once.
                let wrote = database.write(move |tx| {
                    let sql = "SELECT name FROM t WHERE n = 0 /* FOR UPDATE */";
                    let row = tx.query_one(sql, &[])?.expect("a row");
                    let sum: i64 = row.optional_text(0)?.unwrap_or_default().parse().unwrap_or(0);
                    tx.execute("UPDATE t SET name = ?1 WHERE n = 0", &[(sum + 1).to_string().into()])?;
                    insert(writer * 100 + step)(tx)
                });
                assert_eq!(wrote.await, Ok(1));
            }
        });
    }
    while let Some(done) = jobs.join_next().await {
        done.expect("done");
    }
    let sum = database.read(|tx| tx.query("SELECT name FROM t WHERE n = 0", &[])).await;
    assert_eq!((sum.expect("read")[0].text(0), count(&database).await), (Ok("320".to_owned()), 321));
}

async fn a_read_sees_one_state(place: Place) {
    let database = place.with_table().await;
    let other = place.open().expect("a second");
    let (reads, writes) = std::sync::mpsc::channel::<()>();
    let (written, wait) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        writes.recv().expect("asked");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(other.write(insert(1))).expect("written");
        written.send(()).expect("heard");
    });
    let counts = database.read(move |tx| {
        let mut counts = Vec::new();
        for _ in 0..2 {
            counts.push(tx.query_one("SELECT COUNT(*) FROM t", &[])?.expect("a row").int(0)?);
            if counts.len() == 1 {
                reads.send(()).expect("heard");
                wait.recv().expect("written");
            }
        }
        Ok::<_, StorageError>(counts)
    });
    assert_eq!((counts.await, count(&database).await), (Ok(vec![0, 0]), 1));
    writer.join().expect("no panic");
}

/// Lists and whatever is due must not wait for somebody's film.
async fn large_reads_keep_back_no_other(place: Place) {
    let database = place.with_table().await;
    let (go_on, wait) = crossbeam_channel::bounded::<()>(0);
    let large: Vec<_> = (0..5)
        .map(|_| {
            let (database, wait) = (database.clone(), wait.clone());
            tokio::spawn(async move {
                let read = move |tx: &mut Transaction<'_>| {
                    let _ = wait.recv();
                    tx.query("SELECT 1", &[]).map(drop)
                };
                database.read_aside(read).await
            })
        })
        .collect();
    for n in 0..20 {
        assert_eq!(database.write(insert(n)).await, Ok(1));
        assert_eq!(count(&database).await, n + 1);
    }
    drop(go_on);
    for read in large {
        assert_eq!(read.await.expect("no panic"), Ok(()));
    }
}

async fn ids_are_given_and_conflicts_ignored(place: Place) {
    let database = place.open().expect("a store");
    let insert = |version: &'static str| {
        database.write(move |tx| {
            let sql = "INSERT INTO message_versions (message_id, body, replaced_at) VALUES (?1, ?2, ?3) RETURNING id";
            tx.query_one(sql, &[1.into(), version.into(), now().into()])?.expect("a row").int(0)
        })
    };
    let first = insert("a").await.expect("an id");
    database.write(|tx| tx.execute("DELETE FROM message_versions", &[])).await.expect("gone");
    assert!(insert("b").await.expect("an id") > first);
    let seen = || {
        database.write(|tx| {
            let sql = "INSERT INTO users_seen VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
            tx.execute(sql, &["a".into(), "u".into(), 1.into()])
        })
    };
    assert_eq!((seen().await, seen().await), (Ok::<u64, StorageError>(1), Ok(0)));
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_of_sqlite_is_the_owners() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::sqlite().expect("a place");
    place.with_table().await;
    for file in ["store.db", "store.db-wal"] {
        let mode = std::fs::metadata(place.folder.path().join("deep").join(file))
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_got_over() {
    let place = Place::sqlite().expect("a place");
    let database = place.with_table().await;
    let limit = database.write(|tx| tx.query("PRAGMA max_page_count = 120", &[])).await;
    limit.expect("a limit");
    let fill = |n: i64, bytes: usize| {
        let sql = "INSERT INTO t VALUES (?1, NULL, ?2)";
        database.write(move |tx| tx.execute(sql, &[n.into(), vec![0; bytes].into()]))
    };
    assert!(matches!(fill(1, 1_000_000).await, Err(StorageError::Unavailable(_))));
    assert_eq!((fill(2, 10).await, count(&database).await), (Ok(1), 1));
}

#[tokio::test]
async fn what_is_not_a_store_is_refused() {
    let place = Place::sqlite().expect("a place");
    std::fs::create_dir(place.folder.path().join("deep")).expect("a folder");
    std::fs::write(place.folder.path().join("deep/store.db"), "something else, by the look of it")
        .expect("a file");
    let error = place.open().map(drop).expect_err("not a store");
    assert!(matches!(&error, StorageError::Unavailable(why) if why.contains("store.db")), "{error}");
}

#[tokio::test]
async fn a_postgres_that_cannot_be_reached_is_told_without_its_password() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let url = Secret::new(format!("postgres://user:hunter2@127.0.0.1:{port}/db"));
    let error = Database::open(&StoreSettings { url, pool: 1, ..StoreSettings::default() }, Path::new("."))
        .map(drop)
        .expect_err("nobody");
    assert!(matches!(error, StorageError::Unavailable(_)));
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_lost_connection_is_replaced_unnoticed() {
    let Some(place) = Place::postgres() else { return };
    let database = place.with_table().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = current_schema() AND pid <> pg_backend_pid()";
    for n in 0..8 {
        place.beside(kill);
        assert_eq!(database.write(insert(n)).await, Ok(1));
    }
    // In the middle of a job: it is run once more, and only once.
    let runs = Arc::new(AtomicUsize::new(0));
    for (deadly, expected) in [(1, true), (2, false)] {
        runs.store(0, Ordering::Relaxed);
        let runs = runs.clone();
        let wrote = database.write(move |tx| {
            insert(100 + deadly as i64)(tx)?;
            if runs.fetch_add(1, Ordering::Relaxed) < deadly {
                tx.query("SELECT pg_terminate_backend(pg_backend_pid())", &[])?;
            }
            Ok::<_, StorageError>(())
        });
        let wrote = wrote.await;
        assert_eq!(wrote.is_ok(), expected, "{wrote:?}");
        assert!(expected || matches!(wrote, Err(StorageError::Unavailable(_))));
    }
    assert_eq!(count(&database).await, 9);
}

#[tokio::test]
async fn a_row_that_another_was_faster_with_is_found_by_the_second_run() {
    let Some(place) = Place::postgres() else { return };
    let database = place.with_table().await;
    let mut jobs = JoinSet::new();
    for _ in 0..16 {
        let database = database.clone();
        jobs.spawn(async move {
            let wrote = database.write(|tx| {
                if tx.query_one("SELECT n FROM t WHERE n = 1", &[])?.is_none() {
                    insert(1)(tx)?;
                    return Ok::<_, StorageError>(true);
                }
                Ok(false)
            });
            wrote.await.expect("settled")
        });
    }
    assert_eq!(jobs.join_all().await.into_iter().filter(|wrote| *wrote).count(), 1);
}

/// What group commit brings: `cargo test --release --lib storage -- --ignored --nocapture rates`.
#[tokio::test]
#[ignore = "a measurement"]
async fn rates() {
    for place in [Place::sqlite(), Place::postgres()].into_iter().flatten() {
        let database = place.open().expect("a store");
        for callers in [1, 64] {
            let (started, mut jobs) = (Instant::now(), JoinSet::new());
            let done = Arc::new(AtomicUsize::new(0));
            for caller in 0..callers {
                let (database, done) = (database.clone(), done.clone());
                jobs.spawn(async move {
                    while started.elapsed() < Duration::from_secs(4) {
                        database.write(move |tx| like_a_message(tx, caller)).await.expect("written");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            jobs.join_all().await;
            let rate = done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
            println!("shared: {}, callers: {callers}, jobs/s: {rate:.0}", database.is_shared());
        }
    }
}

/// Twelve statements, about those of an internal message.
fn like_a_message(tx: &mut Transaction<'_>, caller: i64) -> Result<(), StorageError> {
    let app: Value = "app".into();
    for side in 0..2 {
        let user: Value = format!("user-{}", caller * 2 + side).into();
        let seen = "INSERT INTO users_seen VALUES (?1, ?2, 0) ON CONFLICT DO NOTHING";
        tx.execute(seen, &[app.clone(), user.clone()])?;
        let number = "SELECT id FROM phone_numbers WHERE app_id = ?1 AND user_id = ?2";
        tx.query(number, &[app.clone(), user.clone()])?;
        let version =
            "INSERT INTO message_versions (message_id, body, replaced_at) VALUES (?1, ?2, ?3) RETURNING id";
        let row =
            tx.query_one(version, &[caller.into(), "Hello there, this is a text".into(), now().into()])?;
        let id = row.expect("a row").int(0)?;
        tx.execute(
            "UPDATE message_versions SET body = ?1 WHERE id = ?2",
            &["Hello again".into(), id.into()],
        )?;
        tx.execute(
            "UPDATE users_seen SET last_seen_at = ?1 WHERE app_id = ?2 AND user_id = ?3",
            &[id.into(), app.clone(), user],
        )?;
        tx.execute(
            "INSERT INTO outbox (app_id, kind, lane, payload, state, attempts, not_before, locked_until, created_at)
             VALUES (?1, 'broadcast', ?2, ?3, 'due', 0, 0, 0, ?4)",
            &[app.clone(), caller.to_string().into(), "x".repeat(400).into(), now().into()],
        )?;
    }
    Ok(())
}
