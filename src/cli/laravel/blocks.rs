//! The texts that a Laravel project needs: one source for the command, the banner and the documentation.

use clap::ValueEnum;

/// Which variables and which bundler a project uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Form {
    /// Laravel 11 to 13: the driver `reverb`, and Vite
    #[default]
    Reverb,
    /// Laravel 9 and later: the driver `pusher`, and Vite
    Pusher,
    /// Laravel 8, or later with Laravel Mix: the driver `pusher`
    Mix,
}

/// One text to paste.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Block {
    /// Commands that install the packages
    Commands,
    /// Lines for .env
    Env,
    /// The options for config/broadcasting.php, which Laravel 8 lacks (form mix)
    Broadcasting,
    /// resources/js/echo.js
    Echo,
    /// Lines for the app.ts or app.js of a Vue project
    Vue,
    /// Lines for the app.tsx or app.jsx of a React project
    React,
}

/// What stands in a `.env` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Values {
    pub id: String,
    pub key: String,
    /// `None`: a comment says how to get it.
    pub secret: Option<String>,
    pub host: String,
    pub port: String,
    pub scheme: String,
}

impl Values {
    /// Those that the documentation shows.
    pub fn example() -> Self {
        Self {
            id: "1001".to_owned(),
            key: "portal-key".to_owned(),
            secret: Some("portal-secret".to_owned()),
            host: "127.0.0.1".to_owned(),
            port: "6001".to_owned(),
            scheme: "http".to_owned(),
        }
    }
}

impl Form {
    /// The value of `--form`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reverb => "reverb",
            Self::Pusher => "pusher",
            Self::Mix => "mix",
        }
    }

    /// The blocks of this form, in the order in which one pastes them.
    pub fn blocks(self) -> &'static [Block] {
        match self {
            Self::Reverb | Self::Pusher => {
                &[Block::Commands, Block::Env, Block::Echo, Block::Vue, Block::React]
            }
            Self::Mix => &[Block::Commands, Block::Env, Block::Broadcasting, Block::Echo],
        }
    }
}

impl Block {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Env => "env",
            Self::Broadcasting => "broadcasting",
            Self::Echo => "echo",
            Self::Vue => "vue",
            Self::React => "react",
        }
    }

    /// Where the text of this form goes.
    pub fn place(self, form: Form) -> &'static str {
        match self {
            Self::Commands => "In the project's folder",
            Self::Env => ".env, in place of lines with the same names",
            Self::Broadcasting => "config/broadcasting.php, the options of the connection pusher",
            Self::Echo => match form {
                Form::Reverb => {
                    "resources/js/echo.js, imported by app.js; not needed with Vue's or React's package"
                }
                Form::Pusher => {
                    "resources/js/echo.js, imported by app.js (Laravel 9 and 10: at the end of \
                     resources/js/bootstrap.js); not needed with Vue's or React's package"
                }
                Form::Mix => "At the end of resources/js/bootstrap.js",
            },
            Self::Vue => {
                "Vue: npm i @laravel/echo-vue, and in resources/js/app.ts (or app.js) after the imports"
            }
            Self::React => {
                "React: npm i @laravel/echo-react, and in resources/js/app.tsx (or app.jsx) after the imports"
            }
        }
    }
}

/// The text of a block, which ends with a line break; `None` when the form has no such block.
pub(in crate::cli) fn text(form: Form, block: Block, values: &Values) -> Option<String> {
    let template = template(form, block)?;
    if block == Block::Env { Some(filled(template, values)) } else { Some(template.to_owned()) }
}

