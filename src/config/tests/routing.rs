//! `[routing]`, `[apps.routing]`, `[store]`: overrides, kinds, rules between keys.

use super::*;

/// The routing of each app, which is [`RoutingSettings::default`] but for the adjusted keys.
fn routing(adjust: impl FnOnce(&mut RoutingSettings)) -> RoutingSettings {
    let mut routing = RoutingSettings::default();
    adjust(&mut routing);
    routing
}

#[test]
fn tables_and_dotted_keys_are_the_same() {
    let expected = routing(|routing| {
        routing.numbers.check = NumberCheck::Valid;
        routing.telnyx.max_attempts = 3;
        routing.telnyx.api_key = Some(Secret::new("KEY1".to_owned()));
    });
    let telnyx = "max_attempts = 3\napi_key = \"KEY1\"";
    for file in [
        format!("[routing.numbers]\ncheck = \"valid\"\n[routing.carrier.telnyx]\n{telnyx}\n{APP}"),
        format!(
            "[routing]\nnumbers.check = \"valid\"\ncarrier.telnyx.max_attempts = 3\n\
             carrier.telnyx.api_key = \"KEY1\"\n{APP}"
        ),
        format!(
            "routing = {{ numbers = {{ check = \"valid\" }}, carrier.telnyx = {{ {} }} }}\n{APP}",
            telnyx.replace('\n', ", ")
        ),
        format!("{APP}[apps.routing]\nnumbers.check = \"valid\"\n[apps.routing.carrier.telnyx]\n{telnyx}\n"),
    ] {
        assert_eq!(Case::new(&file).load().settings.apps[0].routing, expected, "{file}");
    }
}

#[test]
fn an_app_keeps_its_own_routing_whatever_layer_the_common_one_is_from() {
    let second = APP.replace("\"1\"", "\"2\"").replace("\"k\"", "\"l\"");
    let own = "[apps.routing]\ndefault_region = \"GB\"\nnumbers.check = \"valid\"\n";
    let common = "[routing]\ndefault_region = \"DE\"\npayload = \"ids\"\n";
    let regions = |case: &Case| {
        let apps = case.load().settings.apps;
        apps.into_iter().map(|app| app.routing.default_region.unwrap_or_default()).collect::<Vec<_>>()
    };
    for file in [format!("{common}{APP}{own}{second}"), format!("{APP}{own}{second}{common}")] {
        let case = Case::new(&file);
        let loaded = case.load();
        assert_eq!(loaded.settings.routing.default_region.as_deref(), Some("DE"));
        for (app, region, check) in [(0, "GB", NumberCheck::Valid), (1, "DE", NumberCheck::Possible)] {
            let expected = routing(|routing| {
                routing.default_region = Some(region.to_owned());
                routing.numbers.check = check;
                routing.payload = Payload::Ids;
            });
            assert_eq!(loaded.settings.apps[app].routing, expected, "{file}");
        }
        let case = case.set("SWITCHBOARD__ROUTING__DEFAULT_REGION", Some("FR"));
        assert_eq!(regions(&case), ["GB", "FR"]);
        let case = case.set("SWITCHBOARD__APPS__0__ROUTING__DEFAULT_REGION", Some("IT"));
        assert_eq!(regions(&case), ["IT", "FR"]);
        let case = case.set("SWITCHBOARD__APPS__1__ROUTING__DEFAULT_REGION", Some(""));
        assert_eq!(regions(&case), ["IT", ""]);
    }
}

#[test]
fn the_development_app_is_routed_as_configured() {
    let case = Case::without_file().creating().set("SWITCHBOARD__ROUTING__DEFAULT_REGION", Some("GB"));
    let settings = case.load().settings;
    assert_eq!(settings.apps[0].routing, routing(|routing| routing.default_region = Some("GB".to_owned())));
}

