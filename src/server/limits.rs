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

    /// Logs both limits, and warns when they are less than `server.max_connections` needs. In development mode
    /// nobody chose that number or will come near it: it is lowered instead.
    pub fn apply(self, settings: &mut Settings) {
        let max_connections = settings.server.max_connections;
        if settings.development {
            tracing::debug!(before = self.before, now = self.after, "limit of open files");
            let most = usize::try_from(self.after.saturating_sub(RESERVED)).unwrap_or(usize::MAX).max(1);
            settings.server.max_connections = max_connections.min(most);
            return;
        }
        tracing::info!(before = self.before, now = self.after, "limit of open files");
        if !self.fits(max_connections) {
            tracing::warn!(
                limit = self.after,
                max_connections,
                "the limit of open files is lower than server.max_connections: raise it (LimitNOFILE=, ulimit -n)"
            );
        }
    }
}
