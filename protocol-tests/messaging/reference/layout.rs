//! JSON for readers: lines hold as much as fits.

use serde_json::Value;

const WIDTH: usize = 110;

/// A value over as few lines as the width allows.
pub fn layout(value: &Value) -> String {
    indented(value, 0)
}

fn indented(value: &Value, depth: usize) -> String {
    let pad = "  ".repeat(depth + 1);
    let (open, close, members) = match value {
        Value::Object(members) => {
            let named =
                members.iter().map(|(name, value)| (format!("{}: ", Value::from(name.as_str())), value));
            ('{', '}', named.collect::<Vec<_>>())
        }
        Value::Array(items) => ('[', ']', items.iter().map(|item| (String::new(), item)).collect()),
        scalar => return scalar.to_string(),
    };
    let flat: Vec<_> = members.iter().map(|(name, value)| format!("{name}{}", flat(value))).collect();
    let whole = format!("{open}{}{close}", flat.join(", "));
    if whole.chars().count() + pad.len() <= WIDTH {
        return whole;
    }
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for ((name, value), flat) in members.iter().zip(flat) {
        let length = pad.len() + flat.chars().count() + 1;
        match lines.last_mut().filter(|line| is_open && line.chars().count() + length < WIDTH) {
            Some(line) => line.push_str(&format!(", {flat}")),
            None if length <= WIDTH => lines.push(flat),
            None => lines.push(format!("{name}{}", indented(value, depth + 1))),
        }
        is_open = length <= WIDTH;
    }
    format!("{open}\n{pad}{}\n{}{close}", lines.join(&format!(",\n{pad}")), "  ".repeat(depth))
}

fn flat(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), flat(value));
            format!("{{{}}}", joined(members.iter().map(member).collect()))
        }
        Value::Array(items) => format!("[{}]", joined(items.iter().map(flat).collect())),
        scalar => scalar.to_string(),
    }
}