#[test]
fn what_an_app_overrides_is_shown_with_it() {
    let file = format!("{APP}[apps.routing]\ncarrier.telnyx.api_key = \"hidden\"\npayload = \"ids\"\n");
    let case = Case::new(&file).set("SWITCHBOARD__STORE__URL", Some("postgres://u:hidden@h/d"));
    let loaded = case.load();
    let rows = rows(&loaded);
    let keys: Vec<_> =
        rows.iter().map(|row| row.key.as_str()).filter(|key| key.contains("apps.0.r")).collect();
    assert_eq!(keys, ["apps.0.routing.payload", "apps.0.routing.carrier.telnyx.api_key"]);
    let value = |key: &str| rows.iter().find(|row| row.key == key).map(|row| row.value.clone());
    assert_eq!(value("apps.0.routing.payload"), Some("ids".into()));
    assert_eq!(value("routing.payload"), Some("full".into()));
    assert_eq!(value("routing.carrier.telnyx.api_key"), Some(serde_json::Value::Null));
    assert_eq!(value("store.url"), Some("postgres://u:***@h/d".into()));
    assert!(!format!("{rows:?}{loaded:?}").contains("hidden"));
}

#[test]
fn unknown_routing_keys_name_the_nearest() {
    let file = "routng = 1\n[routing]\ndefault_regoin = \"US\"\ncarrier.twilio.key = \"x\"\n[routing.numbres]\n\
                [routing.send]\nuser_rat = 1\n[[apps]]\nid = \"1\"\nkey = \"k\"\nsecrets = [\"s\"]\n\
                default_region = \"US\"\nrouting.paylod = \"ids\"\nrouting.number.check = \"valid\"\n";
    let case = Case::new(file).with(&[
        ("SWITCHBOARD__APPS__0__ROUTING__SEND__WIAT", "1s"),
        ("SWITCHBOARD__ROUTING__CARRIER", "telnyx"),
        ("SWITCHBOARD__APPS__0__ROUTING__IDS", "int"),
    ]);
    let expected = "\
switchboard.toml:1: routng: unknown key; did you mean routing?
switchboard.toml:3: routing.default_regoin: unknown key; did you mean routing.default_region?
switchboard.toml:4: routing.carrier.twilio: unknown section. `switchboard config reference` lists all keys.
switchboard.toml:5: routing.numbres: unknown section; did you mean routing.numbers?
switchboard.toml:7: routing.send.user_rat: unknown key; did you mean routing.send.user_rate?
switchboard.toml:12: apps.0.default_region: unknown key; did you mean apps.routing.default_region?
switchboard.toml:13: apps.0.routing.paylod: unknown key; did you mean apps.routing.payload?
switchboard.toml:14: apps.0.routing.number: unknown section; did you mean apps.routing.numbers?
environment SWITCHBOARD__APPS__0__ROUTING__IDS: apps.0.routing.ids: is a section: set its keys, as in SWITCHBOARD__APPS__0__ROUTING__IDS__KIND
environment SWITCHBOARD__APPS__0__ROUTING__SEND__WIAT: apps.0.routing.send.wiat: unknown key; did you mean SWITCHBOARD__APPS__0__ROUTING__SEND__WAIT?
environment SWITCHBOARD__ROUTING__CARRIER: routing.carrier: is a section: set its keys, as in SWITCHBOARD__ROUTING__CARRIER__TELNYX__API_KEY";
    assert_eq!(case.problems().join("\n"), expected);
}

