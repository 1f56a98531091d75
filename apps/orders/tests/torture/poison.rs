//! Messages that take the whole process down: the rest flows on, and they are parked after bounded tries.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json, value::RawValue};
use tempfile::TempDir;

use crate::{
    deadly::{self, Death, Settings},
    http::Client,
    process::Process,
};

/// How many deaths of one message are counted before it is parked: the default of `GroupSpec::crashes_at_most`.
const COUNTED_DEATHS: usize = 3;
/// The death before anybody was suspected is nobody's.
const DEATHS_MAX: usize = COUNTED_DEATHS + 1;
/// How long a process may take until it has died, or all is quiet.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Orders that nothing is wrong with: several for each partition, so that each has some under way at each death.
const INNOCENT: usize = 40;

/// A platform that dies and is started again, as a supervisor would do it.
struct Supervised {
    data: TempDir,
    process: Process,
    client: Client,
    deaths: usize,
    settings: Settings,
}

impl Supervised {
    fn start(settings: Settings) -> Self {
        let data = TempDir::new().unwrap();
        let process = Process::start(deadly::command(data.path(), settings)).unwrap();
        Self {
            client: Client::new(&process.url),
            data,
            process,
            deaths: 0,
            settings,
        }
    }

    /// Starts it anew, and counts those that die before they are there.
    fn restart(&mut self) {
        self.process.kill();
        for _ in 0..=DEATHS_MAX {
            match Process::start(deadly::command(self.data.path(), self.settings)) {
                Ok(process) => {
                    self.client = Client::new(&process.url);
                    self.process = process;
                    return;
                }
                Err(_) => self.deaths += 1,
            }
        }
        panic!("it has died {} times and does not start", self.deaths);
    }

