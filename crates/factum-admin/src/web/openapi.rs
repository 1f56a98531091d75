//! The description of an API: an OpenAPI 3.1 document, made from the table of routes.

use axum::http::Method;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    Api, PROBLEM_JSON, Route,
    problem::ProblemBody,
    route::{Answer, Header},
    rules::Place,
};

/// A field of a type whose fields are parameters.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) required: bool,
    pub(super) schema: Value,
}

/// The schema of what is read as a `T`, whole in itself.
pub(super) fn taken<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let mut schema = settings.into_generator().subschema_for::<T>().to_value();
    bound_numbers(&mut schema);
    schema
}

/// The fields of `T`, in their order. A parameter that may be absent is absent, and never null.
pub(super) fn fields<T: JsonSchema>() -> Vec<Field> {
    let mut schema = taken::<T>();
    let is_required = |name: &str, required: &Value| {
        let required = required.as_array().into_iter().flatten();
        required.into_iter().any(|one| one == name)
    };
    let required = schema["required"].take();
    let Value::Object(properties) = schema["properties"].take() else {
        return Vec::new();
    };
    let field = |(name, mut schema): (String, Value)| {
        without_null(&mut schema);
        let text = schema
            .as_object_mut()
            .and_then(|it| it.remove("description"));
        Field {
            text: text
                .as_ref()
                .and_then(Value::as_str)
                .unwrap_or_default()
                .into(),
            required: is_required(&name, &required),
            name,
            schema,
        }
    };
    properties.into_iter().map(field).collect()
}

fn without_null(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    schema.remove("default");
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = &kinds[..] {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = &choices[..] {
            let mut only = only.clone();
            schema.remove("anyOf");
            only.append(schema);
            *schema = only;
        }
    }
}

/// Says of each number how large it may be: its format says so to those only who know it.
fn bound_numbers(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            let most = match keywords.get("format").and_then(Value::as_str) {
                Some("uint32") => Some(json!(u32::MAX)),
                Some("uint64" | "uint") => Some(json!(u64::MAX)),
                _ => None,
            };
            if let Some(most) = most {
                keywords.entry("maximum").or_insert(most);
            }
            keywords.values_mut().for_each(bound_numbers);
        }
        Value::Array(values) => values.iter_mut().for_each(bound_numbers),
        _ => {}
    }
}

impl<S> Api<S> {
    /// The OpenAPI 3.1 document of all routes. Its schemas are those of the types that are read and written.
    pub fn description(&self) -> Value {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        let settings = settings.with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let mut generator = settings.into_generator();
        let problem = generator.subschema_for::<ProblemBody>().to_value();
        let mut paths = Map::new();
        for route in &self.routes {
            let operation = operation(route, &mut generator);
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[route.method.as_str().to_ascii_lowercase()] = operation;
        }
        let common = COMMON.iter().map(|(status, name, text)| {
            let response = refusal(*status, text, &problem);
            ((*name).to_owned(), response)
        });
        let responses: Map<_, _> = common.collect();
        let mut schemas = Value::Object(generator.take_definitions(true));
        bound_numbers(&mut schemas);
        json!({
            "openapi": "3.1.0",
            "info": { "title": self.title, "version": self.version, "description": self.text },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": responses,
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            },
            // Without tokens, as on loopback by default, none is needed.
            "security": [{ "token": [] }, {}],
        })
    }
}

/// The refusals that routes have in common: the status, the name in the document, and when.
const COMMON: [(u16, &str, &str); 10] = [
    (
        400,
        "Unreadable",
        "It can't be read: there is no `Host`, or path, query or body are not what they should be written in.",
    ),
    (
        401,
        "Unauthorized",
        "A token is needed, and none that is known was sent.",
    ),
    (
        403,
        "ForeignOrigin",
        "It comes from a page of another site.",
    ),
    (408, "BodyTooSlow", "The body came too slowly."),
    (413, "TooLarge", "The body, or what it says, is too large."),
    (415, "NotJson", "The body is not said to be JSON."),
    (
        421,
        "Misdirected",
        "This server doesn't answer to the name that it was called by.",
    ),
    (
        422,
        "Invalid",
        "It can be read, and parts of it are wrong: `errors` names them all.",
    ),
    (
        500,
        "Broken",
        "Something is broken here. `instance` is what the log has it under.",
    ),
    (
        503,
        "Unavailable",
        "It can't be done now. `instance` is what the log has it under.",
    ),
];

