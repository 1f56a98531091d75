//! What an operator can see.

use factum::Error;
use factum_testkit::faults::Call;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn the_process_says_that_it_is_well_and_ready() {
    let world = World::start().await;
    let health = world.get("/health").await.is(200);
    assert_eq!(health["status"], "ok");
    assert!(
        health["services"]["accounts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|part| part["part"] == "accounts/relay")
    );
    assert_eq!(world.get("/ready").await.is(200), json!({ "ready": true }));
    world.deposit("a-1", 3).await;
    let metrics = world.get("/metrics").await;
    assert!(
        metrics
            .content_type
            .starts_with("application/openmetrics-text")
    );
    assert!(
        metrics.text.contains("factum_commands_total"),
        "{}",
        metrics.text
    );
    world.stop().await;
}

/// It was ready with a full disk, since all that it was asked was whether it can read.
#[tokio::test]
async fn a_process_that_can_write_nothing_is_not_ready_until_it_can() {
    let world = World::start().await;
    world.deposit("a-1", 3).await;
    let full = factum::Error::transient("the disk is full");
    let rule = world.faults.at(Call::Commit).on("accounts");
    rule.times(u64::MAX).fails(full);
    assert!(!world.try_to_deposit("a-1", 3).await);
    let problem = world
        .get("/ready")
        .await
        .refuses(503, Some("accounts/store"));
    assert_eq!(problem["errors"][0]["detail"], "the disk is full");
    let health = world.get("/health").await.is(200);
    assert_eq!(health["status"], "degraded");
    // Nobody gives a command, and it is found out all the same.
    world.faults.clear();
    world.until("/ready", |ready| ready["ready"] == true).await;
    world
        .until("/health", |health| health["status"] == "ok")
        .await;
    world.deposit("a-1", 3).await;
    world.stop().await;
}

/// Only what commands, handlers, projections and relays commit was noted: a group whose messages are all void, and an
/// operator, failed with nobody told.
#[tokio::test]
async fn whatever_a_store_refuses_to_take_makes_its_process_unready() {
    let world = World::start().await;
    let full = || factum::Error::transient("the disk is full");
    let fail = |store| {
        let rule = world.faults.at(Call::Commit).on(store);
        rule.times(u64::MAX).fails(full());
    };
    fail("receipts");
    let void = json!({
        "event_type": "Unheard", "event_id": "1", "timestamp": "2026-03-02T10:00:00Z", "data": {},
    });
    let publish = "/admin/topics/accounts/messages";
    world.post(publish, &json!({ "value": void })).await.is(201);
    let unready = |store| move |ready: &Value| ready["errors"][0]["field"] == store;
    world.until("/ready", unready("receipts/store")).await;
    world.faults.clear();
    world.until("/ready", |ready| ready["ready"] == true).await;

    fail("accounts");
    let stop = "/admin/services/accounts/stop";
    assert!(world.post(stop, &json!({})).await.status >= 500);
    let problem = world.get("/ready").await;
    problem.refuses(503, Some("accounts/store"));
    world.faults.clear();
    world.until("/ready", |ready| ready["ready"] == true).await;
    world.stop().await;
}

#[tokio::test]
async fn streams_and_events_are_paged_to_the_last() {
    let world = World::start().await;
    for account in ["a-1", "a-2", "a/3 ?"] {
        world.deposit(account, 1).await;
    }
    world.deposit("a-2", 2).await;

    let mut path = "/admin/streams?service=accounts&limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = world.get(&path).await.is(200);
        for stream in page["streams"].as_array().unwrap() {
            seen.push((
                stream["id"].as_str().unwrap().to_owned(),
                stream["version"].as_u64().unwrap(),
            ));
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        let next = next
            .replace('%', "%25")
            .replace(' ', "%20")
            .replace('?', "%3F");
        path = format!("/admin/streams?service=accounts&limit=2&after={next}");
    }
    assert_eq!(
        seen,
        [("a-1".into(), 1), ("a-2".into(), 2), ("a/3 ?".into(), 1)]
    );

    let page = world
        .get("/admin/streams/accounts/account/a-2?limit=1")
        .await
        .is(200);
    assert_eq!(
        (&page["version"], &page["next"], &page["events"][0]["data"]),
        (&json!(2), &json!(1), &json!({ "amount": 1 }))
    );
    let page = world
        .get("/admin/streams/accounts/account/a-2?limit=1&after=1")
        .await
        .is(200);
    assert_eq!(
        (&page["events"][0]["version"], page.get("next")),
        (&json!(2), None)
    );
    assert_eq!(
        world
            .get("/admin/streams/accounts/account/a%2F3%20%3F")
            .await
            .is(200)["version"],
        1
    );

    let page = world
        .get("/admin/events?service=accounts&limit=3")
        .await
        .is(200);
    assert_eq!(
        (page["events"].as_array().unwrap().len(), &page["end"]),
        (3, &json!(false))
    );
    let page = world
        .get(&format!(
            "/admin/events?service=accounts&after={}",
            page["next"].as_str().unwrap()
        ))
        .await
        .is(200);
    assert_eq!(
        (page["events"].as_array().unwrap().len(), &page["end"]),
        (1, &json!(true))
    );
    let none = world
        .get("/admin/events?service=accounts&type=Withdrawn")
        .await
        .is(200);
    assert_eq!(none["events"], json!([]));
    world.stop().await;
}

#[tokio::test]
async fn an_aggregate_is_shown_as_it_was_at_any_version() {
    let world = World::start().await;
    for amount in [1, 20, 300] {
        world.deposit("a-1", amount).await;
    }
    for (query, version, balance) in [("", 3, 321), ("?version=2", 2, 21), ("?version=0", 0, 0)] {
        let state = world
            .get(&format!("/admin/streams/accounts/account/a-1/state{query}"))
            .await
            .is(200);
        assert_eq!(
            (&state["version"], &state["state"]["balance"]),
            (&json!(version), &json!(balance)),
            "{query}"
        );
    }
    world
        .get("/admin/streams/accounts/account/a-1/state?version=4")
        .await
        .refuses(404, None);
    world
        .get("/admin/streams/accounts/account/nobody/state")
        .await
        .refuses(404, None);
    world
        .get("/admin/streams/accounts/order/a-1/state")
        .await
        .refuses(404, None);
    world
        .get("/admin/streams/bank/account/a-1/state")
        .await
        .refuses(404, None);
    world.stop().await;
}

#[tokio::test]
async fn a_story_goes_through_all_services() {
    let world = World::start().await;
    world.deposit("a-1", 7).await;
    let event = world
        .get("/admin/streams/accounts/account/a-1")
        .await
        .is(200)["events"][0]
        .clone();
    let path = format!(
        "/admin/stories/{}",
        event["correlation_id"].as_str().unwrap()
    );
    let story = world
        .until(&path, |story| {
            story["events"]
                .as_array()
                .is_some_and(|events| events.len() == 2)
        })
        .await;
    let told: Vec<_> = story["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (&event["depth"], &event["service"], &event["type"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!(0), &json!("accounts"), &json!("Deposited")),
            (&json!(1), &json!("receipts"), &json!("ReceiptWritten"))
        ]
    );
    world.get("/admin/stories/nothing").await.refuses(404, None);
    world.stop().await;
}

