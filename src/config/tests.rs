//! [`load`] as a whole: layers, fail closed, apps from the environment, development mode.

use std::path::Path;

use proptest::prelude::*;

use super::*;

mod routing;

const APP: &str = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecrets = [\"s\"]\n";

/// A folder with a `switchboard.toml`, and what [`load`] makes of it.
struct Case {
    folder: tempfile::TempDir,
    sources: Sources,
}

impl Case {
    fn new(file: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("switchboard.toml");
        fs::write(&path, file).expect("write");
        Self { folder, sources: Sources { file: Some(path), ..Sources::default() } }
            .set("SWITCHBOARD__SERVER__DATA_DIR", None)
    }

    /// No file; the data folder is inside the temporary one.
    fn without_file() -> Self {
        let mut case = Self::new("");
        case.sources.file = None;
        case
    }

    fn set(mut self, name: &str, value: Option<&str>) -> Self {
        let data = self.folder.path().join("data").display().to_string();
        self.sources.environment.push((name.into(), value.unwrap_or(&data).into()));
        self
    }

    fn with(mut self, pairs: &[(&str, &str)]) -> Self {
        for (name, value) in pairs {
            self = self.set(name, Some(value));
        }
        self
    }

    fn env_file(mut self, text: &str) -> Self {
        let path = self.folder.path().join(".env");
        fs::write(&path, text).expect("write");
        self.sources.env_file = Some(path);
        self
    }

    fn flag(mut self, flag: &'static str, key: &'static str, value: &str) -> Self {
        self.sources.flags.push((flag, key, value.to_owned()));
        self
    }

    fn creating(mut self) -> Self {
        self.sources.create_development_app = true;
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources).expect("valid")
    }

    /// The problems, with the folder's name cut off.
    fn problems(&self) -> Vec<String> {
        let prefix = format!("{}/", self.folder.path().display());
        let problems = load(&self.sources).expect_err("refused").0;
        problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    }
}

const PUSHER: [(&str, &str); 3] =
    [("PUSHER_APP_ID", "7"), ("PUSHER_APP_KEY", "pusher-key"), ("PUSHER_APP_SECRET", "pusher-secret")];

#[test]
fn an_app_needs_three_keys_and_gets_every_default() {
    let loaded = Case::new(APP).load();
    assert_eq!(loaded.settings.apps, [AppSettings::new("1", "k", "s")]);
    assert!(!loaded.settings.development);
    assert_eq!(loaded.settings.server.bind.to_string(), "0.0.0.0:6001");
    assert_eq!(loaded.settings.admin, AdminSettings::default());
}