fn template(form: Form, block: Block) -> Option<&'static str> {
    Some(match (form, block) {
        (Form::Reverb, Block::Commands) => include_str!("templates/reverb.commands.sh"),
        (Form::Reverb, Block::Env) => include_str!("templates/reverb.env"),
        (Form::Reverb, Block::Echo) => include_str!("templates/reverb.echo.js"),
        (Form::Reverb, Block::Vue) => include_str!("templates/reverb.vue.ts"),
        (Form::Reverb, Block::React) => include_str!("templates/reverb.react.ts"),
        (Form::Pusher, Block::Commands) => include_str!("templates/pusher.commands.sh"),
        (Form::Pusher, Block::Env) => include_str!("templates/pusher.env"),
        (Form::Pusher, Block::Echo) => include_str!("templates/pusher.echo.js"),
        (Form::Pusher, Block::Vue) => include_str!("templates/pusher.vue.ts"),
        (Form::Pusher, Block::React) => include_str!("templates/pusher.react.ts"),
        (Form::Mix, Block::Commands) => include_str!("templates/mix.commands.sh"),
        (Form::Mix, Block::Env) => include_str!("templates/mix.env"),
        (Form::Mix, Block::Broadcasting) => include_str!("templates/mix.broadcasting.php"),
        (Form::Mix, Block::Echo) => include_str!("templates/mix.echo.js"),
        (Form::Reverb | Form::Pusher, Block::Broadcasting) | (Form::Mix, Block::Vue | Block::React) => {
            return None;
        }
    })
}

/// A line with a secret that may not be shown has a comment above it and no value.
fn filled(template: &str, values: &Values) -> String {
    let mut text = String::new();
    for line in template.lines() {
        // Each line has one value at most, so that a value is never taken for a placeholder.
        let line = match line.split_once('{').and_then(|(name, rest)| Some((name, rest.strip_suffix('}')?))) {
            Some((name, "secret")) if values.secret.is_none() => {
                text.push_str("# The app's secret; the same command with --show-secret prints it.\n");
                name.to_owned()
            }
            Some((name, placeholder)) => match value(values, placeholder) {
                Some(value) => format!("{name}{}", quoted(value)),
                None => line.to_owned(),
            },
            None => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn value<'a>(values: &'a Values, placeholder: &str) -> Option<&'a str> {
    match placeholder {
        "id" => Some(&values.id),
        "key" => Some(&values.key),
        "secret" => values.secret.as_deref(),
        "host" => Some(&values.host),
        "port" => Some(&values.port),
        "scheme" => Some(&values.scheme),
        _ => None,
    }
}

/// As Laravel's phpdotenv reads it: as it is, or between quotes that keep every character.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-+/=:@,[]".contains(c);
    if value.chars().all(is_plain) {
        value.to_owned()
    } else if !value.contains('\'') {
        format!("'{value}'")
    } else {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        format!("\"{escaped}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_the_blocks_it_lists_and_no_other() {
        for &form in Form::value_variants() {
            for &block in Block::value_variants() {
                let text = text(form, block, &Values::example());
                assert_eq!(text.is_some(), form.blocks().contains(&block), "{form:?} {block:?}");
                let text = text.unwrap_or_default();
                assert!(!text.contains("{id}") && !text.contains("{key}"), "{text}");
                let argument = block.to_possible_value().expect("none is hidden");
                assert_eq!(argument.get_name(), block.name());
            }
            assert_eq!(form.to_possible_value().expect("none is hidden").get_name(), form.name());
        }
    }

    #[test]
    fn a_secret_that_may_not_be_shown_leaves_a_hint() {
        let values = Values { secret: None, ..Values::example() };
        let text = text(Form::Pusher, Block::Env, &values).expect("a block");
        assert!(
            text.contains("--show-secret prints it.\nPUSHER_APP_SECRET=\nPUSHER_HOST=127.0.0.1\n"),
            "{text}"
        );
    }

    #[test]
    fn values_with_special_characters_are_quoted() {
        for (value, written) in [
            ("a1.b-c_d", "a1.b-c_d"),
            ("[::1]", "[::1]"),
            ("with space", "'with space'"),
            ("${HOME}#", "'${HOME}#'"),
            ("it's $5", "\"it's \\$5\""),
            ("{secret}", "'{secret}'"),
        ] {
            assert_eq!(quoted(value), written);
        }
    }
}
