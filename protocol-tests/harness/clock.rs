//! A machine's clock that tests set, for one server: a library in front of the system's own stands between them. The
//! monotonic clock goes on as always.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::messaging::Setup;

/// The wall clock is ahead by the seconds in the file.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now) {
  int result = syscall(SYS_clock_gettime, id, now);
  if (result != 0 || id != CLOCK_REALTIME) return result;
  char text[32] = {0};
  int file = open(getenv("TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atoll(text);
    close(file);
  }
  return 0;
}
"#;

/// The clock. Must outlive the server.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        std::fs::write(&source, SOURCE).expect("written");
        let mut compiler = Command::new("cc");
        let compiled = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        assert!(compiled.expect("a C compiler, which Rust needs as well").success(), "not compiled");
        let clock = Self { folder, library };
        clock.set(0);
        clock
    }

    /// The server has this clock.
    pub fn under(&self, setup: Setup) -> Setup {
        let text = |path: &std::path::Path| path.to_str().expect("no odd characters").to_owned();
        setup.env("LD_PRELOAD", &text(&self.library)).env("TEST_CLOCK", &text(&self.file()))
    }

    /// Sets it to so many seconds ahead of the right time.
    pub fn set(&self, ahead: i64) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, ahead.to_string()).expect("written");
        std::fs::rename(new, self.file()).expect("renamed");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }
}