#[test]
fn each_layer_covers_the_one_before() {
    let case =
        Case::new(&format!("[log]\nlevel = \"warn\"\n{APP}")).env_file("SWITCHBOARD__LOG__LEVEL=error\n");
    let level = |case: &Case| {
        let loaded = case.load();
        (loaded.settings.log.level, loaded.origins["log.level"].to_string())
    };
    assert_eq!(level(&case).0, "error");
    let case = case.set("SWITCHBOARD__LOG__LEVEL", Some("debug"));
    assert_eq!(level(&case), ("debug".to_owned(), "environment SWITCHBOARD__LOG__LEVEL".to_owned()));
    let case = case.flag("--log-level", "log.level", "trace");
    assert_eq!(level(&case), ("trace".to_owned(), "flag --log-level".to_owned()));
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let file = "[server]\nbnid = \"x\"\nheader_timeout = 30\nactivity_timeout = \"1500ms\"\n\
                [serer]\n[replay]\nkeep = \"2m\"\n[[apps]]\nid = \"a b\"\nkey = \"k\"\nsecrets = []\n\
                event_size = \"lots\"\n[[apps.webhooks]]\nevents = [\"gone\"]\n[[apps]]\nid = \"2\"\nsecrets = [\"${GONE}\"]\n";
    let case =
        Case::new(file).set("SWITCHBOARD__LOG__FORMAT", Some("xml")).flag("--bind", "server.bind", "6001");
    let expected = "\
switchboard.toml:17: apps.1.secrets: ${GONE} is not set; set it or write ${GONE:-default}
switchboard.toml:2: server.bnid: unknown key; did you mean server.bind?
switchboard.toml:3: server.header_timeout: \"30\" needs a unit: ms, s, m or h, as in \"30s\" or \"2m30s\"
switchboard.toml:4: server.activity_timeout: must be whole seconds, because clients count in seconds: write 1s, not 1500ms
switchboard.toml:5: serer: unknown section; did you mean server?
switchboard.toml:6: replay: is not available in this version: remove the section
switchboard.toml:9: apps.0.id: \"a b\" must be one or more of A-Z a-z 0-9 _ -; digits suit every SDK
switchboard.toml:11: apps.0.secrets: needs at least one secret, as in [\"…\"]
switchboard.toml:12: apps.0.event_size: \"lots\" needs a unit: B, KB, MB or GB, as in \"10KB\"
switchboard.toml:14: apps.0.webhooks.0.events: must be \"channel_occupied\" or \"channel_vacated\" or \"member_added\" \
or \"member_removed\" or \"client_event\" or \"cache_miss\" or \"subscription_count\" or \"connection_opened\" \
or \"connection_closed\" or \"user_online\" or \"user_offline\", not \"gone\"
environment SWITCHBOARD__LOG__FORMAT: log.format: must be \"text\" or \"json\", not \"xml\"
flag --bind: server.bind: \"6001\" is not an IP address and a port, as in \"0.0.0.0:6001\" or \"[::1]:6001\"; write \"127.0.0.1:6001\" \
to listen on this machine only, or \"0.0.0.0:6001\" to listen on all addresses
switchboard.toml:13: apps.0.webhooks.0: url is missing; a webhook needs a url
switchboard.toml:15: apps.1: key is missing; an app needs id, key and secrets";
    assert_eq!(case.problems().join("\n"), expected);
}

#[test]
fn keys_of_other_servers_are_answered_with_ours() {
    let file = "host = \"0.0.0.0\"\nport = 6001\n[ssl]\ncert_path = \"c.pem\"\n[metrics]\nport = 9601\n\
                [[apps]]\napp_id = \"1\"\nkey = \"k\"\nsecret = \"hidden\"\nenable_client_messages = true\n\
                capacity = 5\nmax_message_size = 10000\nname = \"portal\"\nallowed_origins = [\"portal.example\"]\n\
                enableUserAuthentication = true\nping_interval = 60\noptions = { useTLS = true }\n";
    let problems = Case::new(file).problems().join("\n");
    for part in [
        "1: host: unknown key; did you mean server.bind?",
        "2: port: unknown key; did you mean server.port?",
        "3: ssl: unknown section and not needed: let a proxy such as nginx, Caddy or HAProxy end TLS",
        "5: metrics: unknown section; did you mean admin.bind? /metrics is always on there.",
        "8: apps.0.app_id: unknown key; did you mean apps.id?",
        "10: apps.0.secret: unknown key; did you mean apps.secrets? It is a list, as in secrets = [\"…\"].",
        "11: apps.0.enable_client_messages: unknown key; did you mean apps.client_events? Write \"members\" for true",
        "12: apps.0.capacity: unknown key; did you mean apps.max_connections? 0 means no limit.",
        "13: apps.0.max_message_size: unknown key; did you mean apps.event_size? Write the size with its unit",
        "14: apps.0.name: unknown key and not needed: an app has no name",
        "15: apps.0.allowed_origins: \"portal.example\" does not look like scheme://host or scheme://host:port \
         (* allowed), or null; write \"https://portal.example\"",
        "16: apps.0.enableUserAuthentication: unknown key; did you mean apps.authorized_connections?",
        "17: apps.0.ping_interval: unknown key; did you mean server.",
        "18: apps.0.options: unknown section and not needed: it belongs to the application",
    ] {
        assert!(problems.contains(part), "{part}\n{problems}");
    }
    assert!(!problems.contains("hidden"), "{problems}");
    let variable = Case::new(APP).set("SWITCHBOARD__APPS__0__CAPACITY", Some("5")).problems();
    assert!(variable[0].contains("did you mean SWITCHBOARD__APPS__0__MAX_CONNECTIONS?"), "{variable:?}");
}

#[test]
fn variables_with_one_underscore_are_refused_with_the_right_name() {
    for (name, right) in [
        ("SWITCHBOARD_SERVER_BIND", "SWITCHBOARD__SERVER__BIND"),
        ("switchboard__server__bind", "SWITCHBOARD__SERVER__BIND"),
        ("SWITCHBOARD__SERVER_BIND", "SWITCHBOARD__SERVER__BIND"),
        ("SWITCHBOARD_ADMIN_TOKEN_FILE", "SWITCHBOARD__ADMIN__TOKEN_FILE"),
        ("SWITCHBOARD_APPS_0_SECRET", "SWITCHBOARD__APPS__0__SECRETS"),
    ] {
        let problems = Case::new(APP).set(name, Some("hidden")).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let end = format!("; did you mean {right}?");
        assert!(problems[0].starts_with(&format!("environment {name}: ")), "{problems:?}");
        assert!(problems[0].ends_with(&end) && !problems[0].contains("hidden"), "{problems:?}");
    }
    let in_file = Case::new(APP).env_file("A=1\nSWITCHBOARD_SERVER_PORT=6001\n").problems();
    assert!(in_file[0].starts_with(".env:2 SWITCHBOARD_SERVER_PORT: is not a setting"), "{in_file:?}");
}

#[test]
fn variables_of_others_stop_nothing_and_are_hints_at_most() {
    let kubernetes = [
        ("SWITCHBOARD_SERVICE_HOST", "10.0.0.1"),
        ("SWITCHBOARD_SERVICE_PORT", "6001"),
        ("SWITCHBOARD_PORT", "tcp://10.0.0.1:6001"),
        ("SWITCHBOARD_PORT_6001_TCP", "tcp://10.0.0.1:6001"),
        ("SWITCHBOARD_PORT_6001_TCP_PORT", "6001"),
    ];
    let laravel = "REVERB_HOST=localhost\nREVERB_PORT=8080\nREVERB_SCHEME=http\nPUSHER_APP_CLUSTER=mt1\n\
                   VITE_REVERB_APP_KEY=x\nSWITCHBOARD_URL=http://ws\nSOKETI_PORT=\n";
    let plain = Case::new(APP).with(&kubernetes).env_file(laravel).load();
    assert_eq!(plain.hints, []);
    // A variable that the file refers to may have any name.
    let file = APP.replace("\"s\"", "\"${SWITCHBOARD_APP_SECRET}\"");
    assert_eq!(Case::new(&file).set("SWITCHBOARD_APP_SECRET", Some("s")).load().hints, []);

    let case = Case::new(APP).with(&[
        ("SWITCHBOARD_VERSION", "1"),
        ("SOKETI_PORT", "6002"),
        ("SOKETI_EVENT_MAX_SIZE_IN_KB", "100"),
        ("SOKETI_SSL_CERT", "c.pem"),
        ("REVERB_SERVER_PORT", "8080"),
        ("SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "true"),
    ]);
    let hints: Vec<_> = case.load().hints.iter().map(Problem::to_string).collect();
    let expected = [
        "environment REVERB_SERVER_PORT: has no effect: set SWITCHBOARD__SERVER__PORT",
        "environment SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES: has no effect: set \
         SWITCHBOARD__APPS__0__CLIENT_EVENTS. Write members or off",
        "environment SOKETI_EVENT_MAX_SIZE_IN_KB: has no effect: set SWITCHBOARD__APPS__0__EVENT_SIZE. \
         Write a unit, as in 100KB",
        "environment SOKETI_PORT: has no effect: set SWITCHBOARD__SERVER__PORT",
        "environment SOKETI_SSL_CERT: has no effect and is not needed: let a proxy such as nginx, Caddy or HAProxy \
         end TLS (docs/deployment.md)",
        "environment SWITCHBOARD_VERSION: is not a setting and has no effect",
    ];
    assert_eq!(hints, expected);
}

#[test]
fn the_short_file_to_start_from_loads() {
    let text = starter().expect("random numbers");
    assert!(text.lines().count() <= 14 && text.lines().all(|line| line.len() <= 100), "{text}");
    let settings = Case::new(&text).load().settings;
    assert!(!settings.development && settings.apps.len() == 1);
    let other = Case::new(&starter().expect("random numbers")).load().settings;
    assert_ne!(settings.apps[0].secrets, other.apps[0].secrets);
}

#[test]
fn a_missing_or_unreadable_file_is_one_problem() {
    let mut case = Case::new("[server\n");
    assert!(case.problems()[0].starts_with("switchboard.toml:1: is not TOML: "), "{:?}", case.problems());
    assert_eq!(case.problems().len(), 1);
    case.sources.file = Some("/nonexistent.toml".into());
    assert_eq!(case.problems().len(), 1);
    assert!(case.problems()[0].starts_with("/nonexistent.toml: cannot be read: "), "{:?}", case.problems());
}

#[test]
fn no_problem_shows_a_secret() {
    let file =
        "[admin]\ntoken = \" hidden \"\n[[apps]]\nid = \"1\"\nkey = \"k\"\nsecrets = [\"hidden \", 5]\n";
    let text = Case::new(file).problems().join("\n");
    assert!(!text.contains("hidden"), "{text}");
    let text = Case::new("[[apps]]\nsecrets = \"hidden\"\n").problems().join("\n");
    assert!(!text.contains("hidden"), "{text}");
}

#[test]
fn the_room_for_webhooks_is_large_and_can_be_smaller() {
    let with =
        |line: &str| Case::new(&format!("{APP}[[apps.webhooks]]\nurl = \"https://portal.example/\"\n{line}"));
    let room = |line| with(line).load().settings.apps[0].webhooks[0].max_waiting;
    assert_eq!([room(""), room("max_waiting = 100\n")], [100_000, 100]);
    let problems = with("max_waiting = 50\n").problems().join("\n");
    assert!(problems.contains("max_waiting: must be from 100 to 10000000, not 50"), "{problems}");
}

#[test]
fn ids_and_keys_are_unique() {
    let file = format!("{APP}{}{}", APP.replace("\"k\"", "\"other\""), APP.replace("\"1\"", "\"2\""));
    assert_eq!(
        Case::new(&file).problems(),
        [
            "switchboard.toml:6: apps.1.id: \"1\" is already the id of another app (switchboard.toml:2): give each app its own",
            "switchboard.toml:11: apps.2.key: \"k\" is already the key of another app (switchboard.toml:3): give each app its own",
        ]
    );
}

#[test]
fn listeners_are_safe_and_apart() {
    for (file, expected) in [
        (
            "[admin]\nbind = \"0.0.0.0:9601\"",
            "admin.bind: 0.0.0.0:9601 is not a loopback address: set admin.token",
        ),
        ("[server]\nbind = \"127.0.0.1:9601\"", "127.0.0.1:9601 is taken by server.bind (127.0.0.1:9601)"),
        ("[server]\nbind = \"0.0.0.0:9601\"", "127.0.0.1:9601 is taken by server.bind (0.0.0.0:9601)"),
    ] {
        let problems = Case::new(&format!("{file}\n{APP}")).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
    }
    let open = format!("[admin]\nbind = \"0.0.0.0:9601\"\ntoken = \"t\"\n{APP}");
    assert_eq!(Case::new(&open).load().settings.admin.token, Some(Secret::new("t".to_owned())));
    Case::new(&format!("[server]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n{APP}")).load();
}

#[test]
fn the_environment_defines_an_app_only_when_the_file_has_none() {
    let app = |case: Case| case.load().settings.apps.remove(0);
    assert_eq!(app(Case::new(APP).with(&PUSHER)).key, "k");
    assert_eq!(app(Case::new("[log]\n").with(&PUSHER)), AppSettings::new("7", "pusher-key", "pusher-secret"));
    let adjusted = Case::without_file().with(&PUSHER).set("SWITCHBOARD__APPS__0__EVENT_SIZE", Some("1MB"));
    assert_eq!(app(adjusted).event_size, 1 << 20);
    let ours = [("ID", "5"), ("KEY", "ours"), ("SECRETS", "a,b")];
    let ours = ours.map(|(name, value)| (format!("SWITCHBOARD__APPS__0__{name}"), value));
    let case = ours.iter().fold(Case::without_file(), |case, (name, value)| case.set(name, Some(value)));
    let app = app(case);
    assert_eq!((app.id.as_str(), app.secrets.len()), ("5", 2));
}

#[test]
fn a_laravel_env_file_defines_the_app_and_the_endpoint() {
    let text = "APP_NAME=\"My App\"\nSECRET='s3cret'\nREVERB_APP_ID=9\nREVERB_APP_KEY=\"rk\"\n\
                REVERB_APP_SECRET=\"${SECRET}\"\nREVERB_HOST=ws.example.com\nREVERB_PORT=443\nREVERB_SCHEME=https\n";
    let loaded = Case::without_file().env_file(text).load();
    assert_eq!(loaded.settings.apps, [AppSettings::new("9", "rk", "s3cret")]);
    assert_eq!(loaded.endpoint.host.as_deref(), Some("ws.example.com"));
    assert!(loaded.origins["apps.0.key"].to_string().ends_with(".env:4 REVERB_APP_KEY"));
}

#[test]
fn a_partial_app_names_what_is_missing_and_nothing_else() {
    assert_eq!(
        Case::without_file().with(&PUSHER[..2]).problems(),
        ["environment PUSHER_APP_ID: apps.0: is set without PUSHER_APP_SECRET; an app needs all three"]
    );
}

#[test]
fn values_of_app_variables_are_checked_too() {
    let case = Case::without_file().with(&[PUSHER[0], ("PUSHER_APP_KEY", "a/b"), PUSHER[2]]);
    let problems = case.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("environment PUSHER_APP_KEY: apps.0.key: \"a/b\" must be"),
        "{problems:?}"
    );
}

#[test]
fn development_mode_is_loopback_and_keeps_its_app() {
    let case = Case::without_file();
    let looked = case.load();
    assert!(looked.settings.development && looked.settings.apps.is_empty());
    assert!(!case.folder.path().join("data").exists());
    let case = case.creating();
    let first = case.load();
    assert_eq!(first.settings.server.bind.to_string(), "127.0.0.1:6001");
    assert_eq!(first.settings.apps[0].client_events, ClientEvents::Members);
    assert_eq!(case.load().settings, first.settings);
    assert!(first.origins["apps.0.key"].to_string().ends_with("data/development-app.toml"));
}

#[test]
fn an_address_that_cannot_be_read_is_the_only_problem() {
    let problems = Case::without_file().flag("--bind", "server.bind", "7000").problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("write \"127.0.0.1:7000\""), "{problems:?}");
    // The default of server.bind is not compared with another address, as nobody asked for it.
    let both = Case::new(&format!("[server]\nbind = \"7000\"\n[admin]\nbind = \"127.0.0.1:6001\"\n{APP}"));
    assert_eq!(both.problems().len(), 1, "{:?}", both.problems());
}

