//! The scenes of the tour, one function each.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::tour::{SOON, Tour, cut, short};
use crate::failure::Failure;

/// How often the poison of a scene is looked for at most, before something is plainly wrong.
const MENDINGS_MAX: usize = 50;

/// An order that goes well, from placing to shipping.
pub(super) async fn happy_path(tour: &mut Tour) -> Result<(), Failure> {
    tour.scene("An order goes well: order -> payment -> stock -> notification");
    let order = tour.order(&tour.kim.clone(), "tea", 2, "card:ok").await?;
    let path = format!("/orders/{}", order.id);
    let fresh = tour.client.get_fresh(&path, order.token.as_deref()).await?;
    tour.expect(&fresh, 200)?;
    tour.say(&format!(
        "GET {path} with the command's token, at once: it is {}",
        fresh.text("/status")
    ));
    tour.until_status(&order, "confirmed").await?;
    let shipped = tour
        .post(&format!("{path}/ship"), &json!({ "tracking": "1Z-42" }))
        .await?;
    tour.expect(&shipped, 202)?;
    let seen = tour
        .client
        .get_fresh(&path, shipped.token.as_deref())
        .await?;
    tour.expect(&seen, 200)?;
    let line = format!(
        "order {} of {} <{}> is {}",
        short(&order.id),
        seen.text("/user/name"),
        seen.text("/user/email"),
        seen.text("/status")
    );
    tour.say(&line);
    tour.story(
        &order,
        &[
            "OrderCreated",
            "PaymentCompleted",
            "StockReserved",
            "OrderConfirmed",
            "OrderShipped",
            "StockTaken",
            "NotificationSent",
        ],
    )
    .await?;
    let before = tour
        .client
        .get(&format!("{path}/history?version=2"))
        .await?;
    tour.expect(&before, 200)?;
    tour.say(&format!(
        "GET {path}/history?version=2: then it was {}",
        before.text("/state/status")
    ));
    Ok(())
}

/// A card that is declined.
pub(super) async fn declined_card(tour: &mut Tour) -> Result<(), Failure> {
    tour.scene("A card is declined: the order is cancelled");
    let order = tour
        .order(&tour.kim.clone(), "tea", 1, "card:declined")
        .await?;
    tour.until_status(&order, "cancelled").await?;
    tour.story(&order, &["PaymentFailed", "OrderCancelled"])
        .await
}

/// More is ordered than there is.
pub(super) async fn out_of_stock(tour: &mut Tour) -> Result<(), Failure> {
    tour.scene("Out of stock: refused at once when that is plain, else refunded and cancelled");
    let sku = tour.sku("rare");
    // The order service knows the shelf from the stock service's events: in a moment, if not now.
    let imported = format!("/admin/streams/order/shelf/{sku}");
    let what = "the order service has heard of the shelf";
    tour.client.until(what, &imported, SOON, |_| true).await?;
    let what = "the order service knows what is left";
    tour.client
        .until(what, "/admin/projections?service=order", SOON, |reply| {
            reply.body["projections"]
                .as_array()
                .is_some_and(|all| all.iter().all(|one| one["lag"] == 0))
        })
        .await?;
    let body = tour.order_body(&tour.lee.clone(), "rare", 10, "card:ok");
    let refused = tour.post("/orders", &body).await?;
    tour.expect(&refused, 409)?;
    tour.say("Now what is missing is hidden from that advice, so that the order gets through:");
    tour.post("/faults", &json!({ "advice_hidden": true }))
        .await?;
    let placed = tour.order(&tour.lee.clone(), "rare", 10, "card:ok").await;
    tour.post("/faults", &json!({ "advice_hidden": false }))
        .await?;
    let order = placed?;
    tour.until_status(&order, "cancelled").await?;
    tour.story(
        &order,
        &[
            "PaymentCompleted",
            "StockRejected",
            "OrderCancelled",
            "PaymentRefunded",
        ],
    )
    .await
}

