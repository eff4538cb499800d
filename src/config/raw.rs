//! A value as a layer gave it, before its key says what it must be.

/// TOML values have types; values from the environment, flags and `${…}` are text that takes the type
/// its key asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Raw>),
    /// Names and values, in the order of the file.
    Table(Vec<(String, Raw)>),
    /// Text without a type, and what separates the items when a list is asked for.
    Untyped(String, char),
    /// A kind no key takes, named for the message ("a date").
    Other(&'static str),
}

impl Raw {
    pub(crate) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) | Self::Untyped(text, _) => Ok(text),
            _ => Err(self.mismatch("a string in quotes")),
        }
    }

    pub(crate) fn integer(&self) -> Result<i64, String> {
        match self {
            Self::Integer(number) => Ok(*number),
            Self::Untyped(text, _) => {
                text.trim().parse().map_err(|_| format!("expected a whole number, found {text:?}"))
            }
            _ => Err(self.mismatch("a whole number without quotes")),
        }
    }

    pub(crate) fn boolean(&self) -> Result<bool, String> {
        match self {
            Self::Boolean(flag) => Ok(*flag),
            Self::Untyped(text, _) => match text.trim() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(format!("expected true or false, found {text:?}")),
            },
            _ => Err(self.mismatch("true or false without quotes")),
        }
    }

    pub(crate) fn list(&self) -> Result<Vec<Raw>, String> {
        match self {
            Self::List(items) => Ok(items.clone()),
            Self::Untyped(text, _) if text.trim().is_empty() => Ok(Vec::new()),
            Self::Untyped(text, separator) => {
                Ok(text.split(*separator).map(|item| Self::Untyped(item.trim().to_owned(), ',')).collect())
            }
            _ => Err(self.mismatch("a list such as [\"…\"]")),
        }
    }

    fn mismatch(&self, expected: &str) -> String {
        let found = match self {
            Self::Text(_) | Self::Untyped(..) => "a string",
            Self::Integer(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        };
        format!("expected {expected}, found {found}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untyped(text: &str) -> Raw {
        Raw::Untyped(text.to_owned(), ',')
    }

    #[test]
    fn untyped_text_takes_the_type_asked_for() {
        assert_eq!(untyped("5").integer(), Ok(5));
        assert_eq!(untyped("true").boolean(), Ok(true));
        assert_eq!(untyped("5").text(), Ok("5"));
        assert_eq!(untyped("a, b").list(), Ok(vec![untyped("a"), untyped("b")]));
        assert_eq!(untyped(" ").list(), Ok(vec![]));
        assert_eq!(Raw::Untyped("a,b\nc".to_owned(), '\n').list(), Ok(vec![untyped("a,b"), untyped("c")]));
    }

    #[test]
    fn a_type_mismatch_names_both_types() {
        let text = Raw::Text("x".to_owned());
        assert_eq!(text.integer(), Err("expected a whole number without quotes, found a string".to_owned()));
        assert_eq!(text.boolean(), Err("expected true or false without quotes, found a string".to_owned()));
        assert_eq!(text.list(), Err("expected a list such as [\"…\"], found a string".to_owned()));
        assert_eq!(Raw::Integer(1).text(), Err("expected a string in quotes, found a number".to_owned()));
        assert_eq!(
            Raw::Table(Vec::new()).text(),
            Err("expected a string in quotes, found a table".to_owned())
        );
        assert_eq!(untyped("x").integer(), Err("expected a whole number, found \"x\"".to_owned()));
        assert_eq!(untyped("yes").boolean(), Err("expected true or false, found \"yes\"".to_owned()));
    }
}
