//! The page, made from the OpenAPI document and the examples.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::Example;
use super::layout::layout;

/// Where the calls are in the document.
const PREFIX: &str = "/apps/{app_id}/messaging";

/// The sections: the first part of a path, the heading, and a sentence.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("messages", "Messages", "[States](messaging.md#states) are explained in the guide."),
    (
        "conversations",
        "Conversations",
        "Each side of an internal conversation has a conversation of its own.",
    ),
    (
        "attachments",
        "Attachments",
        "The upload itself is a request of the page, see [attachments](messaging.md#attachments).",
    ),
    ("phone_numbers", "Phone numbers", "The directory decides whether a message stays inside the portal."),
    ("contacts", "Contacts", "A contact belongs to one user."),
    ("opt_outs", "Opt-outs", "An app has one list of opt-outs for all its users."),
    (
        "unrouted_messages",
        "Unrouted messages",
        "The server keeps messages to a number without a user, see [what comes from outside](messaging.md#what-comes-from-outside).",
    ),
    (
        "carrier_events",
        "Carrier webhooks",
        "The server keeps each webhook of the carrier that it can't use, see [what comes from outside](messaging.md#what-comes-from-outside).",
    ),
    ("callbacks", "Callbacks", "The server gives a callback up after `callbacks.give_up_after`."),
    (
        "status",
        "Status",
        "For dashboards and scripts; [metrics](messaging.md#operating-it) are on the admin port.",
    ),
    ("user_tokens", "User tokens", "Only with `tokens.enabled = true`, for demonstrations."),
];

const BEGIN: &str = "\
# The messaging API

The backend of a portal makes these calls: it sends messages, reads conversations and keeps the directory of phone numbers. The
[guide](messaging.md) explains the concepts, the [glossary](glossary.md) the words, [openapi.json](openapi.json) is the same
reference for programs. This page is generated: a test makes each request below against a running server, and compares the page with
the server's answers and with the table of calls (`src/api/messaging/table.rs`).

## Requests

`http://HOST:PORT/apps/APP_ID/messaging/…`, with a signature as for the [HTTP API of Pusher](protocol.md#authentication). Every Pusher server
SDK signs for you, with its generic `get` and `post`:

```js
const answer = await pusher.post({ path: '/messaging/messages', body: { user_id: 1, to: '(312) 555-0101', text: 'Hello' } });
```

- A POST takes a JSON object, a GET takes query parameters.
- Success is always 200 with a JSON object.
- A phone number may be written in any usual way; answers have the form `+13125550100` (E.164).
- A user id is a number or a string, chosen by the portal.
- Times are UTC, in the form `2026-01-01T09:00:00.000000Z`.
- Paths below leave out `/apps/APP_ID/messaging`; examples leave out the signature. **Required** fields are marked.

An error has a status, a code for programs and a sentence for the developer:

```json
";

/// The whole page. `refusal` is the body of an error.
pub fn page(document: &Value, examples: &[Example], refusal: &Value) -> String {
    let calls = Calls::new(document, examples);
    let mut page = format!("{BEGIN}{}\n```\n\n", layout(refusal));
    page.push_str("`field` names the field at fault, if one is. The codes are listed [below](#errors).\n");
    for (tag, heading, sentence) in SECTIONS {
        let _ = write!(page, "\n## {heading}\n\n{sentence}\n");
        for example in examples.iter().filter(|example| example.call.split('/').nth(1) == Some(tag)) {
            page.push_str(&calls.call(example));
        }
    }
    page.push_str(&calls.errors());
    page
}

struct Calls<'a> {
    document: &'a Value,
    /// Codes of every call, and of every POST.
    common: BTreeSet<String>,
    of_bodies: BTreeSet<String>,
}

