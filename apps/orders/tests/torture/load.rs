//! The clients: each gives commands, one after another, and enters them and their answers in the ledger.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    http::{Client, Reply},
    ledger::{Answer, Command, End, Ledger, What},
};

/// How many clients there are. They wait for what becomes of most orders, so this also bounds what is on its way.
const CLIENTS: usize = 8;
/// What is ordered. Few things, so that their shelves have long streams.
pub(crate) const SKUS: [&str; 4] = ["tea", "milk", "rice", "salt"];
/// How long a client waits for its order, and how often it looks.
const WAIT_MAX: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// The ledger that all clients write.
pub(crate) type Book = Arc<Mutex<Ledger>>;

/// Clients that give commands until the process dies or they are dropped.
pub(crate) struct Load(JoinSet<()>);

impl Load {
    pub(crate) fn begin(client: &Client, book: &Book, rng: &mut Rng) -> Self {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let mut buyer = Buyer {
                client: client.clone(),
                book: book.clone(),
                rng: Rng::with_seed(rng.u64(..)),
                users: Vec::new(),
            };
            clients.spawn(async move { while buyer.shop().await.is_some() {} });
        }
        Self(clients)
    }

    /// Waits until all have noticed that the process died.
    pub(crate) async fn end(mut self) {
        while let Some(ended) = self.0.join_next().await {
            ended.unwrap();
        }
    }
}

/// One client. Whatever it does is `None` once the process does not answer.
struct Buyer {
    client: Client,
    book: Book,
    rng: Rng,
    users: Vec<String>,
}

impl Buyer {
    async fn shop(&mut self) -> Option<()> {
        if self.users.is_empty() || self.rng.u8(..) < 20 {
            return self.register().await;
        }
        if self.rng.u8(..) < 30 {
            return self.receive().await;
        }
        let (order, end) = self.place().await?;
        let fate = self.rng.u8(..);
        match end {
            // Before anything has happened to it, and beside all that.
            End::Confirmed if fate < 60 => self.act(What::Cancel { order }, "cancel").await,
            End::Confirmed if fate < 150 => {
                if self.becomes(&order, "confirmed").await? {
                    self.act(What::Ship { order }, "ship").await?;
                }
                Some(())
            }
            End::Confirmed if fate < 220 => self.becomes(&order, "confirmed").await.map(drop),
            End::Waits if fate < 128 => self.act(What::Pay { order }, "pay").await,
            _ => Some(()),
        }
    }

    async fn register(&mut self) -> Option<()> {
        let body = json!({ "name": "Kim", "email": "kim@example.org" });
        let user = self.give("/users", body, What::Register).await?;
        self.users
            .push(user["user_id"].as_str().unwrap().to_owned());
        Some(())
    }

    async fn receive(&mut self) -> Option<()> {
        let sku = self.rng.choice(SKUS).unwrap();
        let qty = 1_000 + self.rng.u64(..1_000);
        let what = What::Receive {
            sku: sku.into(),
            qty,
        };
        let path = format!("/stock/{sku}/receive");
        self.give(&path, json!({ "qty": qty }), what)
            .await
            .map(drop)
    }

    async fn place(&mut self) -> Option<(String, End)> {
        let first = self.rng.usize(..SKUS.len());
        let mut items = vec![(SKUS[first].to_owned(), self.rng.u64(1..4))];
        if self.rng.bool() {
            items.push((
                SKUS[(first + 1) % SKUS.len()].to_owned(),
                self.rng.u64(1..4),
            ));
        }
        let (end, card, payment) = match self.rng.u8(..) {
            0..20 => (End::Cancelled, "card:declined", "auto"),
            20 => (End::Confirmed, "card:flaky", "auto"),
            21..50 => (End::Waits, "card:ok", "manual"),
            _ => (End::Confirmed, "card:ok", "auto"),
        };
        let line = |(sku, qty): &(String, u64)| json!({ "sku": sku, "qty": qty, "price": 500 });
        let body = json!({
            "user_id": self.rng.choice(&self.users).unwrap(),
            "items": items.iter().map(line).collect::<Vec<_>>(),
            "card": card,
            "payment": payment,
        });
        let placed = self
            .give("/orders", body, What::Place { items, end })
            .await?;
        Some((placed["order_id"].as_str().unwrap().to_owned(), end))
    }

    async fn act(&mut self, what: What, verb: &str) -> Option<()> {
        let (What::Pay { order } | What::Ship { order } | What::Cancel { order }) = &what else {
            unreachable!("only orders are acted upon");
        };
        let path = format!("/orders/{order}/{verb}");
        let body = match verb {
            "ship" => json!({ "tracking": "T-1" }),
            _ => json!({}),
        };
        self.give(&path, body, what).await.map(drop)
    }

    /// Gives a command, and enters it before it is sent and after it was answered.
    async fn give(&mut self, path: &str, body: Value, what: What) -> Option<Value> {
        let key = format!("{:032x}", self.rng.u128(..));
        let command = Command {
            key,
            path: path.into(),
            body,
            what,
            answer: Answer::Unknown,
        };
        let number = {
            let mut book = self.book.lock().unwrap();
            book.0.push(command.clone());
            book.0.len() - 1
        };
        let answer = send(&self.client, &command).await.ok()?;
        self.book.lock().unwrap().0[number].answer = answer.clone();
        match answer {
            Answer::Acknowledged(text) => serde_json::from_str(&text).ok(),
            // The check will say so.
            Answer::Refused(..) | Answer::Unknown => None,
        }
    }

    /// Waits a while until an order has come so far.
    async fn becomes(&self, order: &str, status: &str) -> Option<bool> {
        let path = format!("/orders/{order}");
        let waited = tokio::time::timeout(WAIT_MAX, async {
            loop {
                let reply = self.client.ask(Method::GET, &path, None, None).await.ok()?;
                if reply.status == 200 && reply.json()["status"] == status {
                    return Some(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        waited
            .await
            .map_or(Some(false), |found| found.map(|()| true))
    }
}

/// Sends a command, for the first time or again.
pub(crate) async fn send(client: &Client, command: &Command) -> Result<Answer, reqwest::Error> {
    resend(client, command).await.map(|(answer, _)| answer)
}

/// Sends a command, and says whether it is answered from memory.
pub(crate) async fn resend(
    client: &Client,
    command: &Command,
) -> Result<(Answer, bool), reqwest::Error> {
    let Command {
        key, path, body, ..
    } = command;
    let reply = client
        .ask(Method::POST, path, Some(body), Some(key))
        .await?;
    let repeated = reply.headers.contains_key("idempotency-replayed");
    let Reply { status, text, .. } = reply;
    let answer = match status {
        200..300 => Answer::Acknowledged(text),
        // Not now: it may be asked again.
        500.. => Answer::Unknown,
        _ => Answer::Refused(status, text),
    };
    Ok((answer, repeated))
}
