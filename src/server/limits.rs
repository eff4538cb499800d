//! The process's limit of open files: each connection needs one.

use crate::config::Settings;

/// Descriptors that are not connections: listeners, timers, log, storage.
const RESERVED: u64 = 64;

/// What the limit was and what it is now.
#[derive(Clone, Copy, Debug)]
pub struct FileLimit {
    /// Soft limit at start.
    pub before: u64,
    /// Soft limit now; the hard limit where the system allowed it.
    pub after: u64,
}

/// Raises the soft limit to the hard limit.
pub fn raise_file_limit() -> FileLimit {
    let before = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(0, |(soft, _)| soft);
    let after = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(before);
    FileLimit { before, after }
}

impl FileLimit {
    /// Whether that many connections fit.
    fn fits(self, max_connections: usize) -> bool {
        self.after >= max_connections as u64 + RESERVED
    }

    /// Logs both limits if they differ, and warns when they are less than `server.max_connections` needs. In development mode
    /// nobody chose that number or will come near it: it is lowered instead.
    pub fn apply(self, settings: &mut Settings) {
        let max_connections = settings.server.max_connections;
        if settings.development {
            tracing::debug!(before = self.before, now = self.after, "limit of open files");
            let most = usize::try_from(self.after.saturating_sub(RESERVED)).unwrap_or(usize::MAX).max(1);
            settings.server.max_connections = max_connections.min(most);
            return;
        }
        if self.after != self.before {
            tracing::info!(before = self.before, now = self.after, "limit of open files");
        }
        if !self.fits(max_connections) {
            tracing::warn!(
                limit = self.after,
                max_connections,
                "the limit of open files is lower than server.max_connections: raise it (LimitNOFILE=, ulimit -n)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(before: u64, after: u64, settings: &mut Settings) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || FileLimit { before, after }.apply(settings));
        let bytes = written.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn the_limit_is_logged_when_it_was_raised_and_when_it_is_too_low() {
        let mut settings = crate::config::load(&crate::config::Sources::default()).expect("valid").settings;
        settings.development = false;
        settings.server.max_connections = 1000;
        assert_eq!(logged(5000, 5000, &mut settings), "");
        assert!(logged(1024, 5000, &mut settings).contains("INFO"));
        let low = logged(1024, 1024, &mut settings);
        assert!(low.contains("WARN") && !low.contains("INFO"), "{low}");
        settings.development = true;
        assert_eq!(logged(264, 264, &mut settings), "");
        assert_eq!(settings.server.max_connections, 200);
    }
}
