//! What the disk itself does.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a second, and how long one takes.
pub struct Rate {
    pub rate: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// Writes of one page, each flushed.
pub fn flushes(folder: &Path, time: Duration) -> Rate {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(folder.join("flushes"))
        .expect("a file");
    let page = [7_u8; 4096];
    // As a write-ahead log does: the space is there already.
    file.write_all(&vec![0; 64 << 20]).expect("written");
    file.sync_all().expect("flushed");
    let mut offset = 0;
    measure(time, || {
        file.seek(SeekFrom::Start(offset)).expect("sought");
        file.write_all(&page).expect("written");
        file.sync_data().expect("flushed");
        offset = (offset + 4096) % (64 << 20);
    })
}

/// Transactions of one row, each committed for itself, durable as the server's are.
pub fn commits(folder: &Path, time: Duration) -> Rate {
    let database = rusqlite::Connection::open(folder.join("commits.db")).expect("a database");
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE messages (id INTEGER PRIMARY KEY, body TEXT);",
        )
        .expect("a table");
    let body = "x".repeat(400);
    measure(time, || {
        database
            .prepare_cached("INSERT INTO messages (body) VALUES (?1)")
            .and_then(|mut insert| insert.execute([&body]))
            .expect("inserted");
    })
}

fn measure(time: Duration, mut step: impl FnMut()) -> Rate {
    let (start, mut taken) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let before = Instant::now();
        step();
        taken.push(before.elapsed());
    }
    let rate = taken.len() as f64 / start.elapsed().as_secs_f64();
    taken.sort_unstable();
    Rate { rate, p50: taken[taken.len() / 2], p99: taken[taken.len() * 99 / 100] }
}