impl<'a> Calls<'a> {
    /// Checks that there is exactly one example for each call.
    fn new(document: &'a Value, examples: &[Example]) -> Self {
        let paths = document["paths"].as_object().expect("paths");
        let mut documented = BTreeSet::new();
        for (path, operations) in
            paths.iter().filter_map(|(path, all)| Some((path.strip_prefix(PREFIX)?, all)))
        {
            let methods = operations.as_object().expect("operations").keys();
            documented.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let shown: Vec<_> =
            examples.iter().map(|example| format!("{} {}", example.method, example.call)).collect();
        assert_eq!(shown.len(), documented.len(), "one example for each call");
        assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), documented);
        let all = |method: Option<&str>| {
            let of = examples.iter().filter(|example| method.is_none_or(|method| method == example.method));
            let sets = of.map(|example| codes(&operation(document, example)["responses"]));
            sets.reduce(|all, more| &all & &more).unwrap_or_default()
        };
        Self { document, common: all(None), of_bodies: all(Some("POST")) }
    }

    fn call(&self, example: &Example) -> String {
        let operation = operation(self.document, example);
        let mut text =
            format!("\n### `{} {}`\n\n{}.", example.method, example.call, string(&operation["summary"]));
        if operation["security"].is_array() {
            text.push_str(" A [user token](#user-tokens) may make this call for its own user.");
        }
        text.push_str("\n\n");
        text.push_str(&self.fields(operation));
        let _ = write!(text, "```http\n{} {}\n", example.method, example.target);
        if let Some(body) = &example.body {
            let _ = write!(text, "\n{}\n", layout(body));
        }
        let _ = write!(text, "```\n```json\n{}\n```\n", layout(&example.answer));
        let own: Vec<_> = codes(&operation["responses"])
            .into_iter()
            .filter(|code| !self.common.contains(code) && !self.of_bodies.contains(code))
            .map(|code| format!("`{code}`"))
            .collect();
        if !own.is_empty() {
            let _ = write!(text, "\nErrors: {}.\n", own.join(", "));
        }
        text
    }

    /// The table of a call's fields; nothing if it takes none.
    fn fields(&self, operation: &Value) -> String {
        let mut rows = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "query" {
                rows.push(self.row(
                    string(&parameter["name"]),
                    &parameter["schema"],
                    &parameter["description"],
                    false,
                ));
            }
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let schema = self.resolved(body);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let is_required = required.iter().any(|other| other == name);
            rows.push(self.row(name, field, &field["description"], is_required));
        }
        if rows.is_empty() {
            return String::new();
        }
        format!("| Field | Type | Meaning |\n|---|---|---|\n{}\n\n", rows.join("\n"))
    }

    fn row(&self, name: &str, schema: &Value, description: &Value, is_required: bool) -> String {
        let mark = if is_required { " **Required.**" } else { "" };
        let text = string(description).split_whitespace().collect::<Vec<_>>().join(" ");
        format!("| `{name}` | {} | {text}{mark} |", self.kind(schema))
    }

    /// The schema itself where there is a reference to it.
    fn resolved(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
            Some(pointer) => self.document.pointer(pointer).expect("within the document"),
            None => schema,
        }
    }

    /// The name of a type for readers.
    fn kind(&self, schema: &Value) -> String {
        let document = self.document;
        let target = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
        if let Some(target) = target.and_then(|pointer| document.pointer(pointer)) {
            return self.kind(target);
        }
        if let Some(constant) = schema["const"].as_str() {
            return format!("`{constant}`");
        }
        if let Some(values) = schema["enum"].as_array() {
            return values.iter().map(|value| format!("`{}`", string(value))).collect::<Vec<_>>().join(", ");
        }
        let of = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
        if let Some(kinds) = of {
            let kinds: Vec<_> =
                kinds.iter().filter(|kind| kind["type"] != "null").map(|kind| self.kind(kind)).collect();
            return kinds.join(" or ");
        }
        let name = |kind: &str| match kind {
            "integer" | "number" => "number".to_owned(),
            "boolean" => "true or false".to_owned(),
            "array" => format!("list of {}", self.kind(&schema["items"])),
            other => other.to_owned(),
        };
        match &schema["type"] {
            Value::String(kind) => name(kind),
            Value::Array(kinds) => {
                let kinds = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
                kinds.map(name).collect::<Vec<_>>().join(" or ")
            }
            _ => "any".to_owned(),
        }
    }

    fn errors(&self) -> String {
        let mut text = "\n## Errors\n\nA request that fails changes nothing.".to_owned();
        let list = |codes: &BTreeSet<String>| {
            codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ")
        };
        let of_posts = &self.of_bodies - &self.common;
        let _ = write!(
            text,
            " Every call may answer {}, and every POST {} besides. With 429, 503 and 507 comes `Retry-After`, in seconds.\n\n\
             | Status | Code | Meaning |\n|---|---|---|\n",
            list(&self.common),
            list(&of_posts)
        );
        let responses = self.document["components"]["responses"].as_object().expect("responses");
        let mut rows: Vec<_> = responses
            .iter()
            .map(|(code, response)| {
                // `code` (status): meaning
                let description = string(&response["description"]);
                let (head, meaning) = description.split_once(": ").expect("a meaning");
                let status = head.split(['(', ')']).nth(1).expect("a status");
                (status.to_owned(), code, meaning)
            })
            .collect();
        rows.sort();
        for (status, code, meaning) in rows {
            let _ = writeln!(text, "| {status} | `{code}` | {meaning} |");
        }
        text
    }
}

fn operation<'a>(document: &'a Value, example: &Example) -> &'a Value {
    &document["paths"][format!("{PREFIX}{}", example.call)][example.method.to_lowercase()]
}

/// The codes of a call's responses: each a reference, or a description with codes between backticks.
fn codes(responses: &Value) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (status, response) in responses.as_object().into_iter().flatten() {
        if status == "200" {
            continue;
        }
        match response["$ref"].as_str() {
            Some(path) => codes.extend(path.rsplit('/').next().map(str::to_owned)),
            None => {
                let described = string(&response["description"]);
                codes.extend(described.split('`').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    codes
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
