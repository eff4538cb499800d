//! What `config init` prints: the few lines that most servers need, ready to run.

use std::io;

use super::development::random_credentials;

/// A short file with one app, whose id, key and secret are random: a placeholder would be somebody's password.
///
/// # Errors
/// The system has no random numbers.
pub fn starter() -> io::Result<String> {
    let (id, key, secret) = random_credentials()?;
    Ok(format!(
        r#"# Every setting with its default: switchboard config reference
[server]
bind = "127.0.0.1:6001"    # behind a proxy on this machine; "0.0.0.0:6001" for containers

[store]
url = "sqlite:switchboard.db"    # or "postgres://user:password@host/database"

[[apps]]
id = "{id}"
key = "{key}"    # public: pages contain it
secrets = ["{secret}"]    # keep it private
allowed_origins = []    # pages that may connect, as in ["https://portal.example"]; empty: all
"#
    ))
}
