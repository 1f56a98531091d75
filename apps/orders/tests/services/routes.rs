//! Which routes a process has: those of its services, and their description.

use std::collections::BTreeSet;

use orders::platform::Role;
use serde_json::Value;

use crate::fleet::{Client, Fleet};

async fn described(client: &Client) -> BTreeSet<String> {
    let document = client.get("/openapi.json").await;
    let paths = document.is(200)["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_has_the_routes_of_its_services_and_describes_those() {
    let fleet = Fleet::start().await;
    let every = [
        "GET /",
        "GET /openapi.json",
        "GET /faults",
        "POST /faults",
        "GET /facts",
        "GET /standings",
    ];
    let every: BTreeSet<_> = every.into_iter().map(str::to_owned).collect();
    for (role, own) in [
        (Role::Users, &["POST /users", "GET /users/{id}"][..]),
        (Role::Payment, &[]),
        (Role::Notification, &[]),
        (
            Role::Stock,
            &["POST /stock/{sku}/receive", "GET /stock/{sku}"],
        ),
    ] {
        let client = Client::of(&fleet.of(role)[0].url);
        let own = own.iter().map(|&route| route.to_owned());
        let expected: BTreeSet<_> = every.iter().cloned().chain(own).collect();
        assert_eq!(described(&client).await, expected, "{role}");
        client.get("/orders/1").await.is(404);
        client.get("/health").await.is(200);
        client.get("/ready").await.is(200);
        let services = client.get("/admin/services").await;
        let services = services.is(200)["services"].as_array().unwrap().clone();
        let names: Vec<_> = services.iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, [Value::from(role.name())]);
    }
    let order = described(&Client::of(&fleet.of(Role::Order)[0].url)).await;
    assert!(
        order.contains("POST /orders") && !order.contains("POST /users"),
        "{order:?}"
    );
    assert!(
        !order.contains("GET /invariants"),
        "it has no more than its own part"
    );

    let whole = described(&fleet.client).await;
    for route in [
        "POST /users",
        "POST /orders",
        "GET /invariants",
        "GET /orders/{id}/history",
    ] {
        assert!(whole.contains(route), "no {route} in {whole:?}");
    }
    fleet.stop().await;
}
