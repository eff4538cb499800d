//! Variables that look like settings and are none: names with a single underscore or in the wrong case, and
//! names of other servers.

use super::environment::{Environment, PREFIX, Variable};
use super::foreign::{self, Advice, squeezed};
use super::layers::as_variable;
use super::problem::{Origin, Problem};
use super::schema::{self, Place, sections};

/// What our names begin with, in any case.
const NAME: &str = "SWITCHBOARD_";

/// Likeness from which a name is taken for a misspelt one.
const ALIKE: f64 = 0.8;

/// Looks at every variable; slips are problems, what has no effect otherwise is returned.
pub(super) fn look(environment: &Environment, problems: &mut Vec<Problem>) -> Vec<Problem> {
    let mut hints = Vec::new();
    for (name, variable) in environment.others().filter(|(_, variable)| !variable.value.is_empty()) {
        if is_stray(name, &variable.value) {
            let problem = Problem::new(variable.origin.clone(), "", "is not a setting");
            match suggestion(&name[NAME.len()..]) {
                Some(right) => problems.push(Problem {
                    message: "is not a setting: two underscores separate the levels of a name".to_owned(),
                    nearest: Some(right.into()),
                    ..problem
                }),
                // The variables of a Laravel project are its own business.
                None if is_of_process(variable) => hints
                    .push(Problem { message: "is not a setting and has no effect".to_owned(), ..problem }),
                None => {}
            }
        } else if let Some(advice) = foreign::variable(name) {
            hints.push(of_other_server(variable, advice));
        }
    }
    hints
}

fn of_other_server(variable: &Variable, advice: Advice) -> Problem {
    let message = match advice {
        Advice::Use(key, "") => format!("has no effect: set {}", as_variable(key, Place::default())),
        Advice::Use(key, text) => {
            format!("has no effect: set {}. {text}", as_variable(key, Place::default()))
        }
        Advice::Needless(why) => format!("has no effect and is not needed: {why}"),
    };
    Problem::new(variable.origin.clone(), "", message)
}

fn is_of_process(variable: &Variable) -> bool {
    matches!(variable.origin, Origin::Environment { file: None, .. })
}

/// Whether a name begins as ours do, and neither is one nor comes from a container's platform.
fn is_stray(name: &str, value: &str) -> bool {
    let begins =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    begins(NAME) && !name.starts_with(PREFIX) && !is_injected(&name[NAME.len()..], value)
}

/// Kubernetes sets `SWITCHBOARD_SERVICE_HOST`, `SWITCHBOARD_PORT=tcp://…` and more for a service whose name
/// begins with `switchboard`; Docker's links set `SWITCHBOARD_NAME=/web/switchboard` and `SWITCHBOARD_ENV_…`.
fn is_injected(rest: &str, value: &str) -> bool {
    let is_service = rest == "SERVICE_HOST" || rest.ends_with("_SERVICE_HOST") || {
        rest.starts_with("SERVICE_PORT") || rest.contains("_SERVICE_PORT")
    };
    let is_port = rest == "PORT" || rest.ends_with("_PORT") || rest.contains("PORT_");
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_part = rest.contains("PORT_")
        && ["_PROTO", "_PORT", "_ADDR"].iter().any(|part| {
            let stem = rest.strip_suffix(part).unwrap_or_default();
            ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| stem.ends_with(protocol))
        });
    let is_link = rest.starts_with("ENV_") || (rest == "NAME" && value.starts_with('/'));
    is_service || (is_port && is_address) || is_part || is_link
}

/// The variable that a misspelt name means: levels separated by anything, in any case, with or without the
/// indices of an app and its webhook. `name` is without `SWITCHBOARD`.
pub(super) fn suggestion(name: &str) -> Option<String> {
    let words: Vec<&str> = name.split(['_', '.', '-']).filter(|word| !word.is_empty()).collect();
    let (words, is_file) = match words.split_last() {
        Some((last, rest)) if last.eq_ignore_ascii_case("file") => (rest.to_vec(), true),
        _ => (words, false),
    };
    let mut numbers = words.iter().filter_map(|word| word.parse::<usize>().ok());
    let place = Place { app: numbers.next(), webhook: numbers.next() };
    let wanted = words.iter().filter(|word| word.parse::<usize>().is_err()).map(|word| squeezed(word));
    let wanted = wanted.collect::<String>();
    let known = known_as(&wanted)?;
    let variable = as_variable(&known, place);
    Some(if is_file { format!("{variable}_FILE") } else { variable })
}

