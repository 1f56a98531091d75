//! The OpenAPI document tells the truth about the router.

use std::collections::{BTreeMap, BTreeSet};

use factum_admin::Admin;
use reqwest::Method;
use serde_json::Value;

use crate::world::World;

#[tokio::test]
async fn the_document_is_openapi_3_1_and_every_reference_in_it_leads_somewhere() {
    let world = World::start().await;
    let document = world.get("/admin/openapi.json").await.is(200);
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 10, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    world.stop().await;
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                found.insert(reference.clone());
            }
            members
                .values()
                .for_each(|value| collect_references(value, found));
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect_references(value, found)),
        _ => {}
    }
}

/// Every described operation is there, and no method is there that is not described.
#[tokio::test]
async fn the_document_and_the_router_know_the_same_routes() {
    let world = World::start().await;
    let document = world.get("/admin/openapi.json").await.is(200);
    let paths: BTreeMap<String, Value> = serde_json::from_value(document["paths"].clone()).unwrap();
    let described: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, operations)| {
            operations
                .as_object()
                .unwrap()
                .keys()
                .map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let mut table: BTreeSet<_> = Admin::api()
        .table()
        .map(|(method, path)| (method.to_string(), path.to_owned()))
        .collect();
    table.insert(("GET".into(), "/admin/openapi.json".into()));
    assert_eq!(described, table);

    let mut names = BTreeSet::new();
    for (path, operations) in &paths {
        let concrete = path
            .replace("{topic}", "accounts")
            .replace("{service}", "accounts")
            .replace("{name}", "accounts");
        let concrete = concrete
            .split('/')
            .map(|part| if part.starts_with('{') { "none" } else { part });
        let concrete = concrete.collect::<Vec<_>>().join("/");
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
        ] {
            let answer = world.send(world.request(method.clone(), &concrete)).await;
            let operation = operations.get(method.as_str().to_lowercase());
            assert_eq!(
                operation.is_none(),
                answer.status == 405,
                "{method} {path}: {answer:?}"
            );
            assert!(
                !answer.text.contains("there is nothing at"),
                "{method} {path}: {answer:?}"
            );
            let Some(operation) = operation else { continue };
            assert!(
                names.insert(operation["operationId"].to_string()),
                "{method} {path}"
            );
            for name in path.split(['{', '}']).skip(1).step_by(2) {
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(
                    parameters
                        .iter()
                        .any(|one| one["name"] == name && one["in"] == "path"),
                    "{method} {path}: {name}"
                );
            }
        }
    }
    world.stop().await;
}