/// Which of the common refusals a route may answer.
fn common<S>(route: &Route<S>) -> impl Iterator<Item = u16> {
    let takes_body = route.body.is_some();
    // A path may have any text in it, if that is all that is said of it: then it names nothing.
    let any_text = json!({ "type": "string" });
    let mut params = route.params.iter();
    let can_be_wrong =
        takes_body || params.any(|param| param.place != Place::Path || param.schema != any_text);
    let changes = route.method != Method::GET;
    COMMON
        .iter()
        .map(|(status, ..)| *status)
        .filter(move |status| match status {
            403 => changes,
            408 | 413 | 415 => takes_body,
            422 => can_be_wrong,
            503 => false,
            _ => true,
        })
}

fn operation<S>(route: &Route<S>, generator: &mut SchemaGenerator) -> Value {
    let problem = generator.subschema_for::<ProblemBody>().to_value();
    let mut responses = Map::new();
    for status in common(route) {
        responses.insert(status.to_string(), common_refusal(status));
    }
    for (status, text) in &route.refusals {
        let own = text.map(|text| refusal(*status, text, &problem));
        let response = own.unwrap_or_else(|| common_refusal(*status));
        responses.insert(status.to_string(), response);
    }
    for answer in &route.answers {
        responses.insert(answer.status.to_string(), response(answer, generator));
    }
    // In the order of their statuses: people read this, too.
    let mut ordered: Vec<_> = responses.into_iter().collect();
    ordered.sort_by(|(left, _), (right, _)| left.cmp(right));
    let responses: Map<_, _> = ordered.into_iter().collect();
    let params = route.params.iter().map(|param| {
        json!({
            "name": param.name,
            "in": match param.place {
                Place::Path => "path",
                Place::Query => "query",
                Place::Header => "header",
            },
            "required": param.required,
            "description": param.text,
            "schema": param.schema,
        })
    });
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.text,
        "parameters": params.collect::<Vec<_>>(),
        "responses": responses,
    });
    if let Some((schema, required)) = &route.body {
        operation["requestBody"] = json!({
            "required": required,
            "content": { "application/json": { "schema": schema } },
        });
    }
    operation
}

fn response(answer: &Answer, generator: &mut SchemaGenerator) -> Value {
    let schema = answer.schema.map_or_else(
        || json!({ "type": "string" }),
        |schema| schema(generator).to_value(),
    );
    // A document is served as it is, and described by its own standard.
    let schema = if answer.schema.is_none() && answer.media == "application/json" {
        json!({ "type": "object" })
    } else {
        schema
    };
    let mut response = json!({
        "description": answer.text,
        "content": { answer.media: { "schema": schema } },
    });
    if !answer.headers.is_empty() {
        response["headers"] = headers(&answer.headers);
    }
    response
}

fn common_refusal(status: u16) -> Value {
    let known = COMMON.iter().find(|(common, ..)| *common == status);
    let (_, name, _) = known.expect("a refusal that is not common says when it comes");
    json!({ "$ref": format!("#/components/responses/{name}") })
}

/// A problem of this status. Some statuses have headers of their own.
fn refusal(status: u16, text: &str, problem: &Value) -> Value {
    let mut response = json!({
        "description": text,
        "content": { PROBLEM_JSON: { "schema": problem } },
    });
    let header = |name, text, always| Some(Header { name, text, always });
    let own = match status {
        401 => header("WWW-Authenticate", "How to show a token.", true),
        503 => header("Retry-After", "After how many seconds to try again.", false),
        _ => None,
    };
    if let Some(own) = own {
        response["headers"] = headers(&[own]);
    }
    response
}

fn headers(headers: &[Header]) -> Value {
    let described = headers.iter().map(|header| {
        let described = json!({
            "description": header.text,
            "required": header.always,
            "schema": { "type": "string" },
        });
        (header.name.to_owned(), described)
    });
    Value::Object(described.collect())
}
