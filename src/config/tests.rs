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
switchboard.toml:4: server.activity_timeout: is told to clients in whole seconds, so 1500ms cannot be used
switchboard.toml:5: serer: unknown section; did you mean server?
switchboard.toml:6: replay: is not available in this version
switchboard.toml:9: apps.0.id: \"a b\" must be one or more of A-Z a-z 0-9 _ -; digits suit every SDK
switchboard.toml:11: apps.0.secrets: needs at least one secret
switchboard.toml:12: apps.0.event_size: \"lots\" needs a unit: B, KB, MB or GB, as in \"10KB\"
switchboard.toml:14: apps.0.webhooks.0.events: must be \"channel_occupied\" or \"channel_vacated\" or \"member_added\" \
or \"member_removed\" or \"client_event\" or \"cache_miss\" or \"subscription_count\" or \"connection_opened\" \
or \"connection_closed\" or \"user_online\" or \"user_offline\", not \"gone\"
environment SWITCHBOARD__LOG__FORMAT: log.format: must be \"text\" or \"json\", not \"xml\"
flag --bind: server.bind: \"6001\" is not an IP address and a port, as in \"0.0.0.0:6001\" or \"[::1]:6001\"
switchboard.toml:13: apps.0.webhooks.0: url is missing; a webhook needs a url
switchboard.toml:15: apps.1: key is missing; an app needs id, key and secrets";
    assert_eq!(case.problems().join("\n"), expected);
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
fn ids_and_keys_are_unique() {
    let file = format!("{APP}{}{}", APP.replace("\"k\"", "\"other\""), APP.replace("\"1\"", "\"2\""));
    assert_eq!(
        Case::new(&file).problems(),
        [
            "switchboard.toml:6: apps.1.id: \"1\" is already the id of another app (switchboard.toml:2)",
            "switchboard.toml:11: apps.2.key: \"k\" is already the key of another app (switchboard.toml:3)",
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
                REVERB_APP_SECRET=\"${SECRET}\"\nPUSHER_HOST=ws.example.com\nPUSHER_PORT=443\nPUSHER_SCHEME=https\n";
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
fn the_starter_file_loads_with_and_without_its_comment_signs() {
    let active: Vec<_> = starter()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned())
        .collect();
    assert!(Case::new(&starter()).load().settings.development);
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