/// The key whose whole name, or whose own name in `[server]`, is like this one.
fn known_as(wanted: &str) -> Option<String> {
    if matches!(wanted, "host" | "serverhost") {
        return Some("server.bind".to_owned());
    }
    let keys = sections().flat_map(|section| section.keys.iter().map(move |key| (section.name, key.name)));
    let own = ["apps", "app"]
        .iter()
        .find_map(|list| wanted.strip_prefix(list))
        .filter(|own| own.starts_with("routing"));
    let likeness = |(section, key): (&str, &str)| {
        let whole = squeezed(&format!("{section}.{key}")).replace('.', "");
        let mut likeness = strsim::normalized_damerau_levenshtein(wanted, &whole);
        if let Some(own) = own {
            likeness = likeness.max(strsim::normalized_damerau_levenshtein(own, &whole));
        }
        if section == "server" && squeezed(key) == wanted { 1.0 } else { likeness }
    };
    let scored = keys.map(|key| (likeness(key), key));
    let (_, (section, key)) =
        scored.filter(|(likeness, _)| *likeness >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0))?;
    let prefix = if own.is_some() && schema::is_within(section, "routing") { "apps." } else { "" };
    Some(format!("{prefix}{section}.{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_known_again() {
        for (name, right) in [
            ("SERVER_BIND", "SERVER__BIND"),
            ("SERVER_MAX_CONNECTIONS", "SERVER__MAX_CONNECTIONS"),
            ("server__bind", "SERVER__BIND"),
            ("_SERVER_BIND", "SERVER__BIND"),
            ("SERVER__BNID", "SERVER__BIND"),
            ("BIND", "SERVER__BIND"),
            ("HOST", "SERVER__BIND"),
            ("PORT", "SERVER__PORT"),
            ("DATA_DIR", "SERVER__DATA_DIR"),
            ("SERVER_DRAIN_WINDOW", "SERVER__DRAIN__WINDOW"),
            ("LOG_LEVEL", "LOG__LEVEL"),
            ("ADMIN_TOKEN_FILE", "ADMIN__TOKEN_FILE"),
            ("APP_KEY", "APPS__0__KEY"),
            ("APPS_1_SECRET", "APPS__1__SECRETS"),
            ("APPS_0_WEBHOOKS_2_URL", "APPS__0__WEBHOOKS__2__URL"),
            ("APPS_0_ROUTING_DEFAULT_REGION", "APPS__0__ROUTING__DEFAULT_REGION"),
            ("ROUTING_CARRIER_TELNYX_API_KEY", "ROUTING__CARRIER__TELNYX__API_KEY"),
        ] {
            assert_eq!(suggestion(name), Some(format!("{PREFIX}{right}")), "{name}");
        }
        for name in ["URL", "SECRET", "API_KEY", "VERSION", "IMAGE_TAG", "PUBLIC_URL"] {
            assert_eq!(suggestion(name), None, "{name}");
        }
    }

    #[test]
    fn what_platforms_set_is_no_slip() {
        for (name, value) in [
            ("SWITCHBOARD_SERVICE_HOST", "10.0.0.1"),
            ("SWITCHBOARD_SERVICE_PORT", "6001"),
            ("SWITCHBOARD_SERVICE_PORT_HTTP", "6001"),
            ("SWITCHBOARD_PORT", "tcp://10.0.0.1:6001"),
            ("SWITCHBOARD_PORT_6001_TCP", "tcp://10.0.0.1:6001"),
            ("SWITCHBOARD_PORT_6001_TCP_PROTO", "tcp"),
            ("SWITCHBOARD_PORT_6001_TCP_PORT", "6001"),
            ("SWITCHBOARD_PORT_6001_TCP_ADDR", "10.0.0.1"),
            ("SWITCHBOARD_SERVER_PORT", "tcp://10.0.0.1:6001"),
            ("SWITCHBOARD_SERVER_SERVICE_PORT", "6001"),
            ("SWITCHBOARD_NAME", "/web/switchboard"),
            ("SWITCHBOARD_ENV_PUSHER_APP_ID", "1"),
            ("SWITCHBOARD__SERVER__PORT", "6001"),
            ("SWITCHBOARDS", "1"),
        ] {
            assert!(!is_stray(name, value), "{name}");
        }
        for (name, value) in [
            ("SWITCHBOARD_PORT", "6001"),
            ("SWITCHBOARD_SERVER_PORT", "6001"),
            ("switchboard__server__port", "1"),
        ] {
            assert!(is_stray(name, value), "{name}");
        }
    }
}
