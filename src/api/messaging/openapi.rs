//! The OpenAPI 3.1 document, made from the table of calls and the types of their requests and answers.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use hyper::Method;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::call::{Access, Call};
use super::failure::ErrorJson;
use super::table::{CALLS, COMMON, OF_BODIES, OF_TOKENS};
use crate::routing::Code;

/// Where schemas are in the document.
const SCHEMAS: &str = "/components/schemas";

/// What the document begins with.
const DESCRIPTION: &str = "\
Text messages between users of a portal, and between them and everybody else. A message to a number that is \
assigned to a portal user never reaches the carrier.

Requests are signed as those of the Pusher Channels HTTP API, so every Pusher server SDK can make them with its \
generic `get` and `post`. All calls are GET or POST; success is always 200 with a JSON object, a failure is \
`{\"error\":{\"code\",\"message\",\"field\"}}`. Phone numbers are taken in any usual spelling and given in E.164. \
Times are UTC, such as `2026-11-22T19:13:30.574000Z`. User ids are numbers or strings.";

/// How signatures are made.
const SIGNATURE: &str = "\
HMAC-SHA256, in lower-case hex, with the app's secret, over method, path and query joined with line feeds. The query \
holds all parameters but this one, names in lower case, sorted by name, values not encoded, joined with `&`; among \
them `auth_key` (the app's key), `auth_timestamp` (seconds since 1970, at most 600 off), `auth_version` (`1.0`) and, \
when there is a body, `body_md5` (the MD5 of the body in hex).";

/// The document, as served and as kept in `docs/openapi.json`.
pub fn document() -> Bytes {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    DOCUMENT.get_or_init(|| Bytes::from(format!("{:#}\n", Document::new().finish()))).clone()
}

/// The document while it is made. What is read and what is written have schemas of different rules: a field
/// that may be missing in a request is null in an answer.
struct Document {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Document {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = SCHEMAS.into();
            settings.meta_schema = None;
        });
        Self {
            requests: settings.clone().for_deserialize().into_generator(),
            answers: settings.for_serialize().into_generator(),
        }
    }

    fn finish(mut self) -> Value {
        let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for call in CALLS {
            let path = format!("/apps/{{app_id}}/messaging{}", call.path);
            let operation = self.operation(call);
            paths.entry(path).or_default().insert(call.method.as_str().to_lowercase(), operation);
        }
        for (path, parameters) in [
            ("/carriers/telnyx/{app_id}", &["app_id"][..]),
            ("/carriers/telnyx/{app_id}/{token}", &["app_id", "token"]),
        ] {
            paths.entry(path.to_owned()).or_default().insert("post".to_owned(), carrier_report(parameters));
        }
        let error = self.answers.subschema_for::<ErrorJson<'static>>();
        let mut schemas = self.answers.take_definitions(true);
        schemas.extend(self.requests.take_definitions(true));
        let fields = schemas.values_mut().filter_map(|schema| schema.get_mut("properties")?.as_object_mut());
        fields.flat_map(Map::values_mut).for_each(remove_default);
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "switchboard messaging API",
                "version": env!("CARGO_PKG_VERSION"),
                "description": DESCRIPTION,
            },
            "security": [{"signature": []}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": responses(&error),
                "securitySchemes": {
                    "signature": {
                        "type": "apiKey",
                        "in": "query",
                        "name": "auth_signature",
                        "description": SIGNATURE,
                    },
                    "userToken": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "A token of POST /user_tokens, which speaks for its own user only; where the \
                                        setting routing.tokens.enabled is on.",
                    },
                },
            },
        })
    }

    fn operation(&mut self, call: &Call) -> Value {
        let mut parameters = vec![json!({
            "name": "app_id", "in": "path", "required": true, "schema": {"type": "string"},
            "description": "The app's id.",
        })];
        if call.path.contains("{id}") {
            parameters.push(json!({
                "name": "id", "in": "path", "required": true, "schema": {"type": "string"},
                "description": "The record's id; with the portal's own database also `portal:` and the portal's id.",
            }));
        }
        let answer = (call.answer)(&mut self.answers);
        let mut operation = json!({
            "operationId": operation_id(call),
            "tags": [tag(call)],
            "summary": call.summary.trim().trim_end_matches('.'),
            "responses": outcomes(call, &answer),
        });
        if call.access == Access::User {
            operation["security"] = json!([{"signature": []}, {"userToken": []}]);
        }
        let request = (call.request)(&mut self.requests);
        if call.method == Method::GET {
            parameters.extend(self.query_parameters(&request));
        } else {
            operation["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": request}}});
        }
        operation["parameters"] = Value::Array(parameters);
        operation
    }

    /// The fields of a request that comes as a query.
    fn query_parameters(&mut self, request: &Schema) -> Vec<Value> {
        let name = request.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
        let definition = name.and_then(|name| self.requests.definitions().get(name)).cloned();
        if let Some(name) = name.filter(|name| *name != "UserRequest") {
            self.requests.definitions_mut().remove(name);
        }
        let properties = definition.as_ref().and_then(|schema| schema["properties"].as_object());
        let Some(properties) = properties else { return Vec::new() };
        let parameter = |(name, schema): (&String, &Value)| {
            let mut schema = schema.clone();
            remove_default(&mut schema);
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            json!({"name": name, "in": "query", "description": description, "schema": without_null(schema)})
        };
        properties.iter().map(parameter).collect()
    }
}