/// A gateway that fails at first.
pub(super) async fn flaky_gateway(tour: &mut Tour) -> Result<(), Failure> {
    tour.scene("A flaky gateway: the payment is tried again, with backoff, and charged once");
    let order = tour
        .order(&tour.kim.clone(), "cup", 1, "card:flaky")
        .await?;
    // The platform may have parked messages of others.
    let own = |reply: &crate::client::Reply| {
        let all = reply.body["parked"].as_array().into_iter().flatten();
        let own = all.filter(|one| one["correlation_id"] == order.correlation);
        own.cloned().collect::<Vec<_>>()
    };
    let retrying = |reply: &crate::client::Reply| !own(reply).is_empty();
    let seen = tour
        .client
        .until(
            "the payment is parked to be tried again",
            "/admin/parked?service=payment&state=retrying&limit=500",
            SOON,
            retrying,
        )
        .await?;
    for parked in own(&seen) {
        let failure = parked["failure"]["message"].as_str().unwrap_or_default();
        tour.say(&format!(
            "parked in {} at try {}, to be tried again: {}",
            text(&parked["group"]),
            parked["tries"],
            cut(failure, 100)
        ));
    }
    tour.until_status(&order, "confirmed").await?;
    Ok(())
}

/// A service that is stopped for a while.
pub(super) async fn payment_stopped(tour: &mut Tour) -> Result<(), Failure> {
    tour.scene("Payment is stopped for a while: orders are accepted, wait, and finish");
    let stopped = tour
        .post(
            "/admin/services/payment/stop",
            &json!({ "reason": "the tour" }),
        )
        .await?;
    tour.expect(&stopped, 200)?;
    let placed = orders_that_wait(tour).await;
    let started = tour
        .post(
            "/admin/services/payment/start",
            &json!({ "reason": "the tour" }),
        )
        .await?;
    tour.expect(&started, 200)?;
    for order in placed? {
        tour.until_status(&order, "confirmed").await?;
    }
    Ok(())
}

async fn orders_that_wait(tour: &Tour) -> Result<Vec<super::tour::Placed>, Failure> {
    let mut placed = Vec::new();
    for _ in 0..3 {
        placed.push(tour.order(&tour.lee, "tea", 1, "card:ok").await?);
    }
    let lag = |reply: &crate::client::Reply| {
        let groups = reply.body["groups"].as_array().into_iter().flatten();
        groups
            .filter(|group| group["group"] == "payment-service")
            .filter_map(|group| group["lag"].as_u64())
            .max()
    };
    let behind = tour
        .client
        .until(
            "three orders wait for payment",
            "/admin/consumers?service=payment",
            SOON,
            |reply| lag(reply) >= Some(3),
        )
        .await?;
    tour.say(&format!(
        "GET /admin/consumers: payment-service is {} messages behind",
        lag(&behind).unwrap_or_default()
    ));
    for order in &placed {
        tour.until_status(order, "created").await?;
    }
    Ok(placed)
}

