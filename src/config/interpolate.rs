//! `${NAME}` and `${NAME:-default}` in string values.

/// Replaces every reference; `$${` stands for a literal `${`. `None` when the text has neither.
///
/// As in a shell, the default also stands in for an empty variable; without a default an empty variable
/// is empty text. Replaced text is not searched again.
///
/// # Errors
/// A variable that is not set, a name that cannot be one, or a `${` that is not closed.
pub(super) fn interpolate<'a>(
    text: &str,
    lookup: impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<String>, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut replaced = false;
    while let Some(start) = rest.find("${") {
        replaced = true;
        result.push_str(&rest[..start]);
        if result.ends_with('$') && rest[..start].ends_with('$') {
            result.push('{');
            rest = &rest[start + 2..];
            continue;
        }
        let end =
            rest[start..].find('}').ok_or("\"${\" has no closing \"}\"; write \"$${\" for the characters")?;
        let reference = &rest[start + 2..start + end];
        rest = &rest[start + end + 1..];
        result.push_str(resolve(reference, &lookup)?);
    }
    result.push_str(rest);
    Ok(replaced.then_some(result))
}

fn resolve<'a: 'b, 'b>(
    reference: &'b str,
    lookup: &impl Fn(&str) -> Option<&'a str>,
) -> Result<&'b str, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        // Not quoted: it may be part of a secret.
        return Err("has a \"${…}\" that is neither ${NAME} nor ${NAME:-default}".to_owned());
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default),
        (None, None) => Err(format!("${{{name}}} is not set; set it or write ${{{name}:-default}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<&'static str> {
        match name {
            "HOST" => Some("portal.example"),
            "EMPTY" => Some(""),
            "NESTED" => Some("${HOST}"),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced() {
        for (text, expected) in [
            ("${HOST}", "portal.example"),
            ("https://${HOST}:${PORT:-6001}/", "https://portal.example:6001/"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${MISSING:-}", ""),
            ("${NESTED}", "${HOST}"),
            ("$${HOST}", "${HOST}"),
            ("a$${b}${HOST}", "a${b}portal.example"),
        ] {
            assert_eq!(interpolate(text, lookup), Ok(Some(expected.to_owned())), "{text}");
        }
        for text in ["", "plain", "$HOST", "{HOST}", "$$", "5$"] {
            assert_eq!(interpolate(text, lookup), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_resolved_is_refused() {
        for (text, why) in [
            ("${MISSING}", "${MISSING} is not set"),
            ("${HOST", "no closing"),
            ("${}", "neither ${NAME}"),
            ("${A B}", "neither ${NAME}"),
            ("${:-x}", "neither ${NAME}"),
        ] {
            let message = interpolate(text, lookup).expect_err(text);
            assert!(message.contains(why), "{text}: {message}");
        }
    }
}