#[tokio::test]
async fn consumers_and_projections_show_how_far_they_have_come() {
    let world = World::start().await;
    world.deposit("a-1", 7).await;
    let done = world
        .until("/admin/consumers", |list| {
            let group = &list["groups"][0];
            let partitions = group["partitions"].as_array().unwrap();
            partitions.len() == 2
                && partitions.iter().any(|one| one["low"] == 1)
                && group["lag"] == 0
        })
        .await;
    let group = &done["groups"][0];
    assert_eq!(
        (&group["service"], &group["group"]),
        (&json!("receipts"), &json!("receipts"))
    );
    assert!(
        group["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["owner"].is_string()),
        "{group}"
    );
    assert_eq!(
        group["parked"],
        json!({ "retrying": 0, "dead": 0, "waiting": 0, "discarded": 0 })
    );
    let list = world
        .until("/admin/projections", |list| {
            list["projections"][0]["lag"] == 0
        })
        .await;
    assert_eq!(list["projections"][0]["projection"], "totals");
    world.stop().await;
}

/// It went wrong: a group whose members the broker can't tell looked like one without members.
#[tokio::test]
async fn members_that_the_broker_can_not_tell_are_said_to_be_unknown() {
    let world = World::start().await;
    let members = |list: &Value| {
        let group = &list["groups"][0];
        (group["members"].clone(), group["members_unknown"].clone())
    };
    let known = world
        .until("/admin/consumers", |list| members(list).0 != json!([]))
        .await;
    assert_eq!(members(&known).1, Value::Null);

    let why = "the client knows another protocol";
    let rule = world.faults.at(Call::Read).on("broker");
    rule.about("members of receipts").fails(Error::fatal(why));

    let list = world.get("/admin/consumers").await.is(200);
    assert_eq!(members(&list), (json!([]), json!(why)));
    world.stop().await;
}

/// Of more than a page, only the oldest could be seen without asking partition by partition.
#[tokio::test]
async fn messages_of_all_partitions_are_paged_from_either_end() {
    let world = World::start().await;
    let publish = "/admin/topics/accounts/messages";
    for number in 0..25 {
        let message = json!({ "key": format!("k-{number}"), "value": { "number": number } });
        world.post(publish, &message).await.is(201);
    }
    let all = async |order: &str| {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = world.get(&format!("{publish}?limit=4{order}{after}")).await;
            let page = page.is(200);
            for message in page["messages"].as_array().unwrap() {
                seen.push(message["value"]["json"]["number"].as_u64().unwrap());
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
            if page["more"] == false {
                break;
            }
        }
        (seen, after)
    };
    let (mut newest, _) = all("&newest=true").await;
    let (oldest, after) = all("").await;
    // Times may be the same, and are told apart by partition.
    newest.reverse();
    assert_eq!((newest, oldest.len()), (oldest.clone(), 25));
    assert_eq!(oldest.iter().sum::<u64>(), 25 * 24 / 2);
    // What comes later is behind the last page.
    let message = json!({ "key": "k-1", "value": { "number": 99 } });
    world.post(publish, &message).await.is(201);
    let page = world
        .get(&format!("{publish}?limit=4{after}"))
        .await
        .is(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 1, "{page}");
    let last = world.get(&format!("{publish}?limit=1&newest=true")).await;
    let last = last.is(200);
    assert_eq!(last["messages"][0]["value"]["json"]["number"], 99);
    // From a place that no partition has reached, it once looked at every place in between: for ever.
    let beyond = format!("after=0:{0},1:{0}", u64::MAX);
    let page = format!("{publish}?limit=1&newest=true&{beyond}");
    assert_eq!(world.get(&page).await.is(200)["messages"], last["messages"]);
    let page = world.get(&format!("{publish}?{beyond}")).await.is(200);
    assert_eq!(page["messages"], json!([]));
    world.stop().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_by_name() {
    let world = World::start().await;
    for (path, status, field) in [
        ("/admin/events", 422, Some("service")),
        ("/admin/events?service=bank", 422, Some("service")),
        (
            "/admin/events?service=accounts&after=yesterday",
            422,
            Some("after"),
        ),
        ("/admin/streams?after=nowhere", 422, Some("after")),
        ("/admin/streams?category=a%20b", 422, Some("category")),
        ("/admin/streams?limit=0", 422, Some("limit")),
        ("/admin/streams?limit=501", 422, Some("limit")),
        ("/admin/streams?limit=many", 422, Some("limit")),
        ("/admin/streams?page=2", 422, Some("page")),
        ("/admin/parked?state=sad", 422, Some("state")),
        ("/admin/parked?group=a%20b", 422, Some("group")),
        ("/admin/parked?group=nobodys", 422, Some("group")),
        (
            "/admin/topics/accounts/messages?after=0:1",
            422,
            Some("after"),
        ),
        (
            "/admin/topics/accounts/messages?newest=true&offset=1",
            422,
            Some("offset"),
        ),
        (
            "/admin/topics/accounts/messages?partition=2",
            422,
            Some("partition"),
        ),
        ("/admin/topics/nothing/messages", 404, None),
        ("/admin/parked/receipts:accounts:0:0", 404, None),
        ("/admin/parked/nonsense", 404, None),
        ("/admin/nothing", 404, None),
        ("/", 404, None),
    ] {
        let problem = world.get(path).await.refuses(status, field);
        assert!(
            !problem.to_string().contains("panicked"),
            "{path}: {problem}"
        );
    }
    world.stop().await;
}

/// However much happens, and whatever happens meanwhile: who goes on from page to page comes to the oldest entry.
#[tokio::test]
async fn the_audit_record_of_all_services_is_paged_to_the_first_that_was_done() {
    let world = World::start().await;
    let act = async |service: &str, times: usize| {
        for _ in 0..times {
            for verb in ["stop", "start"] {
                let path = format!("/admin/services/{service}/{verb}");
                world.post(&path, &json!({})).await.is(200);
            }
        }
    };
    act("receipts", 2).await;
    act("accounts", 1).await;
    act("receipts", 1).await;
    let all = world.get("/admin/audit").await.is(200);
    let entries = all["entries"].as_array().unwrap();
    assert_eq!((entries.len(), all.get("next")), (8, None));

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for expected in [3, 3, 2] {
        let path = format!("/admin/audit?limit=3{cursor}");
        let page = world.get(&path).await.is(200);
        let found = page["entries"].as_array().unwrap();
        assert_eq!(found.len(), expected, "{page}");
        seen.extend(found.iter().cloned());
        cursor = match page["next"].as_str() {
            Some(next) => format!("&before={next}"),
            None => String::new(),
        };
        act("accounts", 1).await;
    }
    assert_eq!((&seen, &*cursor), (entries, ""));

    for wrong in ["1", "accounts:1", "accounts:1,receipts:x"] {
        let path = format!("/admin/audit?before={wrong}");
        world.get(&path).await.refuses(422, Some("before"));
    }
    world.stop().await;
}

/// A page of five hundred large messages had five hundred megabytes, in memory and on the wire.
#[tokio::test]
async fn a_page_ends_when_it_is_large_enough_and_says_that_there_is_more() {
    const PAGE_BYTES: usize = 5_000;
    let world = World::with_pages_of(PAGE_BYTES).await;
    let large = serde_json::json!({ "value": "x".repeat(2 * PAGE_BYTES) });
    for amount in 100..140 {
        world.deposit("a-1", amount).await;
    }
    let publish = "/admin/topics/accounts/messages";
    for _ in 0..3 {
        let small = serde_json::json!({ "key": "k", "value": "y".repeat(1_000) });
        world.post(publish, &small).await.is(201);
    }
    let end = |topics: &Value, partition: usize| {
        topics["topics"][0]["partitions"][partition]["end"].as_u64()
    };
    world
        .until("/admin/topics", |topics| {
            end(topics, 0).max(end(topics, 1)) >= Some(40)
        })
        .await;
    let whole = end(&world.get("/admin/topics").await.json(), 0) < Some(40);
    let partition = usize::from(whole);
    let all_of = |list: &str, start: &str, more: fn(&Value) -> Option<String>| {
        let (world, list, start) = (&world, list.to_owned(), start.to_owned());
        async move {
            let (mut all, mut pages, mut path) = (Vec::new(), 0, start.clone());
            loop {
                let answer = world.get(&path).await;
                let page = answer.is(200);
                let shown = page[&list].as_array().unwrap().clone();
                assert!(
                    shown.len() == 1 || answer.text.len() < 2 * PAGE_BYTES,
                    "{path}: {answer:?}"
                );
                pages += 1;
                all.extend(shown);
                let Some(next) = more(&page) else { break };
                path = format!("{start}{next}");
            }
            assert!(pages > 2, "{start} is not cut");
            all
        }
    };
    let stream = all_of(
        "events",
        "/admin/streams/accounts/account/a-1?limit=500",
        |page| page["next"].as_u64().map(|next| format!("&after={next}")),
    );
    let versions: Vec<_> = stream
        .await
        .iter()
        .map(|one| one["version"].as_u64().unwrap())
        .collect();
    assert_eq!(versions, (1..=40).collect::<Vec<_>>());
    let log = all_of(
        "events",
        "/admin/events?service=accounts&limit=500",
        |page| {
            let next = page["next"].as_str().unwrap();
            (page["end"] == false).then(|| format!("&after={next}"))
        },
    );
    assert_eq!(log.await.len(), 40);
    let messages = all_of(
        "messages",
        &format!("{publish}?limit=500&partition={partition}"),
        |page| {
            let next = page["next"].as_str().unwrap();
            (page["more"] == true).then(|| format!("&after={next}"))
        },
    );
    let offsets: Vec<_> = messages
        .await
        .iter()
        .map(|one| one["offset"].as_u64().unwrap())
        .collect();
    assert!(offsets.len() >= 40 && offsets.is_sorted(), "{offsets:?}");
    assert_eq!(*offsets.last().unwrap() + 1, offsets.len() as u64);

    // One that is larger than any page is a page of its own.
    let sent = world.post(publish, &large).await.is(201);
    let (partition, offset) = (&sent["partition"], &sent["offset"]);
    let page = world
        .get(&format!("{publish}?partition={partition}&offset={offset}"))
        .await
        .is(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
    // A story is cut, and says so.
    let event = world
        .get("/admin/events?service=accounts&limit=1")
        .await
        .is(200);
    let story = event["events"][0]["correlation_id"].as_str().unwrap();
    let story = world.get(&format!("/admin/stories/{story}")).await.is(200);
    assert_eq!(story["cut"], false, "{story}");
    world.stop().await;
}

/// What first counted when something went wrong was no increase to an alert, which had never seen it at zero.
#[tokio::test]
async fn counters_are_there_before_they_count() {
    let world = World::start().await;
    let metrics = world.get("/metrics").await.text;
    for series in [
        r#"factum_commands_total{service="accounts",aggregate="account",outcome="error"} 0"#,
        r#"factum_store_events_appended_total{service="accounts",event_type="Deposited"} 0"#,
        r#"factum_consumer_messages_total{group="receipts",outcome="parked"} 0"#,
        r#"factum_retries_total{group="receipts",class="transient"} 0"#,
        r#"factum_dead_letters_made_total{group="receipts",class="poison"} 0"#,
        r#"factum_relay_published_total{topic="accounts"} 0"#,
        r#"factum_redrives_total{outcome="failed"} 0"#,
    ] {
        assert!(
            metrics.lines().any(|line| line == series),
            "{series}\n{metrics}"
        );
    }
    world.stop().await;
}
