//! The command line and the configuration: layers, what is refused and how, development mode, secrets.

use std::fs;
use std::io::BufRead;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::DEADLINE;
use crate::harness::http::{Request, get};
use crate::harness::server::{Config, Finished, Output, TestServer, binary, end_with_us, run};
use crate::harness::sign::App;
use crate::harness::ws::WsClient;

const FREE_PORTS: &str = "[server]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n";
const APP: &str = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecrets = [\"hidden-secret\"]\n";

fn folder(file: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("switchboard.toml"), file).expect("written");
    folder
}

/// A command in `folder`, whose `switchboard.toml` is read without being named.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = binary();
    command.args(arguments).current_dir(folder);
    command
}

fn finished(folder: &Path, arguments: &[&str]) -> Finished {
    run(command(folder, arguments), "")
}

/// Fails unless every command refuses the file with exactly these problems and exit code 2.
fn expect_problems(file: &str, problems: &[&str]) {
    let folder = folder(file);
    let expected: String = problems.iter().map(|problem| format!("switchboard: {problem}\n")).collect();
    for arguments in [&["serve"][..], &["check"][..], &["config", "show"][..], &[][..]] {
        let ended = finished(folder.path(), arguments);
        assert_eq!(ended.stderr, expected, "{arguments:?}");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_key() {
    expect_problems(
        "[server]\nbind = \"127.0.0.1:0\"\nmax_conections = 5\n",
        &["switchboard.toml:3: server.max_conections: unknown key; did you mean server.max_connections?"],
    );
}

#[test]
fn an_unknown_section_is_refused() {
    expect_problems("[serer]\n", &["switchboard.toml:1: serer: unknown section; did you mean server?"]);
}

#[test]
fn every_problem_is_listed_at_once() {
    expect_problems(
        "[server]\nbnid = \"127.0.0.1:0\"\nheader_timeout = 30\nmax_connections = \"many\"\n\n\
         [admin]\nbind = 9601\n\n[[apps]]\nid = \"1\"\nsecrets = [\"s\"]\nevent_size = 100\n\
         client_events = \"yes\"\nenabled = \"maybe\"\n",
        &[
            "switchboard.toml:2: server.bnid: unknown key; did you mean server.bind?",
            "switchboard.toml:3: server.header_timeout: \"30\" needs a unit: ms, s, m or h, as in \"30s\" or \"2m30s\"",
            "switchboard.toml:4: server.max_connections: expected a whole number without quotes, found a string",
            "switchboard.toml:7: admin.bind: expected a string in quotes, found a number",
            "switchboard.toml:12: apps.0.event_size: \"100\" needs a unit: B, KB, MB or GB, as in \"10KB\"",
            "switchboard.toml:13: apps.0.client_events: must be \"off\" or \"members\", not \"yes\"",
            "switchboard.toml:14: apps.0.enabled: expected true or false without quotes, found a string",
            "switchboard.toml:9: apps.0: key is missing; an app needs id, key and secrets",
        ],
    );
}

#[test]
fn a_variable_that_does_not_exist_is_refused_and_one_in_a_comment_is_not() {
    let file = format!("# ${{IN_A_COMMENT}}\n{FREE_PORTS}{}", APP.replace("hidden-secret", "${GONE}"));
    expect_problems(
        &file,
        &["switchboard.toml:9: apps.0.secrets: ${GONE} is not set; set it or write ${GONE:-default}"],
    );
    let folder = folder(&file);
    let mut command = command(folder.path(), &["check"]);
    command.env("GONE", "found");
    assert_eq!(run(command, "").code, Some(0));
    fs::write(folder.path().join("switchboard.toml"), file.replace("${GONE}", "${GONE:-default}"))
        .expect("written");
    assert_eq!(finished(folder.path(), &["check"]).code, Some(0));
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_refused() {
    let folder = folder("[server\n");
    for command in ["serve", "check"] {
        let ended = finished(folder.path(), &[command, "--config", "missing.toml"]);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.starts_with("switchboard: missing.toml: cannot be read: "), "{}", ended.stderr);
        let ended = finished(folder.path(), &[command]);
        assert_eq!(ended.code, Some(2));
        assert!(
            ended.stderr.starts_with("switchboard: switchboard.toml:1: is not TOML: "),
            "{}",
            ended.stderr
        );
    }
    let ended = finished(folder.path(), &["check", "--env-file", "missing.env"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("missing.env: cannot be read: "), "{}", ended.stderr);
}

#[test]
fn a_wrong_variable_or_flag_is_refused_by_its_name() {
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    for (name, value, part) in [
        (
            "SWITCHBOARD__SERVER__IDLE_TIMEOUT",
            "30",
            "environment SWITCHBOARD__SERVER__IDLE_TIMEOUT: server.idle_timeout: \"30\" needs a unit",
        ),
        (
            "SWITCHBOARD__SERVER__BNID",
            "x",
            "environment SWITCHBOARD__SERVER__BNID: server.bnid: unknown key; did you mean SWITCHBOARD__SERVER__BIND?",
        ),
    ] {
        let mut command = command(folder.path(), &["check"]);
        command.env(name, value);
        let ended = run(command, "");
        assert_eq!(ended.code, Some(2), "{name}");
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    let ended = finished(folder.path(), &["serve", "--bind", "6001"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("flag --bind: server.bind: "), "{}", ended.stderr);
    for arguments in [&["nonsense"][..], &["serve", "--nonsense"][..], &["config"][..]] {
        assert_eq!(finished(folder.path(), arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn a_variable_with_one_underscore_is_refused_and_what_kubernetes_sets_is_not() {
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let mut slip = command(folder.path(), &["serve"]);
    slip.env("SWITCHBOARD_SERVER_BIND", "127.0.0.1:0");
    let ended = run(slip, "");
    assert_eq!(ended.code, Some(2));
    let expected = "switchboard: environment SWITCHBOARD_SERVER_BIND: is not a setting: two underscores separate the \
                    levels of a name; did you mean SWITCHBOARD__SERVER__BIND?\n";
    assert_eq!(ended.stderr, expected);
    let mut injected = command(folder.path(), &["check"]);
    injected
        .env("SWITCHBOARD_SERVICE_HOST", "10.0.0.1")
        .env("SWITCHBOARD_SERVICE_PORT", "6001")
        .env("SWITCHBOARD_PORT", "tcp://10.0.0.1:6001")
        .env("SWITCHBOARD_PORT_6001_TCP", "tcp://10.0.0.1:6001")
        .env("SWITCHBOARD_PORT_6001_TCP_ADDR", "10.0.0.1");
    let ended = run(injected, "");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(!ended.stdout.contains("SWITCHBOARD_"), "{}", ended.stdout);
}

#[tokio::test]
async fn variables_of_other_servers_do_not_stop_the_start_and_are_logged_with_ours() {
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let app = App::new("1", "k", "hidden-secret");
    let mut command = command(folder.path(), &["serve", "--json"]);
    command.env("SOKETI_PORT", "6001").env("REVERB_HOST", "localhost");
    let server = TestServer::launch(command, vec![app], Some(folder));
    let log = server.output();
    assert!(log.contains("environment SOKETI_PORT: has no effect: set SWITCHBOARD__SERVER__PORT"), "{log}");
    assert!(!log.contains("REVERB_HOST"), "{log}");
}

#[test]
fn a_taken_port_is_reported_once_with_another_to_choose() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let bind = taken.local_addr().expect("an address").to_string();
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    for (arguments, variable, part) in [
        (&["serve", "--bind", &bind][..], "UNUSED", "as in --bind 127.0.0.1:"),
        (&["serve"][..], "SWITCHBOARD__ADMIN__BIND", "as in SWITCHBOARD__ADMIN__BIND=127.0.0.1:"),
    ] {
        let mut command = command(folder.path(), arguments);
        command.env(variable, &bind);
        let ended = run(command, "");
        assert_eq!(ended.code, Some(1));
        assert_eq!(ended.stderr.matches(&bind).count(), 1, "{}", ended.stderr);
        assert!(
            ended.stderr.contains("another program listens on port") && ended.stderr.contains(part),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn the_file_that_init_prints_serves_as_it_is() {
    let folder = folder("");
    let ended = finished(folder.path(), &["config", "init"]);
    fs::write(folder.path().join("switchboard.toml"), &ended.stdout).expect("written");
    let ended = finished(folder.path(), &["check", "--bind", "127.0.0.1:0", "--json"]);
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(answer["checks"][0]["detail"], "switchboard.toml, 1 app");
}

#[test]
fn problems_come_as_json_too() {
    let folder = folder("[server]\nbnid = 1\nidle_timeout = 5\n");
    for command in ["serve", "check"] {
        let ended = finished(folder.path(), &[command, "--json"]);
        assert_eq!(ended.code, Some(2));
        assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
        let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert_eq!(answer["event"], "invalid_configuration");
        let expected = json!({
            "where": "switchboard.toml:2", "key": "server.bnid", "message": "unknown key", "nearest": "server.bind", "advice": null,
        });
        assert_eq!(answer["problems"][0], expected);
        assert_eq!(answer["problems"][1]["key"], "server.idle_timeout");
        assert_eq!(answer["problems"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn check_says_what_it_looked_at_and_starts_nothing() {
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let ended = finished(folder.path(), &["check", "--json", "--bind", "127.0.0.1:0"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(answer["ok"], true);
    let names: Vec<_> =
        answer["checks"].as_array().expect("checks").iter().map(|c| c["check"].clone()).collect();
    let expected =
        ["configuration", "server.bind", "admin.bind", "open files", "memory", "store.url", "store.max_size"];
    assert_eq!(names, expected);
    let files: Vec<_> = fs::read_dir(folder.path()).expect("readable").collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[test]
fn a_taken_address_fails_with_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let check = finished(folder.path(), &["check", "--bind", &address]);
    assert_eq!(check.code, Some(1));
    assert!(
        check.stdout.lines().any(|line| line.starts_with("failed   server.bind") && line.contains(&address)),
        "{}",
        check.stdout
    );
    let serve = finished(folder.path(), &["serve", "--bind", &address]);
    assert_eq!(serve.code, Some(1));
    assert!(
        serve.stderr.contains(&format!("switchboard: cannot listen on {address} (server.bind): ")),
        "{}",
        serve.stderr
    );
    assert!(!serve.stdout.contains("ready"), "{}", serve.stdout);
}

#[test]
fn more_connections_than_files_fail_the_check() {
    let file = format!("{}{APP}", FREE_PORTS.replace("[admin]", "max_connections = 16000000\n[admin]"));
    let folder = folder(&file);
    let ended = finished(folder.path(), &["check", "--json"]);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"));
    let files = &answer["checks"][3];
    assert_eq!(
        (files["check"].as_str(), files["status"].as_str()),
        (Some("open files"), Some("failed")),
        "{answer}"
    );
    assert_eq!(ended.code, Some(1));
}

#[test]
fn show_prints_every_value_with_its_source_and_no_secret() {
    let folder = folder(&format!("{FREE_PORTS}token = \"hidden-token\"\n{APP}event_size = \"10KB\"\n"));
    let mut show = command(folder.path(), &["config", "show", "--log-level", "debug"]);
    show.env("SWITCHBOARD__SERVER__DRAIN__WINDOW", "5s");
    let ended = run(show, "");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for (start, end) in [
        ("server.bind = \"127.0.0.1:0\" ", "# switchboard.toml:2"),
        ("server.max_connections = 50000 ", "# default"),
        ("server.drain.window = \"5s\" ", "# environment SWITCHBOARD__SERVER__DRAIN__WINDOW"),
        ("log.level = \"debug\" ", "# flag --log-level"),
        ("admin.token = \"sha256:", "# switchboard.toml:5"),
        ("apps.0.id = \"1\" ", "# switchboard.toml:7"),
        ("apps.0.secrets = [\"sha256:", "# switchboard.toml:9"),
        ("apps.0.event_size = \"10KB\" ", "# switchboard.toml:10"),
        ("apps.0.cache_ttl = \"30m\" ", "# default"),
    ] {
        let found = ended.stdout.lines().any(|line| line.starts_with(start) && line.ends_with(end));
        assert!(found, "{start}… {end} is not in\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("hidden"), "{}", ended.stdout);
    let as_json = finished(folder.path(), &["config", "show", "--json"]).stdout;
    let settings: Value = serde_json::from_str(&as_json).expect("JSON");
    let setting =
        settings["settings"].as_array().expect("a list").iter().find(|s| s["key"] == "apps.0.event_size");
    let expected = json!({"key": "apps.0.event_size", "value": "10KB", "source": "switchboard.toml:10"});
    assert_eq!(setting, Some(&expected));
    assert!(!as_json.contains("hidden"), "{as_json}");
}

#[test]
fn version_is_printed_for_people_and_programs() {
    let folder = folder("");
    let version = env!("CARGO_PKG_VERSION");
    for arguments in [&["version"][..], &["--version"][..]] {
        let ended = finished(folder.path(), arguments);
        assert_eq!((ended.code, ended.stdout), (Some(0), format!("switchboard {version}\n")));
    }
    let ended = finished(folder.path(), &["version", "--json"]);
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(answer, json!({"name": "switchboard", "version": version}));
}

#[tokio::test]
async fn the_printed_starter_file_starts() {
    let folder = folder("");
    let starter = finished(folder.path(), &["config", "init"]);
    assert_eq!(starter.code, Some(0));
    fs::write(folder.path().join("switchboard.toml"), starter.stdout).expect("written");
    let ended = finished(folder.path(), &["config", "show"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

/// A command that serves on free ports from `folder`, with these variables.
fn serve(folder: &TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = command(folder.path(), &["serve", "--json"]);
    command.args(arguments);
    command.env("SWITCHBOARD__SERVER__BIND", "127.0.0.1:0").env("SWITCHBOARD__ADMIN__BIND", "127.0.0.1:0");
    command.envs(variables.iter().copied());
    command
}

/// Publishes with the app's credentials and receives with its key.
async fn expect_serves(server: &TestServer) {
    let mut client = WsClient::connect(server).await;
    client.subscribe("private-news").await;
    server.publish("private-news", "e", "1").await;
    assert_eq!(client.expect("e").await.data(), "1");
}

fn empty_folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

#[tokio::test]
async fn each_familys_variables_define_an_app() {
    for family in ["PUSHER_APP", "REVERB_APP", "SOKETI_DEFAULT_APP"] {
        let folder = empty_folder();
        let app = App::new("77", "family-key", "family,secret");
        let names = ["ID", "KEY", "SECRET"].map(|part| format!("{family}_{part}"));
        let variables = [(&*names[0], &*app.id), (&*names[1], &*app.key), (&*names[2], &*app.secret)];
        let server = TestServer::launch(serve(&folder, &[], &variables), vec![app], Some(folder));
        expect_serves(&server).await;
        assert!(
            !server.folder().join("switchboard-data/development-app.toml").exists(),
            "no development app is made"
        );
    }
}

#[tokio::test]
async fn pushers_variables_come_first_and_a_file_with_an_app_before_all() {
    let pusher = [("PUSHER_APP_ID", "7"), ("PUSHER_APP_KEY", "pusher-key"), ("PUSHER_APP_SECRET", "p")];
    let reverb = [("REVERB_APP_ID", "8"), ("REVERB_APP_KEY", "reverb-key"), ("REVERB_APP_SECRET", "r")];
    let both = [pusher, reverb].concat();
    let in_file = App::new("1", "k", "hidden-secret");
    for (file, app) in [("", App::new("7", "pusher-key", "p")), (APP, in_file)] {
        let folder = folder(file);
        let server = TestServer::launch(serve(&folder, &[], &both), vec![app], Some(folder));
        expect_serves(&server).await;
        let other = App::new("8", "reverb-key", "r");
        Request::get(&other, "/apps/8/channels").send(server.public).await.expect_error(401, "auth_key");
        let mut refused = WsClient::open(server.public, &other, "/app/reverb-key?protocol=7", &[]).await;
        refused.expect_error(4001, "App key reverb-key does not exist.").await;
        refused.expect_close(4001).await;
    }
}

#[tokio::test]
async fn a_laravel_env_file_defines_the_app() {
    let folder = empty_folder();
    let env = "APP_NAME=\"My App\"\n# a comment\nBROADCAST_CONNECTION=pusher\n\nexport PUSHER_APP_ID=42\n\
               BASE=base\nPUSHER_APP_KEY=\"${BASE}-key\" # its key\nPUSHER_APP_SECRET='se${cr}et'\nPUSHER_HOST=\n";
    fs::write(folder.path().join(".env"), env).expect("written");
    let app = App::new("42", "base-key", "se${cr}et");
    let server = TestServer::launch(serve(&folder, &["--env-file", ".env"], &[]), vec![app], Some(folder));
    expect_serves(&server).await;
}

#[test]
fn half_an_app_is_refused_with_what_is_missing() {
    let folder = empty_folder();
    let ended = run(serve(&folder, &[], &[("REVERB_APP_ID", "1"), ("REVERB_APP_KEY", "k")]), "");
    assert_eq!(ended.code, Some(2));
    let expected = "switchboard: environment REVERB_APP_ID: apps.0: is set without REVERB_APP_SECRET; an app needs all three\n";
    assert_eq!(ended.stderr, expected);
}

/// `switchboard` without any app and without `--json`, as a newcomer starts it.
struct Development {
    child: Child,
    guard: Child,
    stdout: Output,
    stderr: Output,
}

impl Development {
    /// Starts and waits for the last line of what is printed.
    fn start(folder: &Path) -> Self {
        let mut command = command(folder, &[]);
        command
            .env("SWITCHBOARD__SERVER__BIND", "127.0.0.1:0")
            .env("SWITCHBOARD__ADMIN__BIND", "127.0.0.1:0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let guard = end_with_us(child.id());
        let (stdout, stderr) = (Output::default(), Output::default());
        let (sender, printed) = mpsc::channel();
        stdout.follow(child.stdout.take().expect("piped"), move |line| {
            if line.contains("switchboard serve --env-file") {
                // Nobody waits any more once this has been seen.
                let _ = sender.send(());
            }
        });
        stderr.follow(child.stderr.take().expect("piped"), |_| {});
        let started = Self { child, guard, stdout, stderr };
        if printed.recv_timeout(DEADLINE).is_err() {
            panic!("no snippet\n{}{}", started.stdout.text(), started.stderr.text());
        }
        started
    }

    /// The value behind `name` at the start of a line.
    fn value(&self, name: &str) -> String {
        let text = self.stdout.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no line {name:?} in\n{text}")).trim().to_owned()
    }

    fn app(&self) -> App {
        let [id, key, secret] =
            ["PUSHER_APP_ID=", "PUSHER_APP_KEY=", "PUSHER_APP_SECRET="].map(|name| self.value(name));
        App::new(&id, &key, &secret)
    }

    fn public(&self) -> SocketAddr {
        format!("{}:{}", self.value("PUSHER_HOST="), self.value("PUSHER_PORT=")).parse().expect("an address")
    }
}

impl Drop for Development {
    fn drop(&mut self) {
        for child in [&mut self.guard, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test]
async fn development_mode_prints_what_to_paste_and_serves_it_also_after_a_restart() {
    let folder = empty_folder();
    let first = Development::start(folder.path());
    let app = first.app();
    assert!(app.id.bytes().all(|byte| byte.is_ascii_digit()) && !app.id.starts_with('0'), "{app:?}");
    assert!(app.key.len() >= 16 && app.secret.len() >= 32, "{app:?}");
    let port = first.public().port().to_string();
    let text = first.stdout.text();
    for line in
        [&format!("REVERB_APP_KEY={}", app.key), "PUSHER_SCHEME=http", "VITE_PUSHER_PORT=\"${PUSHER_PORT}\""]
    {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
    }
    // The command prints the same blocks for the same app.
    for form in ["reverb", "pusher"] {
        let url = format!("http://127.0.0.1:{port}");
        let block = finished(folder.path(), &["laravel", "env", "--form", form, "--url", &url]);
        assert_eq!(block.code, Some(0), "{}", block.stderr);
        assert!(text.contains(&format!("\n\n{}\n", block.stdout)), "{} is not in\n{text}", block.stdout);
    }
    assert!(text.lines().count() <= 50, "it does not fit one terminal\n{text}");
    assert!(text.contains(&format!("http://127.0.0.1:{port}")), "{text}");

    let path = format!("/app/{}?protocol=7", app.key);
    let mut client = WsClient::open(first.public(), &app, &path, &[]).await.established().await;
    client.subscribe("news").await;
    let body = json!({"name": "e", "channel": "news", "data": "1"});
    Request::trigger(&app, &body).send(first.public()).await.expect_ok("{}");
    assert_eq!(client.expect("e").await.data(), "1");
    assert!(!first.stderr.text().contains(&app.secret), "the secret is printed, not logged");
    drop(first);

    let again = Development::start(folder.path());
    assert_eq!(again.app(), app);
    Request::get(&app, &app.path("channels")).send(again.public()).await.expect_status(200);
    let elsewhere = empty_folder();
    assert_ne!(Development::start(elsewhere.path()).app().secret, app.secret);
}

#[test]
fn development_mode_is_not_offered_to_the_network() {
    let folder = empty_folder();
    for bind in ["0.0.0.0:0", "[::]:0", "192.0.2.1:6001"] {
        let ended = finished(folder.path(), &["serve", "--bind", bind]);
        assert_eq!(ended.code, Some(2), "{bind}");
        let expected = format!(
            "switchboard: flag --bind: server.bind: {bind} is not a loopback address, and no app is configured: \
             set PUSHER_APP_ID, PUSHER_APP_KEY and PUSHER_APP_SECRET, or write [[apps]] with id, key and secrets \
             into switchboard.toml\n"
        );
        assert_eq!((ended.stderr, ended.stdout.as_str()), (expected, ""));
    }
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
}

#[test]
fn the_operators_port_is_not_offered_to_the_network_without_a_token() {
    let folder = folder(&format!("[admin]\nbind = \"0.0.0.0:0\"\n{APP}"));
    let ended = finished(folder.path(), &["serve", "--bind", "127.0.0.1:0"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .stderr
            .contains("switchboard.toml:2: admin.bind: 0.0.0.0:0 is not a loopback address: set admin.token"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn any_of_an_apps_secrets_signs_requests_and_subscriptions() {
    let folder = folder(&format!("{FREE_PORTS}{}", APP.replace("[\"hidden-secret\"]", "[\"new\", \"old\"]")));
    let apps = ["new", "old", "older"].map(|secret| App::new("1", "k", secret));
    let server =
        TestServer::launch(command(folder.path(), &["serve", "--json"]), apps.to_vec(), Some(folder));
    for app in &apps[..2] {
        let mut client = WsClient::connect_to(&server, app).await;
        client.subscribe("private-news").await;
        client.join_as("presence-news", "1").await;
        client.sign_in(r#"{"id":"1"}"#).await;
        server.publish_to(app, "private-news", "e", "1").await;
        client.wait_for("e").await;
    }
    let older = &apps[2];
    Request::get(older, "/apps/1/channels").send(server.public).await.expect_error(401, "Invalid signature");
    let mut client = WsClient::connect_to(&server, older).await;
    client.send_subscribe_private("private-news").await;
    client.expect_not_subscribed("private-news", "AuthError", 401, "Invalid signature").await;
}

#[tokio::test]
async fn secrets_may_come_from_files() {
    let folder = folder(&format!(
        "{FREE_PORTS}{}",
        APP.replace("secrets = [\"hidden-secret\"]", "secrets_file = \"secrets\"")
    ));
    fs::write(folder.path().join("secrets"), "new\nold\n").expect("written");
    let apps = ["new", "old"].map(|secret| App::new("1", "k", secret));
    let server =
        TestServer::launch(command(folder.path(), &["serve", "--json"]), apps.to_vec(), Some(folder));
    for app in &apps {
        server.publish_to(app, "news", "e", "1").await;
    }

    let folder = empty_folder();
    fs::write(folder.path().join("secret"), "from-a-file\n").expect("written");
    let variables = [
        ("SWITCHBOARD__APPS__0__ID", "1"),
        ("SWITCHBOARD__APPS__0__KEY", "k"),
        ("SWITCHBOARD__APPS__0__SECRETS_FILE", "secret"),
    ];
    let app = App::new("1", "k", "from-a-file");
    let server = TestServer::launch(serve(&folder, &[], &variables), vec![app], Some(folder));
    expect_serves(&server).await;
}

#[tokio::test]
async fn no_secret_is_in_any_log_or_answer() {
    let folder = folder(&format!(
        "[log]\nlevel = \"trace\"\nformat = \"json\"\n{FREE_PORTS}token = \"hidden-token\"\n{APP}"
    ));
    let app = App::new("1", "k", "hidden-secret");
    let server =
        TestServer::launch(command(folder.path(), &["serve", "--json"]), vec![app.clone()], Some(folder));
    expect_serves(&server).await;
    let wrong = App::new("1", "k", "wrong");
    let refused = Request::get(&wrong, "/apps/1/channels").send(server.public).await.expect_status(401);
    let mut client = WsClient::connect_to(&server, &wrong).await;
    client.send_subscribe_private("private-news").await;
    let text = client.expect_not_subscribed("private-news", "AuthError", 401, "Invalid signature").await;
    client.send_signin(r#"{"id":"1"}"#).await;
    let error = client.expect_error(4009, "").await;
    let metrics = get(server.admin, "/metrics").await;
    server.signal(rustix::process::Signal::INT);
    server.exit_status(DEADLINE).await;
    for text in [refused.text(), text, error.text, metrics.text(), server.output()] {
        assert!(!text.contains("hidden"), "{text}");
    }
    let log = server.output();
    let lines = log.lines().filter(|line| !line.contains("\"event\":\"ready\""));
    for line in lines {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_both_values_logged() {
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let mut limited = Command::new("sh");
    let program = binary();
    limited.args(["-c", "ulimit -Sn 200; exec \"$0\" serve --json"]).arg(program.get_program());
    limited
        .current_dir(folder.path())
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let app = App::new("1", "k", "hidden-secret");
    let server = TestServer::launch(limited, vec![app], Some(folder));
    let limits = fs::File::open(format!("/proc/{}/limits", server.pid)).expect("readable");
    let line = std::io::BufReader::new(limits)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("Max open files"))
        .expect("a line about files");
    let [soft, hard] = [3, 4].map(|word| line.split_whitespace().nth(word).expect("a limit").to_owned());
    assert_eq!(soft, hard);
    let log = server.output();
    let entry = log.lines().find(|line| line.contains("open files")).expect("a log line");
    assert!(entry.contains("200") && entry.contains(&hard), "{entry}");
}

#[tokio::test]
async fn environment_and_flags_cover_the_file() {
    let folder = folder(&format!("{}{APP}", FREE_PORTS.replace("127.0.0.1:0", "127.0.0.1:1")));
    let size = [("SWITCHBOARD__APPS__0__EVENT_SIZE", "1KB")];
    let app = App::new("1", "k", "hidden-secret");
    let server =
        TestServer::launch(serve(&folder, &["--bind", "127.0.0.1:0"], &size), vec![app], Some(folder));
    let body = json!({"name": "e", "channel": "c", "data": "x".repeat(1_025)});
    Request::trigger(server.app(), &body).send(server.public).await.expect_error(413, "1024 bytes");
}

#[tokio::test]
async fn the_ready_line_is_the_first_and_only_one() {
    let server = Config::new().start();
    server.publish("c", "e", "1").await;
    server.signal(rustix::process::Signal::INT);
    server.exit_status(DEADLINE).await;
    let ready: Vec<_> =
        server.output().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
    let expected = json!({
        "event": "ready", "public": server.public.to_string(), "admin": server.admin.to_string(), "pid": server.pid,
    });
    assert_eq!(ready, [expected]);
}
