//! The process environment and a Laravel `.env` file below it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::dotenv;
use super::layers::Entry;
use super::problem::{Origin, Problem, shown};
use super::raw::Raw;

/// Two underscores between levels, as single ones are part of names. What else begins with `SWITCHBOARD` is
/// judged by `stray`.
pub(super) const PREFIX: &str = "SWITCHBOARD__";

/// Families of variables that other servers and Laravel use for one app; the first that is set counts.
const APP_FAMILIES: [&str; 3] = ["PUSHER_APP", "REVERB_APP", "SOKETI_DEFAULT_APP"];

/// Where clients reach the server, as far as Laravel's variables say so. For printed snippets only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// `PUSHER_HOST` or `REVERB_HOST`.
    pub host: Option<String>,
    /// `PUSHER_PORT` or `REVERB_PORT`.
    pub port: Option<String>,
    /// `PUSHER_SCHEME` or `REVERB_SCHEME`.
    pub scheme: Option<String>,
}

/// Variables by name; the process hides the file.
#[derive(Default)]
pub(super) struct Environment {
    variables: BTreeMap<String, Variable>,
    /// Names that the configuration file mentions.
    referred: RefCell<BTreeSet<String>>,
}

pub(super) struct Variable {
    pub value: String,
    pub origin: Origin,
    unresolved: Option<String>,
}

impl Environment {
    /// Reads both; faults go to `problems`.
    pub(super) fn read(
        process: &[(OsString, OsString)],
        env_file: Option<&Path>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut variables = BTreeMap::new();
        for (name, value) in process {
            let name = name.to_string_lossy().into_owned();
            let origin = Origin::Environment { name: name.as_str().into(), file: None };
            match value.to_str() {
                Some(value) => {
                    let value = value.to_owned();
                    variables.insert(name, Variable { value, origin, unresolved: None });
                }
                None if name.starts_with(PREFIX) => problems.push(Problem::new(origin, "", "is not UTF-8")),
                None => {}
            }
        }
        let mut environment = Self { variables, ..Self::default() };
        if let Some(path) = env_file {
            environment.add_file(path, problems);
        }
        environment
    }

    fn add_file(&mut self, path: &Path, problems: &mut Vec<Problem>) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return problems.push(Problem::new(
                    Origin::whole_file(path),
                    "",
                    format!("cannot be read: {error}"),
                ));
            }
        };
        match dotenv::parse(&text, |name| self.get(name).map(str::to_owned)) {
            Ok(assignments) => {
                let path = shown(path);
                // The last of several lines counts, a process variable above all of them.
                for assignment in assignments.into_iter().rev() {
                    let file = Some((path.clone(), assignment.line));
                    let origin = Origin::Environment { name: assignment.name.as_str().into(), file };
                    let (value, unresolved) = (assignment.value, assignment.unresolved);
                    self.variables.entry(assignment.name).or_insert(Variable { value, origin, unresolved });
                }
            }
            Err(faults) => problems.extend(
                faults.into_iter().map(|(line, fault)| Problem::new(Origin::line(path, line), "", fault)),
            ),
        }
    }

    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|variable| variable.value.as_str())
    }

    /// The value of a variable that the configuration file mentions.
    pub(super) fn refer_to(&self, name: &str) -> Option<&str> {
        self.referred.borrow_mut().insert(name.to_owned());
        self.get(name)
    }

    /// Variables that the file does not mention.
    pub(super) fn others(&self) -> impl Iterator<Item = (&str, &Variable)> {
        let is_other = |name: &str| !self.referred.borrow().contains(name);
        self.variables
            .iter()
            .map(|(name, variable)| (name.as_str(), variable))
            .filter(move |(name, _)| is_other(name))
    }

    /// The `SWITCHBOARD__SECTION__KEY` variables.
    pub(super) fn entries(&self, problems: &mut Vec<Problem>) -> Vec<Entry> {
        let path = |name: &str| Some(name.strip_prefix(PREFIX)?.to_ascii_lowercase().replace("__", "."));
        let ours = self.variables.iter().filter_map(|(name, variable)| Some((path(name)?, variable)));
        ours.filter_map(|(path, variable)| variable.entry(path, problems)).collect()
    }

    /// The app of the first family with a value. Empty counts as not set: Laravel's `.env.example` has
    /// the names without values.
    pub(super) fn app(&self, problems: &mut Vec<Problem>) -> Vec<Entry> {
        let is_set = |name: &String| self.get(name).is_some_and(|value| !value.is_empty());
        for family in APP_FAMILIES {
            let keys = [("ID", "id"), ("KEY", "key"), ("SECRET", "secrets")];
            let names = keys.map(|(suffix, key)| (format!("{family}_{suffix}"), key));
            let (set, missing): (Vec<_>, Vec<_>) = names.iter().partition(|(name, _)| is_set(name));
            let Some((first, _)) = set.first() else { continue };
            if !missing.is_empty() {
                let missing: Vec<_> = missing.iter().map(|(name, _)| name.as_str()).collect();
                let message = format!("is set without {}; an app needs all three", missing.join(" and "));
                problems.push(Problem::new(self.variables[first].origin.clone(), "apps.0", message));
            }
            return set
                .iter()
                .filter_map(|(name, key)| self.variables[name].entry(format!("apps.0.{key}"), problems))
                .map(one_secret)
                .collect();
        }
        Vec::new()
    }

    /// All three from one family: the one that the app comes from, otherwise the first with a host. Laravel's
    /// `.env.example` has `PUSHER_PORT` also in projects that use the other family.
    pub(super) fn endpoint(&self) -> Endpoint {
        let get = |name: String| self.get(&name).filter(|value| !value.is_empty()).map(str::to_owned);
        let families = ["PUSHER", "REVERB"];
        let has = |part| move |family: &&&str| get(format!("{family}_{part}")).is_some();
        let family = families.iter().find(has("APP_KEY")).or_else(|| families.iter().find(has("HOST")));
        let of = |part| get(format!("{}_{part}", family.unwrap_or(&families[0])));
        Endpoint { host: of("HOST"), port: of("PORT"), scheme: of("SCHEME") }
    }
}