#[test]
fn routing_values_keep_their_kinds() {
    for (line, message) in [
        ("default_region = \"usa\"", "routing.default_region: \"usa\" is not a region"),
        ("payload = \"some\"", "must be \"full\" or \"ids\", not \"some\""),
        ("unassigned_own_number = \"drop\"", "must be \"external\" or \"reject\""),
        ("numbers.check = \"strict\"", "must be \"possible\" or \"valid\""),
        ("conversation.key = \"contact\"", "must be \"user+contact\" or \"number+contact\""),
        ("ids.kind = \"uuid\"", "must be \"int\" or \"ulid\""),
        ("ids.user_json = \"int\"", "must be \"auto\" or \"string\""),
        ("channels.mode = \"presence\"", "must be \"public\" or \"private\" or \"both\""),
        ("events.namespace = \"a b\"", "is not a namespace"),
        ("events.rename = [\"a=b\"]", "\"a\" is not an event"),
        ("send.wait = 2", "\"2\" needs a unit"),
        ("send.wait = \"1m\"", "must be from 0s to 30s, not 1m"),
        ("send.user_rate = -1", "must be 0 or more"),
        ("broadcast.max_age = \"0s\"", "must be from 1s to 24h"),
        ("features.edit_window = \"1000h\"", "must be from 0s to 720h"),
        ("directory.timeout_ms = 0", "must be from 1 to 60000, not 0"),
        ("directory.url = \"sqlite:x\"", "must be mysql://"),
        ("directory.find_number = \"SELECT 1; SELECT 2\"", "more than one statement"),
        ("directory.assigned_status = []", "needs at least one text"),
        ("callbacks.url = \"portal.example\"", "must be an http:// or https:// URL"),
        ("carrier.telnyx.public_key = \"x\"", "is not an Ed25519 public key"),
        ("carrier.telnyx.base_url = \"\"", "must be an http:// or https:// URL"),
        ("carrier.telnyx.public_url = \"ws.portal.example\"", "must be an http:// or https:// URL"),
        ("carrier.telnyx.messaging_profile_id = \"a b\"", "is not an id"),
        ("carrier.telnyx.idempotency = \"body\"", "must be \"header\" or \"off\""),
        ("carrier.telnyx.on_unclear = \"retry\"", "must be \"retry_with_key\" or \"hold\" or \"resend\""),
        ("carrier.telnyx.ordering = \"fifo\"", "must be \"strict\" or \"relaxed\""),
        ("carrier.telnyx.concurrency = 0", "must be from 1 to 1000"),
    ] {
        for table in ["routing", "apps.routing"] {
            let problems = Case::new(&format!("{APP}[{table}]\n{line}\n")).problems();
            assert_eq!(problems.len(), 1, "{line}: {problems:?}");
            assert!(problems[0].starts_with("switchboard.toml:6: "), "{problems:?}");
            assert!(problems[0].contains(message), "{line}: {problems:?}");
        }
    }
    let problems = Case::new(&format!("[store]\nurl = \"mysql://u:hidden@h/d\"\n{APP}")).problems();
    assert!(problems[0].starts_with("switchboard.toml:2: store.url: MySQL can be the portal's directory"));
    assert_eq!(problems.len(), 1);
}

#[test]
fn secrets_of_the_router_come_from_files_and_may_be_absent() {
    let file = "[routing.carrier.telnyx]\napi_key = \"${TELNYX_API_KEY:-}\"\npublic_key = \"${TELNYX_PUBLIC_KEY:-}\"\n";
    let case = Case::new(&format!("{file}{APP}"));
    assert_eq!(case.load().settings.apps[0].routing, RoutingSettings::default());
    let case = Case::new(&format!("[routing]\ncarrier.telnyx.api_key_file = \"@\"\n{APP}"));
    let path = case.folder.path().join("key");
    fs::write(&path, "KEY-FROM-FILE\n").expect("write");
    let file = case.sources.file.as_ref().expect("a file");
    let text = fs::read_to_string(file).expect("read").replace('@', &path.display().to_string());
    fs::write(file, text).expect("write");
    let case = case.set("SWITCHBOARD__APPS__0__ROUTING__CALLBACKS__URL_FILE", Some("/nonexistent"));
    assert_eq!(case.problems().len(), 1);
    let mut case = case;
    case.sources.environment.pop();
    let key = case.load().settings.apps[0].routing.telnyx.api_key.clone();
    assert_eq!(key, Some(Secret::new("KEY-FROM-FILE".to_owned())));
}

