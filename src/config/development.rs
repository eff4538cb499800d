//! The development app: random credentials that survive a restart, so that nothing has a default password.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use toml_edit::Document;

use super::problem::{Origin, Problem};
use super::{AppSettings, ClientEvents};

const FILE_NAME: &str = "development-app.toml";

/// Where the app is kept.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// The app of an earlier start, if there was one.
///
/// # Errors
/// The file cannot be read or is not what [`create`] wrote. It is not replaced: clients may use its key.
pub(super) fn load(data_dir: &Path) -> Result<Option<AppSettings>, Problem> {
    let path = path(data_dir);
    let problem = |fault: String| {
        let message = format!("{fault}; delete the file to get a new development app");
        Problem::new(Origin::whole_file(&path), "", message)
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(format!("cannot be read: {error}"))),
    };
    let document =
        Document::parse(text).map_err(|error| problem(format!("is not TOML: {}", error.message())))?;
    let value = |name: &str| document.get(name).and_then(|item| item.as_str()).unwrap_or_default();
    let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    let [id, key, secret] = ["id", "key", "secret"].map(value);
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) || !is_hex(key, 20) || !is_hex(secret, 40) {
        return Err(problem("does not hold a development app".to_owned()));
    }
    Ok(Some(app(id, key, secret)))
}

/// The app of an earlier start, or a new one.
///
/// # Errors
/// As [`load`]; or the file cannot be written.
pub(super) fn load_or_create(data_dir: &Path) -> Result<AppSettings, Problem> {
    if let Some(app) = load(data_dir)? {
        return Ok(app);
    }
    create(data_dir).map_err(|error| {
        let message = format!("cannot be written: {error}; set server.data_dir to a folder that can");
        Problem::new(Origin::whole_file(&path(data_dir)), "", message)
    })?;
    // Read back, because another process may have been first.
    load(data_dir)?
        .ok_or_else(|| Problem::new(Origin::whole_file(&path(data_dir)), "", "vanished while starting"))
}

fn app(id: &str, key: &str, secret: &str) -> AppSettings {
    // A developer who tries a whisper expects it to arrive.
    AppSettings { client_events: ClientEvents::Members, ..AppSettings::new(id, key, secret) }
}

/// Writes beside the final name and links, so that the file is whole or absent and the first of two
/// processes wins.
fn create(data_dir: &Path) -> io::Result<()> {
    let mut folder = DirBuilder::new();
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        folder.mode(0o700);
        options.mode(0o600);
    }
    folder.recursive(true).create(data_dir)?;
    let (id, key, secret) = random_credentials()?;
    let temporary = data_dir.join(format!(".{FILE_NAME}.{id}.{}", std::process::id()));
    let mut file = options.write(true).create_new(true).open(&temporary)?;
    let text = format!(
        "# The app of development mode. Delete this file to get another one.\n\
         id = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n"
    );
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| link(&temporary, &path(data_dir)));
    let removed = fs::remove_file(&temporary);
    linked.and(
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }),
    )
}

/// Id, key and secret of a new app.
pub(super) fn random_credentials() -> io::Result<(u32, String, String)> {
    let mut random = [0; 30];
    getrandom::fill(&mut random)?;
    // Six digits, never a leading zero: some SDKs read the id as a number.
    let id = 100_000 + getrandom::u32()? % 900_000;
    Ok((id, hex::encode(&random[..10]), hex::encode(&random[10..])))
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some mounted folders know no hard links; there a race of two first starts is accepted.
        Err(_) => fs::rename(from, to),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_is_random_private_and_survives_a_restart() {
        let folder = tempfile::tempdir().expect("folder");
        let data_dir = folder.path().join("a/b");
        assert_eq!(load(&data_dir), Ok(None));
        let first = load_or_create(&data_dir).expect("created");
        assert_eq!(load_or_create(&data_dir), Ok(first.clone()));
        assert_eq!(load(&data_dir), Ok(Some(first.clone())));
        assert_eq!((first.id.len(), first.key.len(), first.secrets[0].expose().len()), (6, 20, 40));
        assert_eq!(first.client_events, ClientEvents::Members);
        let names: Vec<_> =
            fs::read_dir(&data_dir).expect("folder").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, [FILE_NAME]);

        let other = tempfile::tempdir().expect("folder");
        let second = load_or_create(other.path()).expect("created");
        assert_ne!((first.key, &first.secrets), (second.key, &second.secrets));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        load_or_create(folder.path()).expect("created");
        let mode = fs::metadata(path(folder.path())).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_reported_and_kept() {
        for (text, why) in [
            ("id = ", "is not TOML"),
            ("", "does not hold a development app"),
            ("id = \"1\"\nkey = \"short\"\nsecret = \"short\"", "does not hold a development app"),
        ] {
            let folder = tempfile::tempdir().expect("folder");
            fs::write(path(folder.path()), text).expect("write");
            let problem = load_or_create(folder.path()).expect_err(text);
            assert!(problem.message.contains(why), "{problem}");
            assert!(problem.message.contains("delete the file"), "{problem}");
            assert_eq!(fs::read_to_string(path(folder.path())).expect("kept"), text);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_reported() {
        let folder = tempfile::tempdir().expect("folder");
        let occupied = folder.path().join("file");
        fs::write(&occupied, "").expect("write");
        let problem = load_or_create(&occupied.join("data")).expect_err("not a folder");
        assert!(problem.message.contains("cannot be"), "{problem}");
    }

    #[test]
    fn two_first_starts_agree() {
        let folder = tempfile::tempdir().expect("folder");
        let start = || load_or_create(folder.path()).expect("created").key;
        let (a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(start);
            (start(), other.join().expect("no panic"))
        });
        assert_eq!(a, b);
    }
}
