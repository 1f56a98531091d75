//! The OpenAPI documents of both APIs tell the truth: every operation is asked, with values of every parameter and
//! field that fit its schema and values that don't, and what is answered is held against what is described.

use std::collections::{BTreeMap, BTreeSet};

use factum::system_env;
use factum_admin::web::{BODY_BYTES_MAX, Shape};
use orders::http;
use reqwest::{
    Method, Response,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Value, json, value::RawValue};

use crate::shop::{Shop, order};

/// Where the documents are.
const DOCUMENTS: [&str; 2] = ["/openapi.json", "/admin/openapi.json"];

/// What every answer may have, whatever it answers.
const HEADERS: [&str; 7] = [
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "x-content-type-options",
    "x-frame-options",
];

/// Words of what this is made of, and none of anybody who asks.
const INNER_WORDS: [&str; 10] = [
    "at line",
    "expected",
    "invalid type",
    "invalid value",
    "missing field",
    "unknown field",
    "unknown variant",
    "u32",
    "u64",
    "serde",
];

/// What is described and doesn't happen here: other tests see it happen, or it takes a store that fails.
const ELSEWHERE: [u16; 5] = [401, 408, 410, 500, 503];
/// The same for single operations: it takes another writer at the same moment, or a past that is not played here.
const ELSEWHERE_FOR: [(&str, u16); 17] = [
    ("events", 409),
    ("register_user", 409),
    ("receive_stock", 409),
    ("set_faults", 409),
    ("search_orders", 200),
    ("backup", 501),
    ("accept_loss", 409),
    ("go_on", 200),
    ("go_on", 409),
    ("retire_source", 200),
    ("retire_source", 409),
    ("rewind_relay", 409),
    ("rebuild", 409),
    ("resume", 409),
    ("redrive_many", 409),
    ("discard", 409),
    ("edit", 409),
];

/// An operation of a document.
struct Operation {
    id: String,
    method: Method,
    path: String,
    /// Parts of the document that it says are elsewhere, in their places.
    document: Value,
    described: Value,
}

/// A request for an operation: what is put where.
#[derive(Clone, Debug)]
struct Ask {
    path: BTreeMap<String, String>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Option<String>,
    json: bool,
}

