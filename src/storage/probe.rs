//! Whether a store could be opened, without creating or migrating anything.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::migrations;
use super::postgres::Postgres;
use super::sqlite::unavailable_at;
use super::usage::IN_FILE;
use super::{StorageError, sqlite_path};
use crate::config::StoreSettings;

/// Looks whether [`super::Database::open`] would work with these settings; says what it found. Blocks.
///
/// # Errors
/// Why the store could not be used. Holds no password.
pub fn probe(settings: &StoreSettings, data_dir: &Path) -> Result<String, StorageError> {
    match sqlite_path(settings, data_dir) {
        Some(path) if path.exists() => existing_file(&path),
        Some(path) => new_file(&path),
        None => {
            let keeps_process = Postgres::probe(settings.url.expose())?;
            Ok(match keeps_process {
                true => "PostgreSQL can be reached".to_owned(),
                false => "PostgreSQL can be reached through a pooler that shares its connections between \
                          transactions: statements are not kept prepared"
                    .to_owned(),
            })
        }
    }
}

/// What a query that counts something of one app answers, without changing anything: 0 when there is no store
/// yet, `None` when only a connection to PostgreSQL could tell, or the store can't be read. Blocks.
pub fn count(settings: &StoreSettings, data_dir: &Path, sql: &str, app_id: &str) -> Option<i64> {
    let path = sqlite_path(settings, data_dir)?;
    if !path.exists() {
        return Some(0);
    }
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    file.query_row(sql, [app_id], |row| row.get(0)).ok()
}

/// Bytes of an embedded store that are in use: 0 when there is none yet, `None` when only a connection to PostgreSQL
/// could tell, or the store can't be read. Blocks.
pub fn used(settings: &StoreSettings, data_dir: &Path) -> Option<u64> {
    let path = sqlite_path(settings, data_dir)?;
    if !path.exists() {
        return Some(0);
    }
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    file.query_row(IN_FILE, [], |row| row.get::<_, i64>(0)).ok()?.try_into().ok()
}

fn existing_file(path: &Path) -> Result<String, StorageError> {
    // A file that can be read and not written is found by asking for both; nothing is written.
    File::options().read(true).append(true).open(path).map_err(|error| unavailable_at(path, &error))?;
    writable_folder(path.parent().unwrap_or(Path::new(".")))?;
    let version = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|file| file.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)))
        .map_err(|error| unavailable_at(path, &error))?;
    let missing = migrations::missing(version).map_err(|error| unavailable_at(path, &error))?;
    Ok(match missing.len() {
        0 => format!("{} can be used", path.display()),
        _ => format!("{} can be used, its tables will be brought up to date", path.display()),
    })
}

fn new_file(path: &Path) -> Result<String, StorageError> {
    let folder = path.ancestors().skip(1).find(|folder| folder.is_dir() || folder.as_os_str().is_empty());
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    writable_folder(folder)?;
    Ok(format!("{} will be created", path.display()))
}

/// Rights tell less than trying: a file system may be mounted read-only, or be full.
fn writable_folder(folder: &Path) -> Result<(), StorageError> {
    let name: PathBuf = folder.join(format!(".switchboard-check-{}", std::process::id()));
    let made = File::options().write(true).create_new(true).open(&name);
    made.and_then(|_| fs::remove_file(&name)).map_err(|error| unavailable_at(folder, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::storage::Database;

    #[test]
    fn a_file_is_neither_created_nor_changed() {
        let folder = tempfile::tempdir().expect("folder");
        let settings = StoreSettings::default();
        let data = folder.path().join("deep/data");
        let found = probe(&settings, &data).expect("can be created");
        assert!(found.ends_with("switchboard.db will be created"), "{found}");
        assert!(!folder.path().join("deep").exists());
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);

        drop(Database::open(&settings, &data).expect("opened"));
        let found = probe(&settings, &data).expect("can be used");
        assert!(found.ends_with("switchboard.db can be used"), "{found}");

        let newer = Connection::open(data.join("switchboard.db")).expect("opened");
        newer.pragma_update(None, "user_version", 1_000).expect("changed");
        assert!(matches!(probe(&settings, &data), Err(StorageError::Unavailable(_))));
        let text = StoreSettings { url: Secret::new("sqlite:text".to_owned()), ..settings };
        fs::write(data.join("text"), "no database, but long enough to be looked at").expect("written");
        assert!(matches!(probe(&text, &data), Err(StorageError::Unavailable(_))));
    }
}