    /// Starts it as often as it dies, until nothing moves any more: what it says of that.
    async fn until_nothing_moves(&mut self, poisoned: usize) -> String {
        let quiet = tokio::time::timeout(PATIENCE, async {
            loop {
                let reply = self
                    .client
                    .ask(Method::GET, "/invariants", None, None)
                    .await;
                if let Ok(reply) = reply {
                    let standing = reply.json()["standing"].as_str().unwrap().to_owned();
                    if standing.starts_with("all is quiet") {
                        return standing;
                    }
                } else if let Some(status) = self.process.ended() {
                    assert!(!status.success(), "{status}");
                    self.deaths += 1;
                    assert!(
                        self.deaths <= poisoned * DEATHS_MAX,
                        "it has died {} times",
                        self.deaths
                    );
                    self.restart();
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        let Ok(standing) = quiet.await else {
            panic!("still busy: {}", self.parked().await);
        };
        standing
    }

    async fn user(&self) -> Value {
        let kim = json!({ "name": "Kim", "email": "kim@example.org" });
        self.client.post("/users", &kim).await["user_id"].clone()
    }

    /// An order, whose key is its user.
    async fn order(&self, user: &Value, currency: &str) -> String {
        let body = json!({
            "user_id": user,
            "items": [{ "sku": "tea", "qty": 1, "price": 500 }],
            "currency": currency,
        });
        let placed = self.client.post("/orders", &body).await;
        placed["order_id"].as_str().unwrap().to_owned()
    }

    async fn parked(&self) -> Value {
        self.client.get("/admin/parked").await
    }

    async fn status(&self, order: &str) -> String {
        let shown = self.client.get(&format!("/orders/{order}")).await;
        shown["status"].as_str().unwrap().to_owned()
    }

    /// The members of the JSON object at `path`, each as it was written.
    async fn raw(&self, path: &str) -> BTreeMap<String, Box<RawValue>> {
        let reply = self
            .client
            .ask(Method::GET, path, None, None)
            .await
            .unwrap();
        serde_json::from_str(&reply.text).unwrap()
    }
}

/// Somebody whose first order takes the process down when it is charged.
struct Victim {
    user: Value,
    deadly: String,
    /// A later order of the same key.
    later: String,
}

impl Victim {
    async fn of(platform: &Supervised, death: Death) -> Self {
        let user = platform.user().await;
        let deadly = platform.order(&user, death.currency()).await;
        let cancel = json!({ "reason": "took too long" });
        let path = format!("/orders/{deadly}/cancel");
        platform.client.post(&path, &cancel).await;
        let later = platform.order(&user, "KRW").await;
        Self {
            user,
            deadly,
            later,
        }
    }
}

/// Many orders, and among them some that take the process down by `deaths` when they are charged.
async fn dies_of(deaths: &[Death]) {
    survives(Supervised::start(Settings::default()), deaths).await;
}

async fn survives(mut platform: Supervised, deaths: &[Death]) {
    platform
        .client
        .post("/stock/tea/receive", &json!({ "qty": 1_000 }))
        .await;
    // Payment is told of everything at once, so that there is much under way when the first death comes.
    platform
        .client
        .post("/admin/services/payment/stop", &json!({}))
        .await;
    let (mut innocent, mut victims) = (Vec::new(), Vec::new());
    for number in 0..INNOCENT {
        let user = platform.user().await;
        innocent.push(platform.order(&user, "KRW").await);
        if number % 10 == 5
            && let Some(death) = deaths.get(number / 10)
        {
            victims.push(Victim::of(&platform, *death).await);
        }
    }
    platform
        .client
        .post("/admin/services/payment/start", &json!({}))
        .await;

    let standing = platform.until_nothing_moves(deaths.len()).await;
    let held = format!(
        "all is quiet, and dead letters hold things back: {}",
        deaths.len()
    );
    assert_eq!(standing, held, "{}", platform.parked().await);
    assert!(
        platform.deaths > COUNTED_DEATHS,
        "{} deaths",
        platform.deaths
    );
    for order in &innocent {
        assert_eq!(platform.status(order).await, "confirmed");
    }
    // The cancellation and the later order of the key wait behind the charge that kills, and nothing else does.
    let parked = platform.parked().await;
    let parked = parked["parked"].as_array().unwrap();
    let shown = |one: &Value| {
        let text = |member: &str| one[member].as_str().unwrap().to_owned();
        (text("key"), text("state"), text("type"))
    };
    let found: BTreeSet<_> = parked.iter().map(shown).collect();
    let expected = victims.iter().flat_map(|victim| {
        let all = [
            ("dead", "OrderCreated"),
            ("waiting", "OrderCancelled"),
            ("waiting", "OrderCreated"),
        ];
        let user = victim.user.as_str().unwrap();
        all.map(|(state, event)| (user.to_owned(), state.to_owned(), event.to_owned()))
    });
    assert_eq!(
        (found, parked.len()),
        (expected.collect(), 3 * deaths.len())
    );
    for dead in parked.iter().filter(|one| one["state"] == "dead") {
        assert_eq!(dead["failure"]["class"], "crash");
        is_kept_byte_for_byte(&platform, dead).await;
    }

    // The gateway is mended, and an operator lets the dead letters be tried again.
    platform.settings.mended = true;
    platform.restart();
    let redriven = json!({ "all": true, "reason": "the gateway is mended" });
    let redriven = platform
        .client
        .post("/admin/parked/redrive", &redriven)
        .await;
    assert_eq!(redriven["redriven"], deaths.len());
    assert_eq!(platform.until_nothing_moves(0).await, "all is quiet");
    let found = platform.client.get("/invariants").await;
    assert_eq!(
        (&found["quiet"], &found["broken"]),
        (&json!(true), &json!([]))
    );
    for victim in &victims {
        assert_eq!(platform.status(&victim.deadly).await, "cancelled");
        assert_eq!(platform.status(&victim.later).await, "confirmed");
    }
}

/// What is parked is what is in the topic, to the byte.
async fn is_kept_byte_for_byte(platform: &Supervised, parked: &Value) {
    let text = |member: &str| parked[member].as_str().unwrap();
    let kept = platform.raw(&format!("/admin/parked/{}", text("id"))).await;
    let sent = format!(
        "/admin/topics/{}/messages?partition={}&offset={}&limit=1",
        text("topic"),
        parked["partition"],
        parked["offset"]
    );
    let sent = platform.raw(&sent).await;
    let sent: Vec<BTreeMap<String, Box<RawValue>>> =
        serde_json::from_str(sent["messages"].get()).unwrap();
    for member in ["headers", "value"] {
        assert_eq!(kept[member].get(), sent[0][member].get(), "{member}");
    }
    assert!(
        kept["value"].get().contains(text("key")),
        "{}",
        kept["value"]
    );
}

#[tokio::test]
async fn a_message_that_aborts_the_process_is_parked_and_all_else_flows_on() {
    dies_of(&[Death::Abort]).await;
}

#[tokio::test]
async fn a_message_that_overflows_the_stack_is_parked_and_all_else_flows_on() {
    dies_of(&[Death::StackOverflow]).await;
}

#[tokio::test]
async fn a_message_that_takes_all_memory_is_parked_and_all_else_flows_on() {
    dies_of(&[Death::OutOfMemory]).await;
}

/// Where deaths are counted for nothing, the message that kills is tried again and again.
#[tokio::test]
#[should_panic(expected = "it has died")]
async fn a_message_whose_deaths_nobody_counts_kills_more_often_than_it_may() {
    let settings = Settings {
        forgets: true,
        ..Settings::default()
    };
    survives(Supervised::start(settings), &[Death::Abort]).await;
}

#[tokio::test]
async fn several_that_kill_are_each_parked_and_nothing_else_is() {
    dies_of(&Death::ALL).await;
}