impl Operation {
    fn all(document: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, described) in operations.as_object().unwrap() {
                all.push(Self {
                    id: described["operationId"].as_str().unwrap().to_owned(),
                    method: method.to_uppercase().parse().unwrap(),
                    path: path.clone(),
                    document: document.clone(),
                    described: described.clone(),
                });
            }
        }
        all
    }

    fn params(&self) -> impl Iterator<Item = (&str, &str, Shape)> {
        let params = self.described["parameters"].as_array().unwrap().iter();
        params.map(|param| {
            let text = |name: &str| param[name].as_str().unwrap();
            assert!(!text("description").is_empty(), "{}: {param}", self.id);
            (
                text("in"),
                text("name"),
                Shape::of(&param["schema"], &param["schema"]),
            )
        })
    }

    fn body(&self) -> Option<&Value> {
        let schema = &self.described["requestBody"]["content"]["application/json"]["schema"];
        schema.is_object().then_some(schema)
    }

    /// A request that is as it should be.
    fn good(&self, world: &World) -> Ask {
        let names = self.path.split(['{', '}']).skip(1).step_by(2);
        Ask {
            path: names
                .map(|name| (name.to_owned(), world.value(&self.id, name)))
                .collect(),
            query: match self.id.as_str() {
                "events" => vec![("service".into(), "order".into())],
                _ => Vec::new(),
            },
            headers: Vec::new(),
            body: self.body().map(|_| world.body(&self.id).to_string()),
            json: true,
        }
    }

    /// The response that is described for a status.
    fn response(&self, status: u16) -> Option<&Value> {
        let response = self.described["responses"].get(status.to_string())?;
        match response["$ref"].as_str() {
            Some(reference) => self.document.pointer(&reference[1..]),
            None => Some(response),
        }
    }

    /// Holds an answer against the description, and gives its status and the fields that it says are wrong.
    async fn hold(&self, answer: Response, asked: &dyn std::fmt::Debug) -> (u16, Vec<String>) {
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let text = answer.text().await.unwrap();
        let what = format!(
            "{} {asked:.400?}: {status} {headers:?} {text:.1000}",
            self.id
        );
        let response = self
            .response(status)
            .unwrap_or_else(|| panic!("not described: {what}"));
        let described = response["headers"].as_object().cloned().unwrap_or_default();
        for name in headers.keys().map(HeaderName::as_str) {
            let known = described
                .keys()
                .any(|known| known.eq_ignore_ascii_case(name));
            assert!(known || HEADERS.contains(&name), "{name}: {what}");
        }
        for (name, header) in &described {
            assert!(
                header["required"] != true || headers.contains_key(name),
                "no {name}: {what}"
            );
        }
        let media = headers["content-type"].to_str().unwrap();
        let content = &response["content"][media]["schema"];
        assert!(content.is_object(), "{media}: {what}");
        if content["type"] == "string" {
            return (status, Vec::new());
        }
        let mut content = content.clone();
        let mut document = self.document.clone();
        close(&mut content);
        close(&mut document["components"]["schemas"]);
        let value = RawValue::from_string(text.clone()).unwrap();
        let wrong = Shape::of(&content, &document).wrong(&value);
        assert!(wrong.is_empty(), "{wrong:?}: {what}");
        let body: Value = serde_json::from_str(&text).unwrap();
        if status >= 400 {
            assert_eq!(
                (media, &body["status"]),
                ("application/problem+json", &json!(status))
            );
            let told = body["detail"].to_string() + &body["errors"].to_string();
            for word in INNER_WORDS {
                assert!(!told.contains(word), "`{word}`: {what}");
            }
        }
        let errors = body["errors"].as_array().into_iter().flatten();
        let fields = errors.map(|error| error["field"].as_str().unwrap_or_default().to_owned());
        (status, fields.collect())
    }
}

/// Lets no object have members that its schema doesn't name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            if keywords.get("properties").is_some_and(Value::is_object) {
                keywords
                    .entry("additionalProperties")
                    .or_insert(json!(false));
            }
            keywords.values_mut().for_each(close);
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(close),
        _ => {}
    }
}

/// What there is to ask about.
struct World {
    shop: Shop,
    user: String,
    /// An order for each operation that ends one.
    orders: BTreeMap<&'static str, String>,
    parked: Vec<String>,
    group: Value,
    store: String,
    correlation: String,
}

impl World {
    async fn open() -> Self {
        let shop = Shop::open().await;
        let user = shop.register("Kim").await;
        shop.receive("tea", 1_000).await;
        let (mut orders, mut correlation) = (BTreeMap::new(), String::new());
        for operation in ["", "pay_order", "ship_order", "cancel_order"] {
            let mut body = order(&user, "tea", 1);
            if operation == "pay_order" {
                body["payment"] = json!("manual");
            }
            let placed = shop.post("/orders", &body).await;
            placed.is(201);
            orders.insert(operation, placed.id("order_id"));
            correlation = placed.id("correlation_id");
        }
        shop.until_status(&orders["ship_order"], "confirmed").await;
        // The order service hears of the shelf in its own time.
        while shop
            .post("/orders", &order(&user, "tea", 2_000))
            .await
            .status
            != 409
        {}
        // Each of the four groups that read it buries it.
        let poison = json!({ "value": "not an envelope" });
        shop.post("/admin/topics/orders/messages", &poison)
            .await
            .is(201);
        let dead = |list: &Value| {
            let parked = list["parked"].as_array().unwrap();
            parked.len() == 4 && parked.iter().all(|one| one["state"] == "dead")
        };
        let parked = shop.until("/admin/parked", dead).await;
        let parked = parked["parked"].as_array().unwrap();
        let groups = shop.until("/admin/consumers?service=payment", |list| {
            list["groups"][0]["partitions"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
        });
        let group = groups.await["groups"][0].clone();
        let services = shop.get("/admin/services").await.body;
        Self {
            user,
            orders,
            correlation,
            parked: parked
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned())
                .collect(),
            group,
            store: services["services"][0]["store"]["id"]
                .as_str()
                .unwrap()
                .to_owned(),
            shop,
        }
    }