#[test]
fn development_mode_elsewhere_than_loopback_is_refused() {
    let case = Case::without_file().creating().flag("--bind", "server.bind", "0.0.0.0:6001");
    assert_eq!(
        case.problems(),
        ["flag --bind: server.bind: 0.0.0.0:6001 is not a loopback address, and no app is configured: set \
          PUSHER_APP_ID, PUSHER_APP_KEY and PUSHER_APP_SECRET, or write [[apps]] with id, key and secrets into \
          switchboard.toml"]
    );
    assert!(!case.folder.path().join("data").exists());
    Case::without_file().creating().flag("--bind", "server.bind", "[::1]:0").load();
    // Refused for another reason: nothing is written either.
    let case = Case::without_file().creating().set("SWITCHBOARD__ADMIN__BIND", Some("0.0.0.0:9601"));
    assert_eq!(case.problems().len(), 1);
    assert!(!case.folder.path().join("data").exists());
}

#[test]
fn a_slip_in_apps_does_not_start_development_mode() {
    let case = Case::new("[apps]\nid = \"1\"\n").creating();
    assert_eq!(
        case.problems(),
        ["switchboard.toml:1: apps: is a section: write [[apps]] and its keys below"]
    );
    assert!(!case.folder.path().join("data").exists());
}

#[test]
fn the_commented_file_loads_with_and_without_its_comment_signs() {
    let active: Vec<_> = commented_file()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned())
        .collect();
    assert!(Case::new(&commented_file()).load().settings.development);
    let variables = [("ADMIN_TOKEN", "t"), ("PORTAL_SECRET", "s")];
    let loaded = Case::new(&active.join("\n")).with(&variables).load();
    let url = Secret::new("https://portal.example/hooks".to_owned());
    let webhooks = vec![WebhookSettings { url, ..WebhookSettings::default() }];
    let expected = AppSettings { webhooks, ..AppSettings::new("1001", "portal-key", "s") };
    assert_eq!(loaded.settings.apps, [expected]);
    // Every key is in the file, with its default.
    let with_place = rows(&loaded).iter().filter(|row| matches!(row.origin, Origin::File { .. })).count();
    assert_eq!(with_place, rows(&loaded).len() - 1, "all but data_dir, which the test sets");
    let server = ServerSettings { bind: ([0, 0, 0, 0], 6001).into(), ..ServerSettings::default() };
    assert_eq!(ServerSettings { data_dir: server.data_dir.clone(), ..loaded.settings.server }, server);
}