/// The variable that sets a key.
pub(super) fn variable_name(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

impl Variable {
    fn entry(&self, path: String, problems: &mut Vec<Problem>) -> Option<Entry> {
        if let Some(name) = &self.unresolved {
            let message = format!("refers to ${{{name}}}, which is not set");
            problems.push(Problem::new(self.origin.clone(), path, message));
            return None;
        }
        Some(Entry { path, origin: self.origin.clone(), raw: Raw::Untyped(self.value.clone(), ',') })
    }
}

/// `PUSHER_APP_SECRET` is one secret, whatever characters it has.
fn one_secret(entry: Entry) -> Entry {
    match entry.raw {
        Raw::Untyped(text, _) if entry.path.ends_with(".secrets") => {
            Entry { raw: Raw::List(vec![Raw::Text(text)]), ..entry }
        }
        _ => entry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let process: Vec<_> = pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut problems = Vec::new();
        let environment = Environment::read(&process, None, &mut problems);
        assert_eq!(problems, []);
        environment
    }

    #[test]
    fn two_underscores_separate_levels() {
        let environment = environment(&[
            ("SWITCHBOARD__SERVER__MAX_CONNECTIONS", "5"),
            ("SWITCHBOARD__APPS__0__KEY", "k"),
            ("SWITCHBOARD_PORT", "tcp://10.0.0.1:6001"),
            ("PATH", "/bin"),
        ]);
        let mut problems = Vec::new();
        let entries = environment.entries(&mut problems);
        let found: Vec<_> = entries.iter().map(|e| (e.path.as_str(), e.origin.to_string())).collect();
        assert_eq!(
            found,
            [
                ("apps.0.key", "environment SWITCHBOARD__APPS__0__KEY".to_owned()),
                ("server.max_connections", "environment SWITCHBOARD__SERVER__MAX_CONNECTIONS".to_owned()),
            ]
        );
        assert_eq!(problems, []);
    }

    #[test]
    fn the_first_family_with_a_value_is_the_app() {
        let soketi = [
            ("SOKETI_DEFAULT_APP_ID", "s"),
            ("SOKETI_DEFAULT_APP_KEY", "s"),
            ("SOKETI_DEFAULT_APP_SECRET", "s"),
        ];
        let reverb = [("REVERB_APP_ID", "r"), ("REVERB_APP_KEY", "r"), ("REVERB_APP_SECRET", "r")];
        let pusher = [("PUSHER_APP_ID", "p"), ("PUSHER_APP_KEY", "p"), ("PUSHER_APP_SECRET", "p,1")];
        let empty = [("PUSHER_APP_ID", ""), ("PUSHER_APP_KEY", "")];
        for (pairs, id) in [
            (soketi.to_vec(), "s"),
            ([soketi, reverb].concat(), "r"),
            ([soketi, reverb, pusher].concat(), "p"),
            ([&reverb[..], &empty[..]].concat(), "r"),
        ] {
            let mut problems = Vec::new();
            let entries = environment(&pairs).app(&mut problems);
            assert_eq!(problems, []);
            assert_eq!(entries.len(), 3);
            assert_eq!(entries[0].raw.text(), Ok(id));
        }
        let secret = environment(&pusher).app(&mut Vec::new()).remove(2);
        assert_eq!(secret.raw, Raw::List(vec![Raw::Text("p,1".to_owned())]));
        assert_eq!(environment(&empty).app(&mut Vec::new()), []);
    }

    #[test]
    fn the_address_comes_from_the_family_of_the_app() {
        let pusher = [("PUSHER_HOST", "p"), ("PUSHER_PORT", "1")];
        let reverb = [("REVERB_HOST", "r"), ("REVERB_SCHEME", "https")];
        for (pairs, host, port, scheme) in [
            (pusher.to_vec(), Some("p"), Some("1"), None),
            (reverb.to_vec(), Some("r"), None, Some("https")),
            ([pusher, reverb].concat(), Some("p"), Some("1"), None),
            ([&pusher[..], &reverb, &[("REVERB_APP_KEY", "k")]].concat(), Some("r"), None, Some("https")),
            ([&[("PUSHER_PORT", "443")], &reverb[..]].concat(), Some("r"), None, Some("https")),
            (vec![("PUSHER_HOST", "")], None, None, None),
        ] {
            let endpoint = environment(&pairs).endpoint();
            let found = (endpoint.host.as_deref(), endpoint.port.as_deref(), endpoint.scheme.as_deref());
            assert_eq!(found, (host, port, scheme), "{pairs:?}");
        }
    }

    #[test]
    fn a_partial_app_is_a_problem() {
        let environment = environment(&[("PUSHER_APP_KEY", "k"), ("PUSHER_APP_SECRET", "")]);
        let mut problems = Vec::new();
        environment.app(&mut problems);
        assert_eq!(
            problems[0].to_string(),
            "environment PUSHER_APP_KEY: apps.0: is set without PUSHER_APP_ID and PUSHER_APP_SECRET; an app needs all three"
        );
    }

    #[test]
    fn the_process_hides_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(".env");
        fs::write(&path, "PUSHER_APP_ID=1\nPUSHER_APP_KEY=file\nPUSHER_APP_SECRET=\"${LATER}\"\nA=1\nA=2\n")
            .expect("write");
        let process = [("PUSHER_APP_KEY".into(), "process".into())];
        let mut problems = Vec::new();
        let environment = Environment::read(&process, Some(&path), &mut problems);
        assert_eq!(problems, []);
        assert_eq!(environment.get("PUSHER_APP_KEY"), Some("process"));
        assert_eq!(environment.get("PUSHER_APP_ID"), Some("1"));
        assert_eq!(environment.get("A"), Some("2"));
        environment.app(&mut problems);
        let expected = format!(
            "{}:3 PUSHER_APP_SECRET: apps.0.secrets: refers to ${{LATER}}, which is not set",
            path.display()
        );
        assert_eq!(problems[0].to_string(), expected);
    }

    #[test]
    fn what_cannot_be_read_is_a_problem() {
        let folder = tempfile::tempdir().expect("folder");
        let mut problems = Vec::new();
        Environment::read(&[], Some(&folder.path().join("missing")), &mut problems);
        assert!(problems[0].message.starts_with("cannot be read"));
        let path = folder.path().join(".env");
        fs::write(&path, "A='open").expect("write");
        problems.clear();
        Environment::read(&[], Some(&path), &mut problems);
        assert!(problems[0].to_string().contains(".env:1: A: has no closing '"), "{}", problems[0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_value_of_ours_must_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = || OsString::from_vec(vec![0xff]);
        let process = [("SWITCHBOARD__LOG__LEVEL".into(), bytes()), ("OTHER".into(), bytes())];
        let mut problems = Vec::new();
        Environment::read(&process, None, &mut problems);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].message, "is not UTF-8");
    }
}