    /// A value of a parameter in a path for which the operation does what it is for.
    fn value(&self, operation: &str, name: &str) -> String {
        let parked = |at: usize| self.parked[at].as_str();
        let value = match (operation, name) {
            ("user" | "orders_of_user", "id") => &self.user,
            ("parked_one", "id") => parked(0),
            ("redrive", "id") => parked(1),
            ("discard", "id") => parked(2),
            ("edit", "id") => parked(3),
            (_, "id") => self.orders.get(operation).unwrap_or(&self.orders[""]),
            (_, "sku") => "tea",
            ("rebuild" | "resume", "name") => "orders",
            ("rebuild" | "resume" | "stream" | "state", "service") | (_, "category") => "order",
            (_, "name" | "service") => "notification",
            ("accept_loss" | "go_on" | "retire_source", "topic") => {
                self.group["partitions"][0]["topic"].as_str().unwrap()
            }
            (_, "group") => self.group["group"].as_str().unwrap(),
            (_, "partition") => "0",
            (_, "topic") => "orders",
            (_, "correlation") => &self.correlation,
            other => panic!("{other:?}"),
        };
        value.to_owned()
    }

    fn body(&self, operation: &str) -> Value {
        match operation {
            "register_user" => json!({ "name": "Lee", "email": "lee@example.org" }),
            "place_order" => order(&self.user, "tea", 1),
            "ship_order" => json!({ "tracking": "1Z" }),
            "receive_stock" => json!({ "qty": 5 }),
            "rewind_relay" => json!({ "to": 0 }),
            "accept_loss" => {
                json!({ "service": "payment", "source": self.store, "from": "0", "reason": "a test" })
            }
            "go_on" => json!({ "service": "payment", "at": 0, "reason": "a test" }),
            "retire_source" => {
                json!({ "service": "payment", "source": self.store, "reason": "a test" })
            }
            "edit" => json!({ "value": {}, "reason": "a test" }),
            "publish" => json!({ "value": {} }),
            "redrive_many" => json!({
                "group": self.group["group"],
                "topic": self.group["partitions"][0]["topic"],
            }),
            "open_epoch" | "discard" => json!({ "reason": "a test" }),
            _ => json!({}),
        }
    }

    /// The answer to a request. A server that has heard too much answers and hangs up: some clients see that before the
    /// answer, and others with the next request.
    async fn ask(&self, operation: &Operation, ask: &Ask) -> Response {
        for _ in 0..20 {
            if let Ok(answer) = self.send(operation, ask).await {
                return answer;
            }
        }
        let asked = format!("{ask:?}");
        panic!("{}: {asked:.400} has no answer", operation.id);
    }

    async fn send(&self, operation: &Operation, ask: &Ask) -> reqwest::Result<Response> {
        let encoded = |text: &str| {
            let bytes = text.bytes().map(|byte| format!("%{byte:02x}"));
            bytes.collect::<String>()
        };
        let mut path = operation.path.clone();
        for (name, value) in &ask.path {
            path = path.replace(&format!("{{{name}}}"), &encoded(value));
        }
        let query = ask.query.iter().map(|(name, value)| {
            let (name, value) = (encoded(name), encoded(value));
            format!("{name}={value}")
        });
        let query: Vec<_> = query.collect();
        let path = format!("{path}?{}", query.join("&"));
        let mut request = self.shop.request(operation.method.clone(), &path);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &ask.body {
            let media = if ask.json {
                "application/json"
            } else {
                "text/plain"
            };
            request = request.header("content-type", media).body(body.clone());
        }
        request.send().await
    }
}

/// Texts for parameters: what fits one fits another not.
fn texts() -> Vec<String> {
    let long = "x".repeat(3_000);
    let texts = [
        "",
        "0",
        "1",
        "-1",
        "1.5",
        "500",
        "1001",
        "99999999999999999999999",
        "true",
        "x",
        " ",
        "none",
        "0-7",
        "a/b",
        "paid",
        "dead",
        "\u{0}",
        "차",
        &long,
    ];
    texts.map(str::to_owned).into()
}