#[test]
fn a_portals_directory_needs_its_url_and_queries() {
    const URL: &str = "url = \"mysql://r:p@db/portal\"\n";
    const FIND: &str = "find_number = \"SELECT 1 WHERE n = :number\"\n";
    const OWN: &str = "own_numbers = \"SELECT 1 WHERE u = :user_id\"\n";
    let sql = "mode = \"sql\"\n";
    for (lines, expected) in [
        (format!("{sql}{URL}{FIND}{OWN}"), vec![]),
        (format!("{URL}{FIND}"), vec![]),
        (
            sql.to_owned(),
            vec![
                "2: routing.directory.mode: \"sql\" needs routing.directory.url",
                "2: routing.directory.mode: \"sql\" needs routing.directory.find_number",
                "2: routing.directory.mode: \"sql\" needs routing.directory.own_numbers",
            ],
        ),
        // What was refused is not missing.
        (
            format!("{sql}url = \"x\"\n{FIND}{OWN}"),
            vec![
                "3: routing.directory.url: must be mysql://user:password@host/database or \
                 postgres://user:password@host/database",
            ],
        ),
        (
            format!(
                "{sql}{URL}{OWN}find_number = \"SELECT ':number' WHERE n = :nubmer AND c = :candidate\"\n"
            ),
            vec![
                "5: routing.directory.find_number: has no parameter :candidate; it may use :number and :candidates",
                "5: routing.directory.find_number: has no parameter :nubmer; it may use :number and :candidates",
                "5: routing.directory.find_number: must use :number or :candidates",
            ],
        ),
        (format!("{sql}{URL}{OWN}find_number = \"SELECT 1 WHERE n IN (:candidates)\"\n"), vec![]),
        (
            format!("{sql}{URL}{FIND}own_numbers = \"SELECT 1\"\n"),
            vec!["5: routing.directory.own_numbers: must use :user_id"],
        ),
        (
            format!("{sql}{URL}{FIND}{OWN}find_conversation = \"SELECT 1 WHERE u = :user_id\"\n"),
            vec!["6: routing.directory.find_conversation: must use :contact"],
        ),
    ] {
        let second = APP.replace("\"1\"", "\"2\"").replace("\"k\"", "\"l\"");
        let case = Case::new(&format!("[routing.directory]\n{lines}{APP}{second}"));
        let expected: Vec<_> = expected.iter().map(|problem| format!("switchboard.toml:{problem}")).collect();
        let found = load(&case.sources).map_or_else(|_| case.problems(), |_| Vec::new());
        assert_eq!(found, expected, "{lines}");
    }

    // Each app may have a database of its own.
    let common = format!("[routing.directory]\n{sql}{FIND}{OWN}");
    let own = |lines: &str| format!("{common}{APP}[apps.routing.directory]\n{lines}");
    Case::new(&own(URL)).load();
    Case::new(&own("mode = \"own\"")).load();
    assert_eq!(
        Case::new(&own(&format!("{URL}own_numbers = \"SELECT 1\""))).problems(),
        ["switchboard.toml:11: apps.0.routing.directory.own_numbers: must use :user_id"]
    );
    assert_eq!(
        Case::new(&format!("{APP}[apps.routing.directory]\n{sql}{FIND}{OWN}")).problems(),
        ["switchboard.toml:6: apps.0.routing.directory.mode: \"sql\" needs routing.directory.url"]
    );
    // Development mode, too.
    let case = Case::new(&format!("[routing.directory]\n{sql}{FIND}{OWN}")).creating();
    assert_eq!(case.problems().len(), 1);
}

#[test]
fn a_carrier_without_keys_for_retries_is_allowed() {
    let file = "[routing.carrier.telnyx]\nidempotency = \"off\"\non_unclear = \"retry_with_key\"\n";
    let telnyx = Case::new(&format!("{file}{APP}")).load().settings.apps.remove(0).routing.telnyx;
    assert_eq!((telnyx.idempotency, telnyx.on_unclear), (Idempotency::Off, OnUnclear::RetryWithKey));
}

#[test]
fn an_app_covers_the_budgets_of_all_apps_key_by_key() {
    let second = APP.replace("\"1\"", "\"2\"").replace("\"k\"", "\"l\"");
    let common = "[server.client]\nmessage_rate = 70\nrefusal_burst = 30\n";
    let case = Case::new(&format!("{common}{APP}[apps.client]\nmessage_rate = 0\n{second}"));
    let budgets = |case: &Case| {
        let apps = case.load().settings.apps;
        let of_app =
            |app: &AppSettings| (app.client.message_rate.map_or(0, u32::from), app.client.refusal_burst);
        apps.iter().map(of_app).collect::<Vec<_>>()
    };
    assert_eq!(budgets(&case), [(0, 30), (70, 30)]);
    let case = case.set("SWITCHBOARD__APPS__1__CLIENT__REFUSAL_BURST", Some("40"));
    assert_eq!(budgets(&case), [(0, 30), (70, 40)]);
    assert_eq!(
        Case::new(&format!("{APP}[apps.client]\nmesage_rate = 1\n")).problems(),
        [
            "switchboard.toml:6: apps.0.client.mesage_rate: unknown key; did you mean apps.client.message_rate?"
        ]
    );
}