/// Where the carrier reports to: no call of the portal's, but part of the same picture.
fn carrier_report(parameters: &[&str]) -> Value {
    let parameter = |name: &&str| {
        let description = if *name == "token" { "Of one attempt to send." } else { "The app's id." };
        json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"},
            "description": description})
    };
    json!({
        "operationId": format!("post_carriers_telnyx_{}", parameters.join("_")),
        "tags": ["carriers"],
        "summary": "Takes in what the carrier reports",
        "description": "For the carrier alone, whose Ed25519 signature (`telnyx-signature-ed25519`, \
                        `telnyx-timestamp`) takes the place of ours.",
        "security": [],
        "parameters": parameters.iter().map(parameter).collect::<Vec<_>>(),
        "requestBody": {"required": true, "content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": {
            "200": {"description": "Stored, or nothing new."},
            "403": {"description": "The signature is missing, wrong or too old."},
            "404": {"description": "There is no such app, or it has no messaging."},
            "503": {"description": "No public key is configured, or it could not be stored: send it again."},
        },
    })
}

/// What a call may come to: its answer, and a response for each status with the codes that have it.
fn outcomes(call: &Call, answer: &Schema) -> Value {
    let mut outcomes = Map::new();
    outcomes.insert(
        "200".to_owned(),
        json!({"description": "Done.", "content": {"application/json": {"schema": answer}}}),
    );
    let of_bodies = if call.method == Method::POST { OF_BODIES } else { &[] };
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    let of_tokens = if call.access == Access::User { OF_TOKENS } else { &[] };
    for code in COMMON.iter().chain(of_bodies).chain(of_tokens).chain(call.codes) {
        by_status.entry(code.status()).or_default().push(code.as_str());
    }
    for (status, codes) in by_status {
        let response = match codes.as_slice() {
            [code] => json!({"$ref": format!("#/components/responses/{code}")}),
            codes => {
                let description = format!("One of `{}`.", codes.join("`, `"));
                let schema = json!({"$ref": format!("#{SCHEMAS}/ErrorJson")});
                json!({"description": description, "content": {"application/json": {"schema": schema}}})
            }
        };
        outcomes.insert(status.to_string(), response);
    }
    Value::Object(outcomes)
}

/// That a field may be missing is said by `required` alone.
fn remove_default(field: &mut Value) {
    if let Some(field) = field.as_object_mut() {
        field.remove("default");
    }
}

/// The same schema without null, which a query can't hold.
fn without_null(mut schema: Value) -> Value {
    if let Some([kind, null]) = schema["type"].as_array().map(Vec::as_slice)
        && null == "null"
    {
        schema["type"] = kind.clone();
    }
    match schema["anyOf"].as_array().map(Vec::as_slice) {
        Some([only, null]) if null["type"] == "null" => only.clone(),
        _ => schema,
    }
}

/// A response for each error code.
fn responses(error: &Schema) -> Value {
    let response = |code: &Code| {
        let description = format!("`{}` ({}): {}", code.as_str(), code.status(), code.meaning().trim());
        let mut response =
            json!({"description": description, "content": {"application/json": {"schema": error}}});
        if matches!(code.status(), 429 | 503 | 507) {
            response["headers"] = json!({
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
            });
        }
        (code.as_str().to_owned(), response)
    };
    Code::ALL.iter().map(response).collect::<Map<_, _>>().into()
}

/// `post_conversations_id_read`.
fn operation_id(call: &Call) -> String {
    let path = call.path.replace(['{', '}'], "").replace('/', "_");
    format!("{}{path}", call.method.as_str().to_lowercase())
}

fn tag(call: &Call) -> &'static str {
    call.path.split('/').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_DOCS=1 cargo test --lib openapi` writes the document.
    #[test]
    fn the_openapi_document_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, document()).expect("written");
        }
        let kept = std::fs::read(path).unwrap_or_default();
        assert!(kept == document(), "stale: UPDATE_DOCS=1 cargo test --lib openapi");
    }

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let document: Value = serde_json::from_slice(&document()).expect("JSON");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let ids: std::collections::HashSet<_> = CALLS.iter().map(operation_id).collect();
        assert_eq!(ids.len(), CALLS.len());
    }

    #[test]
    fn every_field_is_described() {
        let document: Value = serde_json::from_slice(&document()).expect("JSON");
        for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
            assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "two types are called {name}");
            let properties = schema["properties"].as_object().into_iter().flatten();
            for (field, schema) in properties {
                assert!(schema["description"].is_string(), "{name}.{field}");
            }
        }
    }
}