/// Values for fields.
fn values() -> Vec<Value> {
    let mut values: Vec<_> = texts().into_iter().map(Value::String).collect();
    values.extend([
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(1.5),
        json!(2_000_000),
        json!(u64::MAX),
        json!([]),
        json!({}),
    ]);
    values
}

/// The places of all fields in a body of this schema, as pointers, each with its schema.
fn places(schema: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        places(schema, &at, found);
        places(&schema["items"], &format!("{at}/0"), found);
        found.push((at, schema.clone()));
    }
}

/// A pointer, as problems name the field.
fn field(pointer: &str) -> String {
    pointer[1..].replace("/0", "[0]").replace('/', ".")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_takes_and_answers_what_its_document_says() {
    let world = World::open().await;
    let mut never = Vec::new();
    for at in DOCUMENTS {
        let document = world.shop.get(at).await.is(200).clone();
        for operation in Operation::all(&document) {
            let id = operation.id.as_str();
            let seen = ask_all(&world, &operation).await;
            let described = operation.described["responses"].as_object().unwrap().keys();
            let described = described.map(|status| status.parse::<u16>().unwrap());
            let unseen = described.filter(|status| {
                let elsewhere =
                    ELSEWHERE.contains(status) || ELSEWHERE_FOR.contains(&(id, *status));
                !elsewhere && !seen.contains(status)
            });
            never.extend(unseen.map(|status| format!("{id}: {status}")));
        }
    }
    assert!(
        never.is_empty(),
        "described, and never answered: {never:#?}"
    );
    world.shop.close().await;
}

/// Asks an operation in all ways, and gives the statuses that it answered.
async fn ask_all(world: &World, operation: &Operation) -> BTreeSet<u16> {
    let good = operation.good(world);
    let mut seen = BTreeSet::new();
    let mut expect = async |ask: Ask, status: Option<u16>, field: Option<&str>| {
        let answer = world.ask(operation, &ask).await;
        let (answered, fields) = operation.hold(answer, &ask).await;
        assert!(
            answered < 500 || answered == 501,
            "{}: {ask:?}",
            operation.id
        );
        assert!(
            status.is_none_or(|status| status == answered),
            "{}: {ask:.400?} is {answered}",
            operation.id
        );
        if let Some(field) = field {
            let named = fields.iter().any(|one| one.starts_with(field));
            assert!(
                named,
                "{}: {field} is not in {fields:?} for {ask:.400?}",
                operation.id
            );
        }
        seen.insert(answered);
    };
    expect(good.clone(), None, None).await;
    let header = |name: &str, value: &str| {
        let mut ask = good.clone();
        ask.headers.push((name.to_owned(), value.to_owned()));
        ask
    };
    expect(header("host", "evil.example"), Some(421), None).await;
    expect(header("host", "\u{a0}"), Some(400), None).await;
    if operation.method != Method::GET {
        expect(header("origin", "http://evil.example"), Some(403), None).await;
    }
    for (place, name, shape) in operation.params() {
        for text in texts() {
            let mut ask = good.clone();
            match place {
                "path" if text.is_empty() => continue,
                "path" => drop(ask.path.insert(name.to_owned(), text.clone())),
                "query" => ask.query = vec![(name.to_owned(), text.clone())],
                _ if HeaderValue::from_str(&text).is_err() || text.trim() != text => continue,
                _ => ask.headers.push((name.to_owned(), text.clone())),
            }
            // A number, or yes and no, is written in a parameter as in JSON; all else is a text.
            let quoted = RawValue::from_string(json!(text).to_string()).unwrap();
            let number = text.parse::<i128>().is_ok() && text != "-0";
            let is_bare = number || text.parse::<bool>().is_ok();
            let bare = is_bare.then(|| RawValue::from_string(text.clone()).unwrap());
            let fits = shape.wrong(&quoted).is_empty()
                || bare.is_some_and(|bare| shape.wrong(&bare).is_empty());
            let refused = (!fits).then_some(422);
            expect(ask, refused, refused.map(|_| name)).await;
        }
        if place != "path" {
            let mut ask = header(name, "1");
            ask.headers.push((name.to_owned(), "2".into()));
            if place == "query" {
                ask.headers.clear();
                ask.query = vec![(name.to_owned(), "1".into()), (name.to_owned(), "2".into())];
            }
            expect(ask, Some(422), Some(name)).await;
        }
    }
    if operation.params().any(|(place, ..)| place == "query") {
        let mut ask = good.clone();
        ask.query.push(("colour".into(), "red".into()));
        expect(ask, Some(422), Some("colour")).await;
    }
    let Some(schema) = operation.body() else {
        return seen;
    };
    let with = |body: Option<String>| Ask {
        body,
        ..good.clone()
    };
    let required = operation.described["requestBody"]["required"] == true;
    expect(with(None), required.then_some(415), None).await;
    expect(
        Ask {
            json: false,
            ..good.clone()
        },
        Some(415),
        None,
    )
    .await;
    expect(with(Some("{".into())), Some(400), None).await;
    expect(with(Some("[]".into())), Some(422), Some("body")).await;
    expect(with(Some(" ".repeat(BODY_BYTES_MAX + 1))), Some(413), None).await;
    let body = world.body(&operation.id);
    let mut unknown = body.clone();
    unknown["colour"] = json!("red");
    expect(with(Some(unknown.to_string())), Some(422), Some("colour")).await;
    let mut found = Vec::new();
    places(schema, "", &mut found);
    let mut all_wrong = body.clone();
    for (pointer, schema) in &found {
        let shape = Shape::of(schema, schema);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let Some(_) = body.pointer(parent) else {
            continue;
        };
        for value in values() {
            let given = RawValue::from_string(value.to_string()).unwrap();
            let refused = (!shape.wrong(&given).is_empty()).then_some(422);
            let mut body = body.clone();
            body.pointer_mut(parent).unwrap()[name] = value.clone();
            expect(
                with(Some(body.to_string())),
                refused,
                refused.map(|_| field(pointer)).as_deref(),
            )
            .await;
            if refused.is_some() && parent.is_empty() {
                all_wrong[name] = value;
            }
        }
    }
    // However much is wrong, all of it is named at once.
    let asked = with(Some(all_wrong.to_string()));
    for name in all_wrong
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| all_wrong[*name] != body[*name])
    {
        expect(asked.clone(), Some(422), Some(name)).await;
    }
    seen
}

