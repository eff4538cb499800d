//! The files of the store as they were opened, and whether they are still the ones that the next start will find.
//!
//! A process goes on writing to a file that was removed or replaced, and what it writes then is gone with the
//! process. So nothing is acknowledged before [`Files::verify`] has looked.

use std::fmt::Display;
use std::fs::{self, File, Metadata};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::beside;

/// Bytes of the database's header.
const HEADER: usize = 100;
/// How it begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Bytes of the log's header, and of the one of each page in it.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;
/// How the log begins, but for its last bit.
const LOG_MAGIC: u32 = 0x377f_0682;
/// Looks at a file that seems truncated, as another process may just be shortening it (`VACUUM`).
const LOOKS: u32 = 5;
/// Time between them.
const PAUSE: Duration = Duration::from_millis(50);

/// The open files.
pub(super) struct Files {
    /// Open until the process ends, as closing it would take SQLite's locks away (POSIX).
    database: ManuallyDrop<File>,
    log: File,
    /// What the names stood for when they were opened.
    names: Vec<Name>,
    /// Bytes of the database that were seen.
    size: AtomicU64,
    /// The header's change counter. It only grows, so a smaller one is an older file's.
    counter: AtomicU32,
    page: u64,
}

/// A name and the file that it stood for.
struct Name {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Name {
    fn new(path: PathBuf) -> io::Result<Self> {
        let found = fs::metadata(&path)?;
        Ok(Self { path, device: found.dev(), inode: found.ino() })
    }

    /// The file's state.
    fn verify(&self) -> Result<Metadata, String> {
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(found),
            Ok(_) => Err(format!("{} was replaced by another file", self.path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("{} was removed", self.path.display()))
            }
            Err(error) => Err(format!("{} can't be found any more ({error})", self.path.display())),
        }
    }
}

impl Files {
    /// `database` is the file's handle from before SQLite opened it. SQLite must have made the log, which is in the file
    /// to its end. All that is in the log is on disk then, its name included.
    pub(super) fn open(path: &Path, database: ManuallyDrop<File>) -> io::Result<Self> {
        let log_path = beside(path, "-wal")?;
        let log = File::options().read(true).write(true).open(&log_path)?;
        log.sync_all()?;
        if let Some(folder) = log_path.parent() {
            // Not everywhere may folders be opened; SQLite goes on without, too.
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        let names = [path.canonicalize()?, log_path, beside(path, "-shm")?];
        let header = header(&database)?;
        let size = AtomicU64::new(database.metadata()?.size());
        Ok(Self {
            log,
            names: names.into_iter().map(Name::new).collect::<Result<_, _>>()?,
            size,
            counter: AtomicU32::new(word(&header, 24)),
            page: page_size(&header),
            database,
        })
    }

    /// The log's handle.
    pub(super) fn log(&self) -> &File {
        &self.log
    }

    /// The database's handle.
    pub(super) fn database(&self) -> &File {
        &self.database
    }

    /// Bytes of the log.
    pub(super) fn log_size(&self) -> u64 {
        self.log.metadata().map_or(0, |found| found.size())
    }

    /// Bytes of a log of so many pages.
    pub(super) fn size_of_log(&self, pages: i64) -> u64 {
        match u64::try_from(pages) {
            Ok(0) | Err(_) => 0,
            Ok(pages) => LOG_HEADER + pages * (self.page + FRAME_HEADER),
        }
    }

    /// Looks whether the names still stand for the open files, and whether somebody else cut or overwrote them.
    ///
    /// # Errors
    /// What happened and what to do.
    pub(super) fn verify(&self) -> Result<(), String> {
        self.look().map_err(|reason| self.advice(&reason))
    }

    /// That the log lost its end, and what to do.
    pub(super) fn log_was_cut(&self) -> String {
        self.advice(&format!("{} was truncated", self.names[1].path.display()))
    }

    fn look(&self) -> Result<(), String> {
        // Before the looks: another thread may see the file grow meanwhile.
        let (known_size, known) = (self.size.load(Ordering::Acquire), self.counter.load(Ordering::Acquire));
        let mut size = 0;
        for (index, name) in self.names.iter().enumerate() {
            let found = name.verify()?;
            if index == 0 {
                size = found.size();
            }
        }
        self.look_at_log().map_err(|error| self.of_log(&error))?;
        let header = header(&self.database).map_err(|error| self.of_database(&error))?;
        let counter = word(&header, 24);
        self.counter.fetch_max(counter, Ordering::AcqRel);
        if counter < known {
            return Err(self.of_database(&"an older file was written over it"));
        }
        self.size.fetch_max(size, Ordering::AcqRel);
        if size < known_size {
            self.look_at_size()?;
        }
        Ok(())
    }

    /// `VACUUM` shortens the file, and says so in the header.
    fn look_at_size(&self) -> Result<(), String> {
        for _ in 0..LOOKS {
            let look = || io::Result::Ok((header(&self.database)?, self.database.metadata()?.size()));
            let (header, size) = look().map_err(|error| self.of_database(&error))?;
            if u64::from(word(&header, 28)) * self.page == size {
                self.size.store(size, Ordering::Release);
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(format!("{} was truncated", self.names[0].path.display()))
    }

    /// A log that was cut and written to again begins with a hole.
    fn look_at_log(&self) -> io::Result<()> {
        let mut start = [0; 4];
        match self.log.read_at(&mut start, 0)? {
            0 => Ok(()),
            4 if u32::from_be_bytes(start) & !1 == LOG_MAGIC => Ok(()),
            _ => Err(io::Error::other("it was truncated or overwritten")),
        }
    }

    fn of_database(&self, what: &dyn Display) -> String {
        format!("{}: {what}", self.names[0].path.display())
    }

    fn of_log(&self, what: &dyn Display) -> String {
        format!("{}: {what}", self.names[1].path.display())
    }

    fn advice(&self, reason: &str) -> String {
        let process = std::process::id();
        format!(
            "{reason} while the server had it open. Find out what did it, put the file back or a backup in its place, and \
             restart the server. On Linux, before the restart, the open files can still be copied: \
             /proc/{process}/fd/{} (the database) and /proc/{process}/fd/{} (its -wal)",
            self.database.as_raw_fd(),
            self.log.as_raw_fd()
        )
    }
}

fn header(database: &File) -> io::Result<[u8; HEADER]> {
    let mut header = [0; HEADER];
    let read = database.read_exact_at(&mut header, 0);
    match read {
        Ok(()) if header.starts_with(MAGIC) => Ok(header),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Err(io::Error::other("it was truncated or overwritten")),
    }
}

/// A number of the header.
fn word(header: &[u8; HEADER], at: usize) -> u32 {
    header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn page_size(header: &[u8; HEADER]) -> u64 {
    match u64::from(header[16]) << 8 | u64::from(header[17]) {
        1 => 65_536,
        size => size,
    }
}
