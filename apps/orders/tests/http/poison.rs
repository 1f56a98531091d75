//! Poison: messages that nobody can ever handle, through the real consumers, on a real data directory, and what an
//! operator is shown of them.

use std::{collections::BTreeMap, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use factum::{Headers, Key, Outgoing, ParkedFilter, ParkedState, Timestamp, Topic};
use orders::platform::{Quiet, Role};
use serde_json::{Value, json};

use crate::shop::Shop;

/// How many groups at least have to bury each: that of payment and one of stock read every order. The two others bury
/// what can't be read at all.
const GROUPS_MIN: usize = 2;
/// How many groups read the topic of orders.
const GROUPS: usize = 4;

/// What no service can handle, each under a key of its own.
fn poison() -> BTreeMap<&'static str, Bytes> {
    // Each with an id of its own, or all but one would be duplicates.
    let ids = std::cell::Cell::new(0);
    let order = |data: &str| {
        ids.set(ids.get() + 1);
        format!(
            r#"{{"event_type":"OrderCreated","event_id":"{}","timestamp":"2026-03-02T10:00:00Z","data":{data}}}"#,
            ids.get()
        )
    };
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let long = "x".repeat(1_000_000);
    let texts = [
        ("empty", String::new()),
        ("spaces around null", " \r\n\tnull\n ".into()),
        ("no envelope", "\"not an envelope\"".into()),
        ("cut", order("{}")[..50].into()),
        ("two values", order("{}") + "{}"),
        ("nested lists", deep("[", "]")),
        ("nested objects", deep("{\"a\":", "}")),
        ("nested data", order(&deep("[", "]"))),
        ("huge number", order("{\"order_id\":1e999999999}")),
        (
            "wrong type",
            order("{\"order_id\":\"o\",\"user_id\":[],\"items\":7}"),
        ),
        (
            "future version",
            order("{}").replacen('{', "{\"version\":4294967295,", 1),
        ),
        (
            "no version",
            order("{}").replacen('{', "{\"version\":-1,", 1),
        ),
        (
            "long id",
            order("{}").replace("\"event_id\":\"", &format!("\"event_id\":\"{long}")),
        ),
        (
            "nul and turned text",
            order("{\"order_id\":\"\\u0000\\u202e\",\"user_id\":\"../../etc\",\"items\":0}"),
        ),
        ("lone surrogate", order("{\"order_id\":\"\\ud800\"}")),
        (
            "twice",
            order("{}").replacen('{', "{\"event_id\":\"f\",", 1),
        ),
        ("no time", order("{}").replace("2026-03", "2026-99")),
    ];
    let mut all: BTreeMap<_, _> = texts
        .into_iter()
        .map(|(name, text)| (name, Bytes::from(text)))
        .collect();
    all.insert(
        "bad utf-8",
        Bytes::from_static(b"{\"event_id\":\"\xff\xfe\"}"),
    );
    all.insert("every byte", (0..=255).collect::<Vec<u8>>().into());
    all
}

/// How long all of it may take, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_mins(1);

fn headers() -> Headers {
    let mut headers = Headers::new();
    headers.push("x-binary", Bytes::from_static(b"\x00\xff\r\n"));
    headers.push("x-text", "\u{202e}text");
    headers.push("x-text", "again");
    headers
}

async fn publish(shop: &Shop, key: Key, value: Option<Bytes>) {
    let broker = shop.platform.running().broker();
    let topics = broker.topics().await.unwrap();
    let spec = topics.iter().find(|spec| spec.topic.as_str() == "orders");
    let outgoing = Outgoing {
        topic: Topic::of("orders"),
        partition: key.partition(spec.unwrap().partitions),
        key: Some(key),
        headers: headers(),
        value,
        timestamp: Timestamp::UNIX_EPOCH,
    };
    let mut producer = broker.producer().await.unwrap();
    producer.send(vec![(1, outgoing)]).await.unwrap();
    producer.reports().await.unwrap()[0].result.clone().unwrap();
}

/// The bytes that a value is shown as.
fn shown(answer: &Value, text: &str) -> Bytes {
    match (answer.get("json"), answer.get("base64")) {
        // As it was written, not as a parser would write it again: so it is looked for in the answer itself.
        (Some(_), None) => {
            let start = text.find("\"value\":{\"json\":").unwrap() + "\"value\":{\"json\":".len();
            let raw: &serde_json::value::RawValue =
                serde_json::Deserializer::from_str(&text[start..])
                    .into_iter()
                    .next()
                    .unwrap()
                    .unwrap();
            Bytes::copy_from_slice(raw.get().as_bytes())
        }
        (None, Some(base64)) => BASE64_STANDARD
            .decode(base64.as_str().unwrap())
            .unwrap()
            .into(),
        other => panic!("{other:?}"),
    }
}

