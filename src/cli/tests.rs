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
fn every_command_works_in_development_mode_before_and_after_the_first_start() {
    let folder = folder(FREE_PORTS);
    let run = |line: &str| command(folder.path(), &format!("switchboard {line} --config @/c.toml"));
    fs::write(folder.path().join("n.csv"), "number,user_id\n+13125550102,7\n").expect("write");
    let quiet =
        ["check", "config show", "config show --changed", "numbers list", "numbers import @/n.csv --dry-run"];
    for line in quiet {
        let ended = run(line);
        assert_eq!((ended.exit, ended.err.as_str()), (Exit::Fine, ""), "{line}: {}", ended.out);
    }
    assert_eq!(run("numbers list --json").json(), serde_json::json!({"app": null, "phone_numbers": []}));
    assert!(!folder.path().join("data").exists());

    // The import makes the development app, as a start does.
    assert_eq!(run("numbers import @/n.csv").out, "1 numbers imported: 1 new, 0 changed, 0 unchanged\n");
    for line in quiet {
        let ended = run(line);
        assert_eq!((ended.exit, ended.err.as_str()), (Exit::Fine, ""), "{line}: {}", ended.out);
    }
    assert!(run("numbers list").out.contains("+13125550102"), "{}", run("numbers list").out);
    for line in ["health", "webhooks list"] {
        let ended = run(line);
        assert_eq!(ended.exit, Exit::Failed, "{line}");
        let text = format!("{}{}", ended.out, ended.err);
        assert!(text.contains("no answer from") && text.contains("admin.bind"), "{text}");
    }
}

#[test]
fn changed_settings_are_shown_alone() {
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let ended = command(folder.path(), "switchboard config show --changed --config @/c.toml");
    let keys: Vec<_> = ended.out.lines().filter_map(|line| line.split(' ').next()).collect();
    let expected =
        ["server.bind", "server.data_dir", "admin.bind", "apps.0.id", "apps.0.key", "apps.0.secrets"];
    assert_eq!(
        keys.iter().filter(|key| !key.is_empty()).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    let answer = command(folder.path(), "switchboard config show --changed --json --config @/c.toml").json();
    assert_eq!(answer["settings"].as_array().map(Vec::len), Some(expected.len()));
}

#[test]
fn no_line_for_people_is_longer_than_a_hundred_columns() {
    let folder = folder(&format!("[routing.carrier.telnyx]\napi_key = \"hidden\"\n{FREE_PORTS}{APP}"));
    for line in
        ["config show --config @/c.toml", "check --config @/c.toml", "--help", "numbers import --help"]
    {
        let ended = command(folder.path(), &format!("switchboard {line}"));
        assert!(!ended.out.is_empty(), "{line}: {}", ended.err);
        for line in ended.out.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        let check = ended.out.contains("no telnyx.public_key");
        assert!(
            !check
                || !ended.out.lines().any(|line| line.trim_start().contains("    ") && line.starts_with(' '))
        );
    }
}

#[test]
fn help_names_exit_codes_and_slips_get_the_nearest_command() {
    let folder = folder("");
    let help = command(folder.path(), "switchboard --help").out;
    assert!(help.contains("Exit codes: 0 success, 1 the command failed, 2 wrong configuration"), "{help}");
    for (line, nearest) in [
        ("switchboard numbers lst", "'list'"),
        ("switchboard confg show", "'config'"),
        ("switchboard check --confg x", "'--config'"),
    ] {
        let ended = command(folder.path(), line);
        assert!(ended.exit == Exit::Misused && ended.err.contains(nearest), "{line}: {}", ended.err);
    }
}

#[test]
fn a_taken_address_is_reported_once_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("free port");
    let bind = taken.local_addr().expect("address");
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let ended = command(folder.path(), &format!("switchboard serve --config @/c.toml --bind {bind}"));
    assert_eq!(ended.exit, Exit::Failed);
    let begin = format!(
        "switchboard: cannot listen on {bind} (server.bind): another program listens on port {}",
        bind.port()
    );
    assert!(ended.err.starts_with(&begin) && ended.err.contains("as in --bind 127.0.0.1:"), "{}", ended.err);
    assert_eq!((ended.err.lines().count(), ended.out.as_str()), (1, ""), "{}", ended.err);
}