/// No operation is there that is not described, none is described that is not there, and where nothing is there is
/// said so.
#[tokio::test(flavor = "multi_thread")]
async fn the_documents_and_the_router_know_the_same_routes() {
    let shop = Shop::open().await;
    let mut described = BTreeSet::new();
    for at in DOCUMENTS {
        let document = shop.get(at).await.is(200).clone();
        assert_eq!(document["openapi"], "3.1.0");
        for (path, operations) in document["paths"].as_object().unwrap() {
            let parts = path
                .split('/')
                .map(|part| if part.starts_with('{') { "1" } else { part });
            let concrete = parts.collect::<Vec<_>>().join("/");
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                let method: Method = method.parse().unwrap();
                let here = operations.get(method.as_str().to_lowercase()).is_some();
                let answer = shop.send(shop.request(method.clone(), &concrete)).await;
                assert_eq!(here, answer.status != 405, "{method} {path}: {answer:?}");
            }
            assert!(described.insert(path.clone()), "{path} is in both");
        }
    }
    let router = format!("{:?}", http::router(shop.platform.clone(), system_env()));
    let routed = router.split('"').skip(1).step_by(2);
    let routed: BTreeSet<_> = routed
        .filter(|text| text.starts_with('/') && !text.contains("axum_fallback"))
        .map(str::to_owned)
        .collect();
    assert_eq!(routed, described);
    let lost = shop.get("/nothing").await;
    assert_eq!(lost.is(404)["type"], "urn:factum:problem:not-found");
    shop.close().await;
}