/// Waits until nothing is on its way and at least so many are dead, and gives how many are.
async fn all_dead(shop: &Shop, least: u64) -> u64 {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            match shop.platform.quiet().await.unwrap() {
                Quiet::Held(dead) if dead >= least => return dead,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let quiet = shop.platform.quiet().await.unwrap();
    waited
        .await
        .unwrap_or_else(|_| panic!("{quiet}, expected {least}"))
}

/// Looks at every dead letter in the stores and over the admin API, and compares it byte for byte.
async fn must_be_kept(shop: &Shop, poison: &BTreeMap<&str, Bytes>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for role in Role::ALL {
        let store = shop.platform.service(role).store();
        let (mut all, mut kept) = (Some(ParkedFilter::default()), Vec::new());
        while let Some(asked) = all {
            let page = store.parked(&asked, 1_000).await.unwrap();
            all = asked.behind(&page, 1_000);
            kept.extend(page);
        }
        for parked in kept {
            let key = parked.message.key.as_ref().unwrap().to_string();
            let value = poison.get(key.as_str()).unwrap_or_else(|| panic!("{key}"));
            assert_eq!(parked.state, ParkedState::Dead, "{key}: {parked:?}");
            assert!(
                parked.message.value.as_ref() == Some(value),
                "{role}: {key}"
            );
            assert_eq!(parked.message.headers, headers(), "{role}: {key}");

            let path = format!("/admin/parked/{}", parked.id);
            let (answer, text) = shop.get_text(&path).await;
            assert_eq!(
                (&answer["key"], &answer["state"]),
                (&json!(key), &json!("dead"))
            );
            assert!(shown(&answer["value"], &text) == *value, "{role}: {key}");
            let binary = &answer["headers"][0];
            assert_eq!(
                (&binary["name"], &binary["base64"]),
                (&json!("x-binary"), &json!("AP8NCg=="))
            );
            let why = answer["failure"]["message"].as_str().unwrap();
            assert!((1..2_000).contains(&why.len()), "{key}: {why:.200}");
            *seen.entry(key).or_default() += 1;
        }
    }
    for key in poison.keys() {
        let groups = seen.get(*key).copied().unwrap_or_default();
        assert!(groups >= GROUPS_MIN, "{key} is dead in {groups} groups");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_kept_byte_for_byte_shown_and_outlives_a_restart_while_orders_flow() {
    let shop = Shop::open().await;
    let poison = poison();
    for (key, value) in &poison {
        publish(&shop, (*key).into(), Some(value.clone())).await;
    }
    let least = (poison.len() * GROUPS_MIN) as u64;
    let dead = all_dead(&shop, least).await;
    must_be_kept(&shop, &poison).await;

    // Other keys flow on.
    let kim = shop.register("Kim").await;
    shop.receive("tea", 10).await;
    let placed = shop
        .post("/orders", &crate::shop::order(&kim, "tea", 1))
        .await;
    placed.is(201);
    shop.until_status(&placed.id("order_id"), "confirmed").await;

    // What is listed can be read by a client that reads JSON as most do, however odd a single message is.
    for list in [
        "/admin/parked?limit=500",
        "/admin/topics/orders/messages?limit=500",
        "/admin/topics/orders.dlq/messages?limit=500",
    ] {
        assert!(shop.get(list).await.is(200).is_object(), "{list}");
    }

    let shop = Shop::on(shop.close().await).await;
    assert_eq!(all_dead(&shop, least).await, dead);
    must_be_kept(&shop, &poison).await;
    shop.close().await;
}

/// A tombstone has no bytes, and that is kept, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_value_is_a_dead_letter_without_one() {
    let shop = Shop::open().await;
    publish(&shop, Key::from(vec![0xff, 0]), None).await;
    let list = shop
        .until("/admin/parked", |list| {
            list["parked"].as_array().unwrap().len() == GROUPS
        })
        .await;
    let id = list["parked"][0]["id"].as_str().unwrap();
    let answer = shop.get(&format!("/admin/parked/{id}")).await;
    assert_eq!(
        (&answer.is(200)["value"], &answer.body["key"]),
        (&json!({}), &json!("\\xff\0"))
    );
    let store = shop.platform.service(Role::Payment).store();
    let parked = store.parked(&ParkedFilter::default(), 10).await.unwrap();
    assert_eq!(parked[0].message.key, Some(Key::from(vec![0xff, 0])));
    assert_eq!(parked[0].message.value, None);
    shop.close().await;
}