#[test]
fn init_and_docs_print_what_the_library_makes() {
    let folder = folder("");
    let lines = |text: &str| text.lines().filter(|line| !line.contains("id =")).count();
    let init = command(folder.path(), "switchboard config init").out;
    assert_eq!(lines(&init), lines(&crate::config::starter().expect("random numbers")));
    let reference = command(folder.path(), "switchboard config reference").out;
    assert_eq!(reference, crate::config::commented_file());
    assert_eq!(command(folder.path(), "switchboard config docs").out, crate::config::reference());
    let keys = command(folder.path(), "switchboard config docs --json").json();
    assert_eq!(keys["keys"][0]["key"], "server.bind");
    assert_eq!(command(folder.path(), "switchboard version --json").json()["name"], "switchboard");
}

#[test]
fn the_laravel_blocks_are_those_of_the_configured_app() {
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let print = |arguments: &str| {
        command(
            folder.path(),
            &format!("switchboard laravel --config @/c.toml --bind 0.0.0.0:6001 {arguments}"),
        )
    };
    let all = print("--form reverb");
    assert_eq!(all.exit, Exit::Fine, "{}", all.err);
    for part in
        ["REVERB_APP_KEY=k\n", "REVERB_HOST=127.0.0.1\n", "echo.js", "@laravel/echo-vue", "composer require"]
    {
        assert!(all.out.contains(part), "{part} is missing in {}", all.out);
    }
    assert!(!all.out.contains("hidden") && all.out.contains("--show-secret"), "{}", all.out);

    let env = print("env --show-secret --url https://ws.portal.example");
    assert!(env.out.starts_with("BROADCAST_CONNECTION=reverb\nREVERB_APP_ID=1\n"), "{}", env.out);
    for line in [
        "REVERB_APP_SECRET=hidden",
        "REVERB_HOST=ws.portal.example",
        "REVERB_PORT=443",
        "REVERB_SCHEME=https",
    ] {
        assert!(env.out.lines().any(|found| found == line), "{line} is missing in {}", env.out);
    }
    let json = print("env --json").json();
    assert!(json["env"].as_str().is_some_and(|text| text.contains("REVERB_APP_KEY=k\n")), "{json}");
}

#[test]
fn laravel_prints_the_development_app_and_makes_none() {
    let folder = folder("[server]\nbind = \"127.0.0.1:6001\"\n");
    let print = |arguments: &str| {
        command(folder.path(), &format!("switchboard laravel --config @/c.toml{arguments}"))
    };
    let ended = print(" env");
    assert_eq!(
        (ended.exit, ended.out.as_str(), ended.err.lines().count()),
        (Exit::Failed, "", 1),
        "{}",
        ended.err
    );
    let place = folder.path().join("data");
    let begin = format!(
        "switchboard: there is no development app in {}: run this command in the folder",
        place.display()
    );
    assert!(ended.err.starts_with(&begin) && ended.err.contains("--env-file FILE"), "{}", ended.err);
    assert_eq!(print(" --json").json()["event"], "failed");
    assert!(print(" env --example").out.contains("REVERB_APP_ID=1001\n"));
    assert!(!place.exists());

    fs::create_dir(&place).expect("folder");
    let (key, secret) = ("0a".repeat(10), "0b".repeat(20));
    let app = format!("id = \"123456\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n");
    fs::write(place.join("development-app.toml"), app).expect("write");
    let ended = print(" env");
    assert_eq!((ended.exit, ended.err.as_str()), (Exit::Fine, ""), "{}", ended.out);
    assert!(ended.out.contains(&format!("REVERB_APP_SECRET={secret}\n")), "{}", ended.out);
}

#[test]
fn the_blocks_of_old_laravel_come_with_their_places() {
    let folder = folder("");
    let print =
        |form: &str| command(folder.path(), &format!("switchboard laravel --example --form {form}")).out;
    let mix = print("mix");
    assert!(mix.contains("\n# At the end of resources/js/bootstrap.js\n\nimport Echo"), "{mix}");
    assert!(mix.contains("\nBROADCAST_CONNECTION=pusher\nBROADCAST_DRIVER=pusher\n"), "{mix}");
    for (form, is_named) in [("mix", true), ("pusher", true), ("reverb", false)] {
        assert_eq!(
            print(form).contains("App\\Providers\\BroadcastServiceProvider::class"),
            is_named,
            "{form}"
        );
    }
    assert!(print("pusher").contains("(Laravel 9 and 10: at the end of resources/js/bootstrap.js)"));
}