/// Messages that nobody can handle as they are.
pub(super) async fn poison(tour: &mut Tour) -> Result<(), Failure> {
    tour.scene("Poison: a foreign order that names no order becomes a dead letter, and its key waits behind it");
    let user = tour.lee.clone();
    let data = json!({
        "user_id": user, "total_amount": 900, "currency": "KRW",
        "items": [{ "sku": tour.sku("cup"), "name": "cup", "qty": 1, "price": 900 }],
    });
    let event = json!({
        "event_type": "OrderCreated", "event_id": format!("shop-{}", tour.sku("1")),
        "timestamp": "2026-03-02T10:00:00", "version": 2, "data": data,
    });
    let sent = tour
        .post(
            "/admin/topics/orders/messages",
            &json!({ "key": user, "value": event }),
        )
        .await?;
    tour.expect(&sent, 201)?;
    until_dead(tour, &user).await?;
    let order = tour.order(&user, "tea", 1, "card:ok").await?;
    let waits = |reply: &crate::client::Reply| {
        reply.body["parked"].as_array().is_some_and(|all| {
            all.iter()
                .any(|one| one["correlation_id"] == order.correlation)
        })
    };
    tour.client
        .until(
            "the next order of this user waits",
            "/admin/parked?state=waiting",
            SOON,
            waits,
        )
        .await?;
    tour.say(&format!(
        "order {} of the same user waits behind it; other users' orders flow on",
        short(&order.id)
    ));
    let other = tour.order(&tour.kim.clone(), "tea", 1, "card:ok").await?;
    tour.until_status(&other, "confirmed").await?;

    tour.say(
        "The operator writes the missing order into it, says why, and lets it be tried again:",
    );
    let mut mended = event;
    mended["data"]["order_id"] = json!(format!("shop-order-{}", tour.sku("1")));
    let edit = json!({ "value": mended, "reason": "the shop forgot the order's id" });
    mend(tour, &user, Mending::Edit(edit)).await?;
    tour.until_status(&order, "confirmed").await?;

    tour.scene("Poison that is good for nothing is given up, with a reason");
    let key = tour.sku("nobody");
    let sent = tour
        .post(
            "/admin/topics/orders/messages",
            &json!({ "key": key, "value_base64": "/9j/4AAQ" }),
        )
        .await?;
    tour.expect(&sent, 201)?;
    until_dead(tour, &key).await?;
    mend(tour, &key, Mending::GiveUp("somebody's photograph")).await?;
    let audit = tour.client.get("/admin/audit?limit=1").await?;
    let entry = &audit.body["entries"][0];
    let line = format!(
        "GET /admin/audit: `{}` did {}, for {}",
        text(&entry["actor"]),
        text(&entry["action"]),
        text(&entry["reason"])
    );
    tour.say(&line);
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The dead letters of a key.
fn dead(list: &Value, key: &str) -> Vec<Value> {
    let all = list["parked"].as_array().into_iter().flatten();
    all.filter(|one| one["key"] == key && one["state"] == "dead")
        .cloned()
        .collect()
}

async fn until_dead(tour: &Tour, key: &str) -> Result<(), Failure> {
    let path = "/admin/parked?state=dead";
    let found = tour
        .client
        .until("there is a dead letter", path, SOON, |reply| {
            !dead(&reply.body, key).is_empty()
        })
        .await?;
    for letter in dead(&found.body, key) {
        let failure = letter["failure"]["message"].as_str().unwrap_or_default();
        tour.say(&format!(
            "dead in {}: {}",
            text(&letter["group"]),
            cut(failure, 110)
        ));
    }
    Ok(())
}

/// What an operator does about a dead letter.
enum Mending {
    /// Puts another value in its place, and lets it be tried again.
    Edit(Value),
    /// Gives it up, for this reason.
    GiveUp(&'static str),
}

impl Mending {
    async fn act(&self, tour: &Tour, id: &str) -> Result<(), Failure> {
        let path = format!("/admin/parked/{id}");
        let last = match self {
            Self::Edit(edit) => {
                let edited = tour.post(&format!("{path}/edit"), edit).await?;
                tour.expect(&edited, 200)?;
                tour.post(&format!("{path}/redrive"), &json!({})).await?
            }
            Self::GiveUp(reason) => {
                tour.post(&format!("{path}/discard"), &json!({ "reason": reason }))
                    .await?
            }
        };
        tour.expect(&last, 200)
    }
}

/// Mends every dead letter of a key in every group, until all of its messages are through.
async fn mend(tour: &Tour, key: &str, mending: Mending) -> Result<(), Failure> {
    let mut mended = BTreeSet::new();
    for _ in 0..MENDINGS_MAX {
        let stuck = |reply: &Value| {
            let all = reply["parked"].as_array().into_iter().flatten();
            all.filter(|one| one["key"] == key && one["state"] != "discarded")
                .count()
        };
        let what = "what is stuck is dead or through";
        let path = "/admin/parked?limit=500";
        let fresh = |list: &Value| {
            dead(list, key)
                .into_iter()
                .find(|one| !mended.contains(text(&one["id"])))
        };
        let found = tour
            .client
            .until(what, path, SOON, |reply| {
                stuck(&reply.body) == 0 || fresh(&reply.body).is_some()
            })
            .await?;
        let Some(letter) = fresh(&found.body) else {
            return Ok(());
        };
        let id = text(&letter["id"]).to_owned();
        mending.act(tour, &id).await?;
        mended.insert(id);
    }
    Err(Failure::new(format!(
        "key `{key}` is still stuck after {MENDINGS_MAX} mendings"
    )))
}