#[test]
fn the_example_file_loads() {
    let mut case = Case::without_file().with(&[("PORTAL_SECRET", "s"), ("INTRANET_SECRET", "t")]);
    case.sources.file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/switchboard.toml"));
    let settings = case.load().settings;
    assert_eq!(settings.apps.iter().map(|app| app.routing.enabled).collect::<Vec<_>>(), [true, false]);
    assert!(!settings.development);
}

#[test]
fn effective_values_have_an_origin_and_no_secret() {
    let loaded = Case::new(&APP.replace("\"s\"", "\"hidden\"")).load();
    let rows = rows(&loaded);
    let row = |key: &str| rows.iter().find(|row| row.key == key).expect("known");
    assert_eq!(row("server.activity_timeout").value, "2m");
    assert_eq!(row("server.activity_timeout").origin, Origin::Default);
    assert!(row("apps.0.key").origin.to_string().ends_with("switchboard.toml:3"));
    assert!(row("apps.0.secrets").value[0].as_str().expect("text").starts_with("sha256:"));
    assert!(!format!("{rows:?}").contains("hidden"));
    assert!(!format!("{loaded:?}").contains("hidden"));
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "[ -~\n\\PC]{0,80}|[0-9a-z.=\"'${}\\[\\]\n #-]{0,80}") {
        let _ = dotenv::parse(&text, |_| None);
        let _ = interpolate::interpolate(&text, |_| Some("x"));
        let _ = file::parse(Path::new("t.toml"), &text, &|_| None);
        let raw = Raw::Untyped(text, ',');
        let mut settings = schema::shown_defaults();
        for key in schema::sections().flat_map(|section| section.keys) {
            let _ = (key.set)(&mut settings, Place::first(), &raw);
        }
    }
}