#[test]
fn paragraphs_of_the_help_are_wrapped_once() {
    for paragraph in HELP.split("\n\n") {
        let is_list = paragraph.starts_with("Examples:");
        assert!(is_list || paragraph.lines().count() == 1, "{paragraph}");
        assert!(!is_list || paragraph.lines().all(|line| line.chars().count() <= 80), "{paragraph}");
    }
}

#[test]
fn a_mistyped_laravel_command_is_answered_with_what_to_write() {
    let two =
        folder(&format!("{FREE_PORTS}{APP}{}", APP.replace("\"1\"", "\"2\"").replace("\"k\"", "\"l\"")));
    let one = folder(&format!("{FREE_PORTS}{APP}"));
    for (folder, arguments, answer) in [
        (&two, "env", "choose one of 1, 2 with --app ID"),
        (&two, "env --app 3", "there is no app 3; the configuration has 1, 2"),
        (&one, "env", "server.bind has port 0"),
        (&one, "env --url ws.portal.example", "write http://HOST:PORT or https://HOST"),
        (&one, "vue --form mix --url http://x", "it has commands, env, broadcasting, echo"),
        (&one, "react --form laravel", "possible values: reverb, pusher, mix"),
        (&one, "dotenv", "possible values: commands, env"),
    ] {
        let ended = command(folder.path(), &format!("switchboard laravel --config @/c.toml {arguments}"));
        assert_eq!((ended.exit, ended.out.as_str()), (Exit::Misused, ""), "{arguments}");
        assert!(ended.err.contains(answer), "{arguments}: {}", ended.err);
    }
}

#[test]
fn numbers_are_imported_and_listed() {
    let folder = folder(&format!("{FREE_PORTS}{APP}"));
    let csv = "number;user_id;status;label;is_default\n(312) 555-0100;7;;Sales;1\n+13125550101;;reserved;;\n";
    fs::write(folder.path().join("n.csv"), csv).expect("write");
    let run = |line: &str| command(folder.path(), &format!("switchboard numbers {line} --config @/c.toml"));

    assert!(run("list").out.starts_with("There are no phone numbers yet"), "{}", run("list").out);
    let ended = run("import @/n.csv --dry-run");
    assert_eq!(
        ended.out, "Nothing was changed. An import would give 2 new, 0 changed, 0 unchanged\n",
        "{}",
        ended.err
    );
    assert!(!folder.path().join("data").exists());
    assert_eq!(run("import @/n.csv --app 1").out, "2 numbers imported: 2 new, 0 changed, 0 unchanged\n");
    let counts = run("import @/n.csv --json").json();
    assert_eq!(counts["numbers"], serde_json::json!({"new": 0, "changed": 0, "unchanged": 2}));
    assert_eq!((&counts["app"], &counts["dry_run"]), (&"1".into(), &false.into()));

    let list = run("list --json").json();
    let numbers = list["phone_numbers"].as_array().expect("a list");
    let shown: Vec<_> = numbers.iter().map(|n| (&n["number"], &n["user_id"], &n["is_default"])).collect();
    assert_eq!(
        shown,
        [
            (&"+13125550100".into(), &7.into(), &true.into()),
            (&"+13125550101".into(), &Value::Null, &false.into())
        ]
    );
    assert_eq!(
        run("list").out,
        "number        status    user  default  label\n\
         +13125550100  assigned  7     yes      Sales\n\
         +13125550101  reserved  -\n"
    );

    fs::write(folder.path().join("n.csv"), "number,user_id\n+13125550102,7\nnone,7\n+1,8\n").expect("write");
    let ended = run("import @/n.csv --json");
    assert_eq!(ended.exit, Exit::Failed);
    let problems = ended.json()["problems"].as_array().expect("a list").len();
    assert!(
        problems == 2 && ended.err.contains("switchboard: line 3: number \"none\": "),
        "{}{}",
        ended.out,
        ended.err
    );
    assert!(ended.err.contains("nothing was imported: correct these lines"), "{}", ended.err);
    assert_eq!(run("list").out.lines().count(), 3);
    assert_eq!(run("import @/missing.csv").exit, Exit::Failed);
}

