//! Whole commands: what they print and how they end.

use std::fs;

use serde_json::Value;

use super::*;

struct Ended {
    exit: Exit,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).expect("one JSON value")
    }
}

/// Runs a command line in which `@` stands for the folder.
fn command(folder: &Path, line: &str) -> Ended {
    let folder = folder.to_str().expect("text");
    let arguments = line.split(' ').map(|word| OsString::from(word.replace('@', folder)));
    let data = ("SWITCHBOARD__SERVER__DATA_DIR".into(), format!("{folder}/data").into());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run(arguments, vec![data], &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { exit, out: text(out), err: text(err) }
}

fn folder(file: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("c.toml"), file).expect("write");
    folder
}

const FREE_PORTS: &str = "[server]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n";
const APP: &str = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecrets = [\"hidden\"]\n";

#[test]
fn exit_codes_of_every_kind() {
    let good = folder(&format!("{FREE_PORTS}{APP}"));
    let bad = folder("[server]\nbnid = 1\n");
    for (line, exit) in [
        ("switchboard version", Exit::Fine),
        ("switchboard --version", Exit::Fine),
        ("switchboard --help", Exit::Fine),
        ("switchboard config init", Exit::Fine),
        ("switchboard config docs --json", Exit::Fine),
        ("switchboard check --config @/c.toml", Exit::Fine),
        ("switchboard --config @/c.toml check", Exit::Fine),
        ("switchboard config show --config @/c.toml", Exit::Fine),
        ("switchboard check --config @/missing.toml", Exit::Misused),
        ("switchboard check --config @/c.toml --env-file @/missing", Exit::Misused),
        ("switchboard check --config @/c.toml --bind 6001", Exit::Misused),
        ("switchboard check --config @/c.toml --log-level loud", Exit::Misused),
        ("switchboard nonsense", Exit::Misused),
        ("switchboard config", Exit::Misused),
        ("switchboard --nonsense", Exit::Misused),
    ] {
        let ended = command(good.path(), line);
        assert_eq!(ended.exit, exit, "{line}: {}{}", ended.out, ended.err);
        let is_quiet = ended.err.is_empty();
        assert_eq!(is_quiet, exit == Exit::Fine, "{line}: {}", ended.err);
    }
    for line in ["serve", "check", "config show"] {
        let ended = command(bad.path(), &format!("switchboard {line} --config @/c.toml"));
        assert_eq!(ended.exit, Exit::Misused, "{line}");
        assert!(
            ended.err.contains("c.toml:2: server.bnid: unknown key; did you mean server.bind?"),
            "{}",
            ended.err
        );
        assert_eq!(ended.out, "");
    }
}

#[test]
fn problems_are_json_when_asked_for() {
    let folder = folder("[server]\nbnid = 1\n");
    let ended = command(folder.path(), "switchboard serve --json --config @/c.toml");
    let answer = ended.json();
    assert_eq!(answer["event"], "invalid_configuration");
    assert_eq!(answer["problems"][0]["key"], "server.bnid");
    assert_eq!(answer["problems"][0]["nearest"], "server.bind");
    assert!(ended.err.contains("server.bnid"));
}

#[test]
fn a_taken_address_fails_with_its_cause() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("free port");
    let bind = taken.local_addr().expect("address");
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let ended = command(folder.path(), &format!("switchboard check --json --config @/c.toml --bind {bind}"));
    assert_eq!((ended.exit, &ended.json()["ok"]), (Exit::Failed, &Value::Bool(false)));
    assert_eq!(ended.json()["checks"][1]["status"], "failed");
}

#[test]
fn show_tells_sources_and_no_secrets() {
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let line = "switchboard config show --config @/c.toml --log-level debug";
    let ended = command(folder.path(), line);
    let has =
        |start: &str, end: &str| ended.out.lines().any(|line| line.starts_with(start) && line.ends_with(end));
    assert!(has("log.level = \"debug\" ", "# flag --log-level"), "{}", ended.out);
    assert!(has("server.max_connections = 50000 ", "# default"), "{}", ended.out);
    assert!(has("server.data_dir = ", "# environment SWITCHBOARD__SERVER__DATA_DIR"), "{}", ended.out);
    assert!(has("apps.0.id = \"1\" ", "c.toml:6"), "{}", ended.out);
    assert!(has("admin.token is not set ", "# default"), "{}", ended.out);
    assert!(has("apps.0.secrets = [\"sha256:", "c.toml:8"), "{}", ended.out);
    assert!(!ended.out.contains("hidden"), "{}", ended.out);
    let answer = command(folder.path(), &format!("{line} --json")).json();
    assert_eq!(answer["development"], false);
    assert_eq!(answer["settings"][0]["key"], "server.bind");
    assert!(!answer.to_string().contains("hidden"));
}

#[test]
fn looking_makes_no_development_app() {
    let folder = folder(FREE_PORTS);
    for line in ["check", "config show"] {
        let ended = command(folder.path(), &format!("switchboard {line} --config @/c.toml"));
        assert_eq!(ended.exit, Exit::Fine, "{}", ended.err);
    }
    assert!(!folder.path().join("data").exists());
}

#[test]
fn init_and_docs_print_what_the_library_makes() {
    let folder = folder("");
    assert_eq!(command(folder.path(), "switchboard config init").out, crate::config::starter());
    assert_eq!(command(folder.path(), "switchboard config docs").out, crate::config::reference());
    let keys = command(folder.path(), "switchboard config docs --json").json();
    assert_eq!(keys["keys"][0]["key"], "server.bind");
    assert_eq!(command(folder.path(), "switchboard version --json").json()["name"], "switchboard");
}
