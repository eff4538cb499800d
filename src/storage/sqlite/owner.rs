//! Which process owns a database file: the one that holds the lock on the file `…-owner` beside it.
//!
//! The kernel gives the lock back when its process ends, however it ends, so no stale lock keeps a server from
//! starting. The lock lies beside the database and not on it: closing any handle of the database would take SQLite's
//! own locks away (POSIX), and on NFS a lock on it would be in their way.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{StorageError, beside, unavailable_at};

/// How long a new process waits for the one before it: the kernel may take a moment to end a killed process.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// Most bytes of the owner's name that are read.
const NAME: u64 = 512;

/// The lock, held while this is there.
pub(super) struct Owner {
    _lock: File,
}

impl Owner {
    /// Takes the database file at this path (which must exist) for this process.
    ///
    /// # Errors
    /// [`StorageError::Owned`] if another process has it; the lock file can't be made.
    pub(super) fn take(database: &Path) -> Result<Self, StorageError> {
        let path = beside(database, "-owner").map_err(|error| unavailable_at(database, &error))?;
        let lock = open(&path).map_err(|error| unavailable_at(&path, &error))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(owned(database, &lock)),
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(path = %path.display(), %error, "this file system has no locks: nothing keeps a second server from the same database file");
                    return Ok(Self { _lock: lock });
                }
            }
        }
        // The name is for people only.
        if let Err(error) = write_name(&lock) {
            tracing::warn!(path = %path.display(), %error, "the process number of the store's owner can't be written");
        }
        Ok(Self { _lock: lock })
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// The process number is the one inside the container, if there is one, so the host's name is added.
fn write_name(mut lock: &File) -> io::Result<()> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).map(|host| format!(" on host {host}"));
    lock.set_len(0)?;
    writeln!(lock, "process {}{}", std::process::id(), host.unwrap_or_default())
}

fn owned(database: &Path, lock: &File) -> StorageError {
    let mut name = String::new();
    // Without a name the sentence is still true.
    let _ = lock.take(NAME).read_to_string(&mut name);
    let name = Some(name.trim()).filter(|name| !name.is_empty()).unwrap_or("its number can't be read");
    StorageError::Owned(format!("{} ({name})", database.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_owner_under_all_its_names_until_that_one_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("a.db"), folder.path().join("link.db"));
        fs::write(&path, "").expect("written");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        let owner = Owner::take(&path).expect("free");
        let refused = Owner::take(&link).err().expect("taken").to_string();
        assert!(refused.contains(&format!("(process {}", std::process::id())), "{refused}");
        drop(owner);
        Owner::take(&link).expect("free again");
    }

    #[test]
    fn what_a_dead_owner_left_is_no_obstacle() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        fs::write(&path, "").expect("written");
        fs::write(folder.path().join("a.db-owner"), "process 1 on host somewhere-with-a-long-name\n")
            .expect("written");
        let _owner = Owner::take(&path).expect("free");
        let name = fs::read_to_string(folder.path().join("a.db-owner")).expect("readable");
        assert!(
            name.starts_with(&format!("process {}", std::process::id())) && name.lines().count() == 1,
            "{name}"
        );
    }
}
