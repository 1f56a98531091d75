//! The OpenAPI document of the platform's own API tells the truth about its router.

use reqwest::Method;
use serde_json::json;

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_described_is_there_and_what_is_not_is_not() {
    let shop = Shop::open().await;
    let document = shop.get("/openapi.json").await;
    assert_eq!(document.is(200)["openapi"], "3.1.0");
    let paths = document.body["paths"].as_object().unwrap();
    assert!(paths.contains_key("/orders/{id}/history"), "{paths:?}");
    for (path, operations) in paths {
        let concrete = path.replace("{id}", "none").replace("{sku}", "none");
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            let described = operations.get(method.as_str().to_lowercase()).is_some();
            let answer = shop.send(shop.request(method.clone(), &concrete)).await;
            assert_eq!(
                described,
                answer.status != 405,
                "{method} {path}: {answer:?}"
            );
        }
    }
    let lost = shop.get("/nothing").await;
    assert_eq!(lost.is(404)["type"], "urn:factum:problem:not-found");
    // The admin API stands beside it, and a foreign page reaches neither.
    shop.get("/admin/services").await.is(200);
    let request = shop
        .request(Method::POST, "/users")
        .header("origin", "http://evil.example");
    shop.send(request.json(&json!({ "name": "Eve", "email": "eve@example.org" })))
        .await
        .is(403);
    shop.close().await;
}
