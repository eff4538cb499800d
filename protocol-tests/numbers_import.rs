//! `switchboard numbers import`: long work on the real binary, and Ctrl-C in the middle of it.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::DEADLINE;
use crate::harness::databases::postgres;
use crate::harness::server::{Finished, Output, binary, end_with_us, run};

const NUMBERS: usize = 2_000;

/// A folder with an app on this store and a file of numbers.
fn folder(store: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let config = format!(
        "[store]\nurl = \"{store}\"\n[server]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [[apps]]\nid = \"1\"\nkey = \"k\"\nsecrets = [\"s\"]\n"
    );
    fs::write(folder.path().join("switchboard.toml"), config).expect("written");
    let mut file = "number,user_id,label,is_default\n".to_owned();
    for n in 0..NUMBERS {
        let _ = writeln!(file, "+1312{:07},{n},Line {n},1", 2_000_000 + n);
    }
    fs::write(folder.path().join("numbers.csv"), file).expect("written");
    folder
}

fn numbers(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = binary();
    command.arg("numbers").args(arguments).current_dir(folder);
    command
}

fn count(folder: &Path) -> usize {
    let ended = run(numbers(folder, &["list", "--json"]), "");
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    answer["phone_numbers"].as_array().map_or(0, Vec::len)
}

/// Imports, and sends SIGINT as soon as the import reports that it has begun.
fn interrupted(folder: &Path) -> Finished {
    let mut command = numbers(folder, &["import", "numbers.csv"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut guard = end_with_us(child.id());
    let (stdout, stderr) = (Output::default(), Output::default());
    let (sender, begun) = mpsc::channel();
    stdout.follow(child.stdout.take().expect("piped"), |_| {});
    let (ended_sender, ended) = mpsc::channel::<()>();
    stderr.follow(child.stderr.take().expect("piped"), move |line| {
        let _ = &ended_sender;
        if line.ends_with("of 2000 numbers") {
            let _ = sender.send(());
        }
    });
    begun.recv_timeout(DEADLINE).expect("the import begins");
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a process id");
    kill_process(pid, Signal::INT).expect("signalled");
    assert_eq!(ended.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected), "it ends");
    let code = child.wait().expect("waited").code();
    let _ = guard.kill();
    let _ = guard.wait();
    Finished { code, stdout: stdout.text(), stderr: stderr.text() }
}

fn expect_whole_pages_after_ctrl_c(folder: &Path) {
    let ended = interrupted(folder);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    let text = ended.stderr.lines().last().expect("a line");
    let imported =
        text.strip_prefix("switchboard: stopped: the first ").and_then(|text| text.split(' ').next());
    let imported: usize = imported.and_then(|number| number.parse().ok()).expect(text);
    assert!(imported < NUMBERS && text.ends_with("The same command imports the rest"), "{text}");
    assert_eq!(count(folder), imported);

    let ended = run(numbers(folder, &["import", "numbers.csv"]), "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let summary = format!("{} new, 0 changed, {imported} unchanged\n", NUMBERS - imported);
    assert!(
        ended.stdout.starts_with("2000 numbers imported") && ended.stdout.ends_with(&summary),
        "{}",
        ended.stdout
    );
    assert_eq!(count(folder), NUMBERS);
}

#[test]
fn ctrl_c_keeps_whole_pages_says_how_many_and_the_same_command_imports_the_rest() {
    let folder = folder("sqlite:switchboard.db");
    expect_whole_pages_after_ctrl_c(folder.path());
}

#[tokio::test]
async fn ctrl_c_keeps_whole_pages_in_postgresql_too() {
    let database = postgres().await;
    let folder = folder(&database.url);
    tokio::task::spawn_blocking(move || expect_whole_pages_after_ctrl_c(folder.path()))
        .await
        .expect("no panic");
}

#[test]
fn a_wrong_line_is_named_with_column_and_value_and_nothing_is_imported() {
    let folder = folder("sqlite:switchboard.db");
    let file = "number,user_id,status\n+13125550100,7,\n+1312,8,\n+13125550101,9,active\n";
    fs::write(folder.path().join("numbers.csv"), file).expect("written");
    let ended = run(numbers(folder.path(), &["import", "numbers.csv"]), "");
    assert_eq!(ended.code, Some(1));
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(
        lines[0].starts_with("switchboard: line 4: status \"active\": is no status: write one of"),
        "{lines:?}"
    );
    assert_eq!(
        lines.last(),
        Some(&"switchboard: nothing was imported: correct these lines and import the file again")
    );
    fs::write(folder.path().join("numbers.csv"), file.replace("active", "assigned")).expect("written");
    let ended = run(numbers(folder.path(), &["import", "numbers.csv"]), "");
    assert!(ended.stderr.starts_with("switchboard: line 3: number \"+1312\": "), "{}", ended.stderr);
    assert_eq!(count(folder.path()), 0);
}
