//! What the disk itself does.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How often a second, and how long one takes.
pub struct Rate {
    pub rate: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// Writes of one page, each flushed.
pub fn flushes(folder: &Path, delay: Duration, time: Duration) -> Rate {
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
        thread::sleep(delay);
        offset = (offset + 4096) % (64 << 20);
    })
}

/// Transactions of one row, each committed for itself, durable as the server's are.
pub fn commits(folder: &Path, delay: Duration, time: Duration) -> Rate {
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
        thread::sleep(delay);
    })
}

/// A library that makes the flushes of a process that much slower.
pub fn slow(folder: &Path, delay: Duration) -> PathBuf {
    let (source, library) = (folder.join("slow.c"), folder.join("slow.so"));
    let program = format!(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <unistd.h>\n\
         #define SLOW(call) int call(int fd) {{ int (*real)(int) = dlsym(RTLD_NEXT, #call); \
         int done = real(fd); usleep({}); return done; }}\nSLOW(fsync)\nSLOW(fdatasync)\n",
        delay.as_micros()
    );
    fs::write(&source, program).expect("written");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    assert!(compiled.expect("cc").success(), "the C compiler failed");
    library
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
