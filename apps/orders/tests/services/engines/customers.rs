//! Customers, who order without end, and ask again until they are told that their order is taken.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::process::Platform;

/// How long a customer waits between two requests of theirs, the same one or the next.
const PAUSE: Duration = Duration::from_millis(50);

/// How long anything may take that is waited for: processes die, take over and start on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// How many order at the same time: their orders spread over all partitions.
const CUSTOMERS: usize = 16;

/// How many of the orders that were taken since the last look are given again at the next.
const AGAIN: usize = 20;

/// The orders that were taken, by their ids.
type Taken = Arc<Mutex<BTreeMap<String, Order>>>;

/// An order, as its customer gave it.
#[derive(Clone, Debug)]
struct Order {
    number: u64,
    user: String,
}

impl Order {
    /// What makes it safe to give again.
    fn key(&self) -> String {
        format!("order-{}", self.number)
    }

    fn body(&self) -> Value {
        let items = json!([{ "sku": "tea", "qty": 1, "price": 500 }]);
        json!({ "user_id": self.user, "items": items })
    }
}

/// Those who order.
pub(crate) struct Customers {
    url: String,
    users: Vec<String>,
    taken: Taken,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    next: Arc<AtomicU64>,
    /// Orders before this number were looked at.
    looked: u64,
    /// How long each waits between two orders.
    pause: Duration,
}

/// Sends a request until it is answered with `status`.
async fn insist(http: &reqwest::Client, url: &str, key: &str, body: &Value, status: u16) -> Value {
    loop {
        let request = http.post(url).header("idempotency-key", key).json(body);
        if let Ok(response) = request.send().await {
            let answered = response.status().as_u16();
            let text = response.text().await.unwrap_or_default();
            if answered == status {
                return serde_json::from_str(&text).unwrap();
            }
            assert!(answered >= 500, "POST {url} {body}: {answered} {text}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Customers {
    /// Registers them, and fills the shelf.
    pub(crate) async fn of(platform: &Platform) -> Self {
        let url = platform.client.url().to_owned();
        let http = client();
        let mut users = Vec::new();
        for number in 0..CUSTOMERS {
            let user = json!({ "name": format!("User {number}"), "email": "user@example.org" });
            let key = format!("user-{number}");
            let user = insist(&http, &format!("{url}/users"), &key, &user, 201).await;
            users.push(user["user_id"].as_str().unwrap().to_owned());
        }
        let tea = json!({ "qty": 1_000_000 });
        insist(&http, &format!("{url}/stock/tea/receive"), "tea", &tea, 202).await;
        Self {
            url,
            users,
            taken: Arc::default(),
            stop: CancellationToken::new(),
            tasks: Vec::new(),
            next: Arc::default(),
            looked: 0,
            pause: PAUSE,
        }
    }

    /// Lets them wait so long between two orders.
    pub(crate) fn every(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Each orders one thing now. Gives the orders.
    pub(crate) async fn order_once(&self) -> Vec<String> {
        let http = client();
        let orders = self.users.iter().map(|user| self.order(&http, user));
        futures_util::future::join_all(orders).await
    }

    async fn order(&self, http: &reqwest::Client, user: &str) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let user = user.to_owned();
        order(http, &self.url, Order { number, user }, &self.taken).await
    }

    /// Lets all of them order again and again.
    pub(crate) fn begin(&mut self) {
        self.stop = CancellationToken::new();
        for user in self.users.clone() {
            let (url, taken, next) = (self.url.clone(), self.taken.clone(), self.next.clone());
            let (stop, pause) = (self.stop.clone(), self.pause);
            self.tasks.push(tokio::spawn(async move {
                let http = client();
                while !stop.is_cancelled() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let user = user.clone();
                    order(&http, &url, Order { number, user }, &taken).await;
                    tokio::time::sleep(pause).await;
                }
            }));
        }
    }

    /// How many orders were taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// Waits until so many more are taken.
    pub(crate) async fn more(&self, count: usize) {
        let wanted = self.taken() + count;
        let taken = tokio::time::timeout(PATIENCE, async {
            while self.taken() < wanted {
                tokio::time::sleep(PAUSE).await;
            }
        });
        assert!(
            taken.await.is_ok(),
            "{} of {wanted} orders are taken",
            self.taken()
        );
    }

    /// Lets them finish what they have begun, and looks at all of it.
    pub(crate) async fn end(mut self, platform: &Platform) {
        self.rest(platform).await;
        self.look(platform).await;
    }

    /// Lets them finish what they have begun.
    pub(crate) async fn rest(&mut self, platform: &Platform) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            let ended = tokio::time::timeout(PATIENCE, task).await;
            assert!(ended.is_ok(), "an order is not taken\n{}", platform.logs());
            ended.unwrap().unwrap();
        }
    }

    /// The ids of the orders that were taken.
    pub(crate) fn orders(&self) -> Vec<String> {
        self.taken.lock().unwrap().keys().cloned().collect()
    }

    /// Waits until all is quiet. Then no invariant may be broken, every order that was acknowledged must be there once, and
    /// nothing else. Those that were taken since the last look are through, and who gives one again is told the same.
    pub(crate) async fn look(&mut self, platform: &Platform) {
        let quiet = async {
            loop {
                let found = platform.client.get("/invariants").await;
                if found.status == 200 && found.body["quiet"] == true {
                    return found.body;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let Ok(found) = tokio::time::timeout(PATIENCE, quiet).await else {
            let now = platform.client.get("/invariants").await;
            panic!("it does not become quiet: {now:?}\n{}", platform.logs());
        };
        assert_eq!(found["broken"], json!([]), "{}", platform.logs());
        let taken = self.taken.lock().unwrap().clone();
        assert_eq!(
            found["orders"],
            json!(taken.len()),
            "orders that nobody was told of, or told twice"
        );
        let fresh = taken.iter();
        let fresh: Vec<_> = fresh
            .filter(|(_, order)| order.number >= self.looked)
            .collect();
        for (id, _) in &fresh {
            let seen = platform.client.get(&format!("/orders/{id}")).await;
            assert_eq!(seen.is(200)["status"], "confirmed");
        }
        let every = fresh.len().div_ceil(AGAIN).max(1);
        for (id, order) in fresh.into_iter().step_by(every) {
            let key = order.key();
            let headers = [("idempotency-key", key.as_str())];
            let again = platform
                .client
                .ask(Method::POST, "/orders", &headers, Some(&order.body()))
                .await;
            assert_eq!(
                again.is(201)["order_id"],
                json!(id),
                "{key} was carried out again"
            );
        }
        self.looked = self.next.load(Ordering::Relaxed);
    }
}

fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy();
    client.timeout(Duration::from_secs(30)).build().unwrap()
}

async fn order(http: &reqwest::Client, url: &str, order: Order, taken: &Taken) -> String {
    let (url, key) = (format!("{url}/orders"), order.key());
    let placed = insist(http, &url, &key, &order.body(), 201).await;
    let id = placed["order_id"].as_str().unwrap().to_owned();
    taken.lock().unwrap().insert(id.clone(), order);
    id
}
