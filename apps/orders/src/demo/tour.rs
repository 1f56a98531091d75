//! The tour's means: who orders what, what is shown of it, and what is waited for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    client::{Client, Reply},
    failure::Failure,
    screen::Screen,
};

/// How long anything may take that happens in its own time: retries with backoff included.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// A tour.
pub(super) struct Tour {
    pub(super) client: Client,
    /// What tells this tour's things from those of another on the same platform.
    run: String,
    scenes: u32,
    pub(super) kim: String,
    pub(super) lee: String,
}

/// An order that was placed.
pub(super) struct Placed {
    pub(super) id: String,
    pub(super) correlation: String,
    pub(super) token: Option<String>,
}

impl Tour {
    /// Registers users, fills shelves, and says so.
    pub(super) async fn begin(client: Client) -> Result<Self, Failure> {
        let run = factum::system_env().uuid().simple().to_string();
        let run = run[run.len() - 6..].to_owned();
        let mut tour = Self {
            client,
            run,
            scenes: 0,
            kim: String::new(),
            lee: String::new(),
        };
        tour.scene("Two users register, and the shelves are filled");
        tour.kim = tour.register("Kim", "kim@example.org").await?;
        tour.lee = tour.register("Lee", "lee@example.org").await?;
        for (thing, qty) in [("tea", 100), ("cup", 100), ("rare", 3)] {
            let sku = tour.sku(thing);
            let reply = tour
                .post(&format!("/stock/{sku}/receive"), &json!({ "qty": qty }))
                .await?;
            tour.expect(&reply, 202)?;
        }
        Ok(tour)
    }

    async fn register(&self, name: &str, email: &str) -> Result<String, Failure> {
        let reply = self
            .post("/users", &json!({ "name": name, "email": email }))
            .await?;
        self.expect(&reply, 201)?;
        Ok(reply.text("/user_id").to_owned())
    }

    /// What a thing is called in this tour.
    pub(super) fn sku(&self, thing: &str) -> String {
        format!("{thing}-{}", self.run)
    }

    /// Begins a scene.
    pub(super) fn scene(&mut self, title: &str) {
        self.scenes += 1;
        Screen::say("");
        Screen::say(&format!("{}. {title}", self.scenes));
    }

    /// Says something about what is seen.
    #[expect(clippy::unused_self, reason = "reads as the other means do")]
    pub(super) fn say(&self, what: &str) {
        Screen::say(&format!("   {what}"));
    }

    /// Sends a command, and shows it with its answer.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Reply, Failure> {
        let reply = self.client.post(path, body).await?;
        let shown = if *body == json!({}) {
            String::new()
        } else {
            format!(" {}", cut(&briefly(body), 110))
        };
        let answer = if reply.status < 300 {
            String::new()
        } else {
            format!(" {}", reply.problem())
        };
        self.say(&format!(
            "POST {path}{shown} -> {}{}",
            reply.status,
            cut(&answer, 160)
        ));
        Ok(reply)
    }

    /// Insists on a status.
    #[expect(clippy::unused_self, reason = "reads as the other means do")]
    pub(super) fn expect(&self, reply: &Reply, status: u16) -> Result<(), Failure> {
        if reply.status == status {
            return Ok(());
        }
        Err(Failure::new(format!(
            "expected status {status}, got {}: {}",
            reply.status, reply.body
        )))
    }

    /// Places an order, and insists that it is taken.
    pub(super) async fn order(
        &self,
        user: &str,
        thing: &str,
        qty: u32,
        card: &str,
    ) -> Result<Placed, Failure> {
        let reply = self
            .post("/orders", &self.order_body(user, thing, qty, card))
            .await?;
        self.expect(&reply, 201)?;
        Ok(Placed {
            id: reply.text("/order_id").to_owned(),
            correlation: reply.text("/correlation_id").to_owned(),
            token: reply.token,
        })
    }

    pub(super) fn order_body(&self, user: &str, thing: &str, qty: u32, card: &str) -> Value {
        json!({ "user_id": user, "items": [{ "sku": self.sku(thing), "qty": qty, "price": 500 }], "card": card })
    }

    /// Waits until an order stands there, and says so.
    pub(super) async fn until_status(
        &self,
        order: &Placed,
        status: &str,
    ) -> Result<Reply, Failure> {
        let path = format!("/orders/{}", order.id);
        let what = format!("order {} is {status}", order.id);
        let reply = self
            .client
            .until(&what, &path, SOON, |reply| reply.text("/status") == status)
            .await?;
        let why = match reply.text("/cancel_reason") {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        self.say(&format!("order {} is {status}{why}", short(&order.id)));
        Ok(reply)
    }

    /// Tells the story of an order, once all of `types` are in it.
    pub(super) async fn story(&self, order: &Placed, types: &[&str]) -> Result<(), Failure> {
        let path = format!("/admin/stories/{}", order.correlation);
        let what = format!("the story of order {} has {}", order.id, types.join(", "));
        let has = |reply: &Reply, wanted: &str| {
            let events = reply.body["events"].as_array().into_iter().flatten();
            events.clone().any(|event| event["type"] == wanted)
        };
        let told = self
            .client
            .until(&what, &path, SOON, |reply| {
                types.iter().all(|wanted| has(reply, wanted))
            })
            .await?;
        self.say(&format!("GET {path}"));
        for event in told.body["events"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| event["kind"] != "import")
        {
            let indent = 2 * usize::try_from(event["depth"].as_u64().unwrap_or_default())
                .unwrap_or_default();
            let name = event["type"].as_str().unwrap_or_default();
            let service = event["service"].as_str().unwrap_or_default();
            self.say(&format!("  {service:<12} {:indent$}{name}", ""));
        }
        Ok(())
    }

    /// Waits until all is quiet, and insists that no invariant is broken.
    pub(super) async fn check_invariants(&mut self) -> Result<(), Failure> {
        self.scene("What no run may break");
        let reply = self
            .client
            .until("all is quiet", "/invariants", SOON, |reply| {
                reply.body["quiet"] == true
            })
            .await?;
        let broken: Vec<_> = reply.body["broken"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !broken.is_empty() {
            return Err(Failure::new(format!(
                "{} invariants are broken: {}",
                broken.len(),
                broken.join("; ")
            )));
        }
        self.say(&format!(
            "All is quiet, and {} orders were looked at:",
            reply.body["orders"]
        ));
        for invariant in [
            "money charged is money of confirmed orders and money given back",
            "stock was never negative, and reserved once for each order",
            "every order has come to exactly one end",
            "every notification counts once",
        ] {
            self.say(&format!("  holds: {invariant}"));
        }
        Ok(())
    }
}

/// A body as it is shown: with ids cut short.
fn briefly(body: &Value) -> String {
    let mut body = body.clone();
    for id in body
        .as_object_mut()
        .into_iter()
        .flat_map(|body| body.values_mut())
    {
        if let Some(text) = id.as_str().filter(|text| text.len() == 36) {
            *id = json!(format!("…{}", short(text)));
        }
    }
    body.to_string()
}

/// An id as far as it is shown.
pub(super) fn short(id: &str) -> &str {
    id.rsplit('-').next().unwrap_or(id)
}

/// The beginning of a text.
pub(super) fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
