//! A disk whose flushes hang or fail, for one server: a library in front of the system's own stands between
//! them. What is written reaches the system's memory as always, so that only a server that waits for the
//! flush notices.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use super::DEADLINE;
use super::messaging::Setup;

/// Flushes of SQLite's log wait while the file `hold` exists (then `held` does as well). One fails when `broken`
/// exists, and only one: Linux tells of an error once.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_there(const char *name) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", getenv("TEST_DISK"), name);
  return access(path, F_OK) == 0;
}

static int is_log(int fd) {
  char link[64], path[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path);
  return length > 4 && memcmp(path + length - 4, "-wal", 4) == 0;
}

static int flush(int fd, const char *name) {
  while (is_log(fd) && is_there("hold")) {
    char path[512];
    snprintf(path, sizeof path, "%s/held", getenv("TEST_DISK"));
    close(open(path, O_CREAT | O_WRONLY, 0600));
    usleep(1000);
  }
  if (is_log(fd) && is_there("broken")) {
    char path[512];
    snprintf(path, sizeof path, "%s/broken", getenv("TEST_DISK"));
    unlink(path);
    errno = EIO;
    return -1;
  }
  int (*real)(int) = dlsym(RTLD_NEXT, name);
  return real(fd);
}

int fsync(int fd) { return flush(fd, "fsync"); }
int fdatasync(int fd) { return flush(fd, "fdatasync"); }
"#;

/// What a server's flushes meet. Must outlive the server.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
    library: PathBuf,
}

impl Disk {
    /// A disk that works.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let (source, library) = (folder.path().join("disk.c"), folder.path().join("disk.so"));
        std::fs::write(&source, SOURCE).expect("written");
        let mut compiler = Command::new("cc");
        let compiled =
            compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
        assert!(compiled.expect("a C compiler, which Rust needs as well").success(), "not compiled");
        Self { folder, library }
    }

    /// The server writes to this disk.
    pub fn under(&self, setup: Setup) -> Setup {
        let text = |path: &std::path::Path| path.to_str().expect("no odd characters").to_owned();
        setup.env("LD_PRELOAD", &text(&self.library)).env("TEST_DISK", &text(self.folder.path()))
    }

    /// Flushes hang from now on.
    pub fn hold(&self) {
        self.set("hold");
    }

    /// Waits until one hangs.
    pub async fn holds(&self) {
        let start = Instant::now();
        while !self.folder.path().join("held").exists() {
            assert!(start.elapsed() < DEADLINE, "nothing is flushed");
            tokio::task::yield_now().await;
        }
    }

    /// The next flush fails, or the one that hangs.
    pub fn break_down(&self) {
        self.set("broken");
    }

    /// Flushes hang no more.
    pub fn go_on(&self) {
        std::fs::remove_file(self.folder.path().join("hold")).expect("it is held");
    }

    fn set(&self, name: &str) {
        std::fs::write(self.folder.path().join(name), "").expect("written");
    }
}