#[test]
fn numbers_belong_to_an_app_that_keeps_them_here() {
    let two = APP.replace("\"1\"", "\"2\"").replace("\"k\"", "\"l\"");
    let sql = "[apps.routing.directory]\nmode = \"sql\"\nurl = \"mysql://u:hidden@h/d\"\n\
               find_number = \"SELECT :number\"\nown_numbers = \"SELECT :user_id\"\n";
    let folder = folder(&format!("{FREE_PORTS}{APP}{two}{sql}"));
    for (line, message) in [
        ("list", "several apps are configured: add --app with one of 1, 2"),
        ("list --app 3", "there is no app with the id \"3\"; there is 1, 2"),
        ("list --app 2", "the directory of app 2 is the portal's own tables"),
        ("import n.csv --app 2", "the directory of app 2 is the portal's own tables"),
    ] {
        let ended = command(folder.path(), &format!("switchboard numbers {line} --config @/c.toml"));
        assert_eq!(ended.exit, Exit::Misused, "{line}");
        assert!(ended.err.contains(message) && !ended.err.contains("hidden"), "{}", ended.err);
    }
}

#[test]
fn check_looks_at_what_messages_need() {
    let routing = "[apps.routing.carrier.telnyx]\napi_key = \"hidden\"\n[apps.routing.directory]\nmode = \"sql\"\n\
                   url = \"mysql://u:hidden@127.0.0.1:1/d\"\nfind_number = \"SELECT :number\"\n\
                   own_numbers = \"SELECT :user_id\"\n";
    let folder = folder(&format!("{FREE_PORTS}{APP}{routing}"));
    let ended = command(folder.path(), "switchboard check --json --config @/c.toml");
    assert_eq!(ended.exit, Exit::Failed, "{}", ended.err);
    let answer = ended.json();
    let of = |name: &str| {
        let checks = answer["checks"].as_array().expect("a list");
        let found = checks.iter().find(|check| check["check"] == name).expect(name);
        (
            found["status"].as_str().expect("text").to_owned(),
            found["detail"].as_str().expect("text").to_owned(),
        )
    };
    for (name, status, detail) in [
        ("store.url", "ok", "switchboard.db will be created"),
        ("routing.directory", "failed", "app 1: no connection: "),
        ("routing.carrier", "warning", "no telnyx.public_key"),
        ("routing.channels", "warning", "public channels"),
    ] {
        let found = of(name);
        assert!(found.0 == status && found.1.contains(detail), "{name}: {found:?}");
    }
    assert!(!ended.out.contains("hidden") && !folder.path().join("data").exists());
}

#[test]
fn check_looks_at_what_webhooks_need() {
    let routing = "[apps.routing]\nenabled = false\n";
    let webhook = "[[apps.webhooks]]\nurl = \"https://portal.example/hooks?token=hidden\"\n";
    let nothing = folder(&format!("{FREE_PORTS}{APP}{routing}"));
    let ended = command(nothing.path(), "switchboard check --config @/c.toml");
    assert!(!ended.out.contains("store.url"), "{}", ended.out);
    let folder = folder(&format!("{FREE_PORTS}{APP}{webhook}{routing}"));
    let ended = command(folder.path(), "switchboard check --config @/c.toml");
    assert!(ended.exit == Exit::Fine && ended.out.contains("store.url"), "{}", ended.out);
    let shown = command(folder.path(), "switchboard config show --config @/c.toml").out;
    assert!(shown.contains("https://portal.example/***") && !shown.contains("hidden"), "{shown}");
    let twice = format!("{webhook}name = \"a\"\n{webhook}name = \"a\"\n");
    std::fs::write(folder.path().join("c.toml"), format!("{FREE_PORTS}{APP}{twice}")).expect("written");
    let refused = command(folder.path(), "switchboard check --config @/c.toml");
    assert_eq!(refused.exit, Exit::Misused);
    assert!(
        refused.err.contains("\"a\" is already the name of another webhook of this app"),
        "{}",
        refused.err
    );
}
