//! The description of an API: an OpenAPI 3.1 document, made from the table of routes.

use axum::http::StatusCode;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Api, PROBLEM_JSON, Route, problem::ProblemBody};

impl<S> Api<S> {
    /// The OpenAPI 3.1 document of all routes. Its schemas are those of the types that are read and written.
    pub fn description(&self) -> Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let mut generator = settings.into_generator();
        let problem = generator.subschema_for::<ProblemBody>();
        let mut paths = Map::new();
        for route in &self.routes {
            let operation = operation(route, &mut generator, problem.as_value());
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[route.method.as_str().to_ascii_lowercase()] = operation;
        }
        json!({
            "openapi": "3.1.0",
            "info": { "title": self.title, "version": self.version, "description": self.text },
            "paths": paths,
            "components": {
                "schemas": generator.take_definitions(true),
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            },
            // Without tokens, as on loopback by default, none is needed.
            "security": [{ "token": [] }, {}],
        })
    }
}

fn operation<S>(
    route: &Route<S>,
    generator: &mut schemars::SchemaGenerator,
    problem: &Value,
) -> Value {
    let mut responses = Map::new();
    for answer in &route.answers {
        let schema = answer.schema.map_or_else(
            || json!({ "type": "string" }),
            |schema| schema(generator).to_value(),
        );
        responses.insert(
            answer.status.to_string(),
            json!({ "description": answer.text, "content": { answer.media: { "schema": schema } } }),
        );
    }
    if responses.is_empty() {
        let ok = StatusCode::OK.as_u16().to_string();
        responses.insert(ok, json!({ "description": "Done." }));
    }
    responses.insert(
        "default".into(),
        json!({
            "description": "It was refused or failed: the problem says why.",
            "content": { PROBLEM_JSON: { "schema": problem } },
        }),
    );
    let params = route.params.iter().map(|param| {
        json!({
            "name": param.name,
            "in": param.place,
            "required": param.place == "path",
            "description": param.text,
            "schema": { "type": "string" },
        })
    });
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.text,
        "parameters": params.collect::<Vec<_>>(),
        "responses": responses,
    });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": body(generator) } },
        });
    }
    operation
}
