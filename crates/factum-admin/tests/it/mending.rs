//! What an operator can do.

use std::time::Duration;

use factum::{At, Headers, Outgoing, StoreId, Topic, chain::Link, system_env};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

/// The amounts that receipts were written for.
async fn receipts(world: &World) -> Vec<u64> {
    let events = world.get("/admin/events?service=receipts").await.is(200);
    let events = events["events"].as_array().unwrap().iter();
    events
        .filter(|event| event["kind"] == "import")
        .map(|event| event["data"]["amount"].as_u64().unwrap())
        .collect()
}

async fn actions(world: &World) -> Vec<(String, String, String)> {
    let audit = world.get("/admin/audit").await.is(200);
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    let entries = audit["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            (
                text(entry, "actor"),
                text(entry, "action"),
                text(entry, "reason"),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_dead_letter_is_edited_redriven_and_handled_before_what_waited() {
    let world = World::start().await;
    let id = world.with_a_dead_letter().await;
    let path = format!("/admin/parked/{id}");

    let dead = world.get(&path).await.is(200);
    assert_eq!((&dead["behind"], &dead["key"]), (&json!(1), &json!("a-1")));
    assert_eq!(dead["failure"]["cause"], "poison: amount # is unlucky");
    assert_eq!(dead["value"]["json"]["data"]["amount"], 13);
    let revision = dead["revision"].as_u64().unwrap();

    let mut value = dead["value"]["json"].clone();
    value["data"]["amount"] = json!(14);
    let edit = json!({ "value": value, "reason": "a typing error", "revision": revision });
    world
        .post(
            &format!("{path}/edit"),
            &json!({ "value": 1, "revision": revision }),
        )
        .await
        .refuses(422, Some("reason"));
    world
        .post(&format!("{path}/edit"), &json!({ "reason": "x" }))
        .await
        .refuses(422, Some("value"));
    let edited = world.post(&format!("{path}/edit"), &edit).await.is(200);
    assert_eq!(
        (&edited["edited"], &edited["state"]),
        (&json!(true), &json!("dead"))
    );
    assert_eq!(edited["value"]["json"]["data"]["amount"], 13);
    assert_eq!(edited["edited_value"]["json"]["data"]["amount"], 14);
    world
        .post(&format!("{path}/edit"), &edit)
        .await
        .refuses(409, None);

    world
        .send(world.request(Method::POST, &format!("{path}/redrive")))
        .await
        .is(200);
    world
        .until("/admin/parked", |list| list["parked"] == json!([]))
        .await;
    assert_eq!(receipts(&world).await, [14, 5]);
    world
        .post(&format!("{path}/redrive"), &json!({}))
        .await
        .refuses(404, None);

    let done = actions(&world).await;
    let local =
        |action: &str, reason: &str| ("local".to_owned(), action.to_owned(), reason.to_owned());
    assert_eq!(
        done,
        [local("redrive", ""), local("edit", "a typing error")]
    );
    world.stop().await;
}

#[tokio::test]
async fn a_discard_needs_a_reason_and_lets_the_next_go_on() {
    let world = World::start().await;
    let path = format!("/admin/parked/{}/discard", world.with_a_dead_letter().await);
    world
        .post(&path, &json!({}))
        .await
        .refuses(422, Some("reason"));
    world
        .post(&path, &json!({ "reason": "  " }))
        .await
        .refuses(422, Some("reason"));
    world
        .post(&path, &json!({ "reason": "x".repeat(2001) }))
        .await
        .refuses(422, Some("reason"));
    world
        .post(
            &path,
            &json!({ "reason": "sent by mistake", "revision": 99 }),
        )
        .await
        .refuses(409, None);
    let discarded = world
        .post(&path, &json!({ "reason": "sent by mistake" }))
        .await
        .is(200);
    assert_eq!(discarded["state"], "discarded");
    world
        .until("/admin/parked?state=waiting", |list| {
            list["parked"] == json!([])
        })
        .await;
    world
        .until("/admin/parked?state=retrying", |list| {
            list["parked"] == json!([])
        })
        .await;
    assert_eq!(receipts(&world).await, [5]);
    world.stop().await;
}

#[tokio::test]
async fn dead_letters_are_redriven_by_key_by_cause_and_all_together() {
    let world = World::start().await;
    world.with_a_dead_letter().await;
    let path = "/admin/parked/redrive";
    // It dies again each time, so there is always one to redrive.
    let dead = |list: &Value| {
        list["parked"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["state"] == "dead")
    };
    for body in [
        json!({ "all": true }),
        json!({ "group": "receipts", "cause": "poison: amount # is unlucky", "reason": "canary" }),
        json!({ "group": "receipts", "topic": "accounts", "key": "a-1" }),
    ] {
        world.until("/admin/parked", dead).await;
        assert_eq!(
            world.post(path, &body).await.is(200),
            json!({ "redriven": 1, "changed": 0 }),
            "{body}"
        );
    }
    let done = world.until("/admin/parked", dead).await;
    assert_eq!(done["parked"][0]["redrives"], 3);
    let none = world
        .post(path, &json!({ "cause": "another" }))
        .await
        .is(200);
    assert_eq!(none["redriven"], 0);
    // Nobody's group has no dead letters, which is not what whoever wrote its name wants to hear.
    let asked = json!({ "group": "nobodys", "all": true });
    let problem = world.post(path, &asked).await.refuses(422, Some("group"));
    let detail = problem["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("known: receipts"), "{detail}");

    world.post(path, &json!({})).await.refuses(422, Some("all"));
    world
        .post(path, &json!({ "key": "a-1" }))
        .await
        .refuses(422, Some("group"));
    world
        .post(path, &json!({ "key": "a-1", "group": "receipts" }))
        .await
        .refuses(422, Some("topic"));
    world
        .post(
            path,
            &json!({ "key": "a-9", "group": "receipts", "topic": "accounts" }),
        )
        .await
        .refuses(422, None);
    world
        .post(
            path,
            &json!({ "key": "a-1", "group": "nobody", "topic": "accounts" }),
        )
        .await
        .refuses(422, Some("group"));
    world.stop().await;
}

#[tokio::test]
async fn a_service_that_is_stopped_goes_on_where_it_was() {
    let world = World::start().await;
    let stopped = world
        .post(
            "/admin/services/receipts/stop",
            &json!({ "reason": "maintenance" }),
        )
        .await
        .is(200);
    assert_eq!(stopped["running"], false);
    world.deposit("a-1", 5).await;
    world
        .until("/admin/topics/accounts/messages", |list| {
            list["messages"].as_array().unwrap().len() == 1
        })
        .await;
    assert_eq!(receipts(&world).await, [0_u64; 0]);
    assert_eq!(world.get("/health").await.is(200)["status"], "stopped");
    assert_eq!(
        world
            .send(world.request(Method::POST, "/admin/services/receipts/start"))
            .await
            .is(200)["running"],
        true
    );
    world
        .until("/admin/events?service=receipts", |list| {
            list["events"].as_array().unwrap().len() == 1
        })
        .await;
    let done = actions(&world).await;
    assert_eq!(
        (&*done[0].1, &*done[1].1, &*done[1].2),
        ("start", "stop", "maintenance")
    );
    world
        .post("/admin/services/nothing/stop", &json!({}))
        .await
        .refuses(404, None);
    world.stop().await;
}

#[tokio::test]
async fn a_projection_is_built_anew() {
    let world = World::start().await;
    world.deposit("a-1", 5).await;
    let before = world
        .until("/admin/projections", |list| {
            list["projections"][0]["lag"] == 0
        })
        .await;
    let generation = before["projections"][0]["generation"].as_u64().unwrap();
    world
        .post(
            "/admin/projections/accounts/totals/rebuild",
            &json!({ "reason": "new rows" }),
        )
        .await
        .is(202);
    world
        .until("/admin/projections", |list| {
            list["projections"][0]["generation"]
                .as_u64()
                .is_some_and(|now| now > generation)
        })
        .await;
    world
        .post("/admin/projections/accounts/nothing/rebuild", &json!({}))
        .await
        .refuses(404, None);
    world.stop().await;
}

#[tokio::test]
async fn a_foreign_producer_publishes_and_is_read() {
    let world = World::start().await;
    let path = "/admin/topics/accounts/messages";
    let event = json!({
        "event_type": "Deposited", "event_id": "py-1", "timestamp": "2026-03-02T10:00:00", "data": { "amount": 21 },
    });
    let body = json!({
        "key": "user-1", "headers": { "x-from": "python" }, "value": event, "reason": "a gap in the import",
    });
    let published = world.post(path, &body).await.is(201);
    assert_eq!(published["offset"], 0);
    let list = world
        .get(&format!("{path}?partition={}", published["partition"]))
        .await
        .is(200);
    let message = &list["messages"][0];
    assert_eq!(
        (&message["key"], &message["value"]["json"]),
        (&json!("user-1"), &event)
    );
    assert_eq!(
        message["headers"],
        json!([{ "name": "x-from", "text": "python" }])
    );
    world
        .until("/admin/events?service=receipts", |list| {
            list["events"].as_array().unwrap().len() == 1
        })
        .await;
    assert_eq!(receipts(&world).await, [21]);

    // Who did it, and why, is known afterwards.
    let done = actions(&world).await;
    let entry = ["local", "publish", "a gap in the import"].map(str::to_owned);
    assert_eq!(done, [entry.into()]);

    // What is no JSON comes back as it came.
    let published = world
        .post(path, &json!({ "value_base64": "/wA=" }))
        .await
        .is(201);
    let list = world
        .get(&format!(
            "{path}?partition={}&offset={}",
            published["partition"], published["offset"]
        ))
        .await
        .is(200);
    assert_eq!(list["messages"][0]["value"], json!({ "base64": "/wA=" }));

    for (body, field) in [
        (json!({}), "value"),
        (json!({ "value": 1, "value_base64": "" }), "value_base64"),
        (json!({ "value_base64": "*" }), "value_base64"),
        (
            json!({ "value": 1, "headers": { "factum-at": "1-1" } }),
            "headers.factum-at",
        ),
        (json!({ "value": 1, "partition": 1 }), "partition"),
    ] {
        world.post(path, &body).await.refuses(422, Some(field));
    }
    let large = json!({ "value": "x".repeat(1_100_000) });
    world.post(path, &large).await.refuses(413, None);
    let larger = json!({ "value": "x".repeat(2_100_000) });
    world.post(path, &larger).await.refuses(413, None);
    world.stop().await;
}

/// Publishes a message of a source that nobody here knows, which comes behind one that is missing, an hour ago. Says
/// which source that is.
async fn publish_behind_a_loss(world: &World) -> StoreId {
    let source = StoreId("0192f000-0000-7000-8000-000000000000".parse().unwrap());
    let link = Link {
        source,
        at: At::new(1, 5),
        previous: At::new(1, 4),
    };
    let mut headers = Headers::new();
    for (name, value) in link.to_headers() {
        headers.push(name, value);
    }
    let message = Outgoing {
        topic: Topic::of("accounts"),
        partition: 1,
        key: Some("a-1".into()),
        headers,
        value: Some("{}".into()),
        timestamp: system_env().now() - Duration::from_hours(1),
    };
    let mut producer = world.running.broker().producer().await.unwrap();
    producer.send(vec![(1, message)]).await.unwrap();
    producer.reports().await.unwrap().remove(0).result.unwrap();
    source
}

#[tokio::test]
async fn a_source_that_misses_a_message_is_shown_and_its_loss_can_be_accepted() {
    let world = World::start().await;
    let source = publish_behind_a_loss(&world).await.to_string();
    world
        .until("/admin/consumers?service=receipts", |list| {
            let partitions = list["groups"][0]["partitions"].as_array().unwrap();
            partitions
                .iter()
                .any(|one| one["partition"] == 1 && one["low"] == 1)
        })
        .await;
    // An owner that finds it there does not wait for it any more.
    let service = world.running.service("receipts").unwrap();
    service.stop().await;
    service.start().await;
    let list = world
        .until("/admin/consumers?service=receipts", |list| {
            list["groups"][0]["incidents"] != json!([])
        })
        .await;
    let mut incident = list["groups"][0]["incidents"][0].clone();
    let since = incident.as_object_mut().unwrap().remove("since");
    assert!(since.is_some());
    assert_eq!(
        incident,
        json!({
            "topic": "accounts", "partition": 1, "source": source, "last": "0", "expected": "1-4", "seen": "1-5",
            "offset": 0, "latest": "1-5", "messages": 1
        })
    );

    let path = "/admin/consumers/receipts/accounts/1/accept";
    let body = |field: &str, value: &str| {
        let mut body = json!({
            "service": "receipts", "source": source, "from": "1-5", "reason": "the broker lost its disk"
        });
        body[field] = json!(value);
        body
    };
    for field in ["reason", "source", "from"] {
        let refused = world.post(path, &body(field, " ")).await;
        refused.refuses(422, Some(field));
    }
    world
        .post(path, &body("service", "nobody"))
        .await
        .refuses(404, None);
    world
        .post(
            "/admin/consumers/receipts/accounts/7/accept",
            &body("from", "1-5"),
        )
        .await
        .refuses(422, None);
    let accepted = world.post(path, &body("from", "1-5")).await.is(200);
    assert_eq!(accepted["from"], "1-5");
    world
        .until("/admin/consumers?service=receipts", |list| {
            list["groups"][0]["incidents"] == json!([])
        })
        .await;
    let done = actions(&world).await;
    assert_eq!(done[0].1, "accept-loss");
    world
        .post(path, &body("from", "1-5"))
        .await
        .refuses(422, None);
    world.stop().await;
}

#[tokio::test]
async fn where_a_group_goes_on_needs_a_reason_and_is_refused_where_nothing_is_missing() {
    let world = World::start().await;
    world.deposit("a-1", 1).await;
    let list = world
        .until("/admin/consumers?service=receipts", |list| {
            let partitions = list["groups"][0]["partitions"].as_array().unwrap();
            partitions.iter().any(|one| one["low"] == 1)
        })
        .await;
    let partitions = list["groups"][0]["partitions"].as_array().unwrap();
    let partition = partitions.iter().find(|one| one["low"] == 1).unwrap();
    let partition = partition["partition"].as_u64().unwrap();
    let path = format!("/admin/consumers/receipts/accounts/{partition}/go-on");
    let body =
        |service: &str, reason: &str| json!({ "service": service, "at": 1, "reason": reason });
    world
        .post(&path, &body("receipts", " "))
        .await
        .refuses(422, Some("reason"));
    world
        .post(&path, &body("nobody", "x"))
        .await
        .refuses(404, None);
    world
        .post(&path, &body("receipts", "a try"))
        .await
        .refuses(422, None);
    world.stop().await;
}

#[tokio::test]
async fn a_relay_is_set_back_and_what_was_published_comes_again_and_is_taken_once() {
    let world = World::start().await;
    for amount in [1, 2, 3] {
        world.deposit("a-1", amount).await;
    }
    world
        .until("/admin/events?service=receipts", |list| {
            list["events"].as_array().unwrap().len() == 3
        })
        .await;
    let path = "/admin/services/accounts/relay/rewind";
    world
        .post(path, &json!({ "to": 99 }))
        .await
        .refuses(422, None);
    let published = |list: &Value| list["messages"].as_array().unwrap().len();
    let rewind = json!({ "to": 1, "reason": "the broker lost its disk" });
    let rewound = world.post(path, &rewind).await.is(200);
    assert_eq!(
        rewound,
        json!({ "service": "accounts", "checkpoint": "1-1" })
    );
    world
        .until("/admin/topics/accounts/messages", |list| {
            published(list) == 5
        })
        .await;
    world.deposit("a-1", 4).await;
    world
        .until("/admin/events?service=receipts", |list| {
            list["events"].as_array().unwrap().len() == 4
        })
        .await;
    assert_eq!(receipts(&world).await, [1, 2, 3, 4]);
    world.stop().await;
}

/// The relay said "open a new epoch", and nobody could.
#[tokio::test]
async fn a_store_that_was_set_back_publishes_again_in_a_new_epoch() {
    let world = World::start().await;
    world.deposit("a-1", 1).await;
    world
        .until("/admin/topics/accounts/messages", |list| {
            list["messages"].as_array().unwrap().len() == 1
        })
        .await;
    // The topics know more of the store than it holds, as after a restore.
    let accounts = world.running.service("accounts").unwrap();
    let beyond = u64::try_from(system_env().now().as_millis()).unwrap() + 1_000_000;
    let link = Link {
        source: accounts.store().identity().id,
        at: At::new(beyond, 9),
        previous: At::new(beyond, 8),
    };
    let mut headers = Headers::new();
    for (name, value) in link.to_headers() {
        headers.push(name, value);
    }
    let message = Outgoing {
        topic: Topic::of("accounts"),
        partition: 0,
        key: None,
        headers,
        value: Some("{}".into()),
        timestamp: system_env().now(),
    };
    let mut producer = world.running.broker().producer().await.unwrap();
    producer.send(vec![(0, message)]).await.unwrap();
    producer.reports().await.unwrap();
    let again = json!({ "reason": "a test" });
    let service = "/admin/services/accounts";
    world.post(&format!("{service}/stop"), &again).await.is(200);
    world
        .post(&format!("{service}/start"), &again)
        .await
        .is(200);
    let relay = |list: &Value, how: &str| {
        let parts = list["services"][0]["parts"].as_array().unwrap().clone();
        let relay = parts.iter().find(|part| part["part"] == "accounts/relay");
        relay.is_some_and(|relay| relay["status"] == how)
    };
    world
        .until("/admin/services", |list| relay(list, "failed"))
        .await;

    let path = format!("{service}/epoch");
    for reason in [json!(null), json!(" ")] {
        world
            .post(&path, &json!({ "reason": reason }))
            .await
            .refuses(422, Some("reason"));
    }
    let asked = |epoch: u64| json!({ "epoch": epoch, "reason": "restored from Monday" });
    world
        .post(&path, &asked(1 << 53))
        .await
        .refuses(422, Some("epoch"));
    world.post(&path, &asked(1)).await.refuses(409, None);
    world
        .post("/admin/services/nobody/epoch", &asked(7))
        .await
        .refuses(404, None);
    // By itself it finds the one that the topics call for.
    let opened = world
        .post(&path, &json!({ "reason": "restored from Monday" }))
        .await
        .is(200);
    assert_eq!(opened["store"]["epoch"], beyond + 1);
    assert_eq!(opened["running"], true);
    world
        .until("/admin/services", |list| relay(list, "ok"))
        .await;
    world.deposit("a-2", 2).await;
    world
        .until("/admin/topics/accounts/messages", |list| {
            list["messages"].as_array().unwrap().len() == 3
        })
        .await;
    let opened = world.post(&path, &asked(beyond + 9)).await.is(200);
    assert_eq!(opened["store"]["epoch"], beyond + 9);
    let done = actions(&world).await;
    let entry = ["local", "open-epoch", "restored from Monday"].map(str::to_owned);
    assert_eq!(done[0], entry.into());
    world.stop().await;
}

#[tokio::test]
async fn without_a_way_to_make_backups_none_is_promised() {
    let world = World::start().await;
    let path = "/admin/services/accounts/backup";
    let refused = world.post(path, &json!({})).await.refuses(501, None);
    assert_eq!(refused["type"], "urn:factum:problem:no-backups");
    assert_eq!(actions(&world).await, []);
    world.stop().await;
}
