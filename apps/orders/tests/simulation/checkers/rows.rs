//! Views are a fold of their log, made again here; and what was read with a token showed what it stands for.

use std::collections::BTreeMap;

use factum::{Record, RecordKind};
use factum_sim::checks::Broken;
use orders::platform::Role;
use serde_json::{Value, json};

use super::{Evidence, Place, raw::Raw};
use crate::{deeds, world::Reading};

/// Rows as they should be.
#[derive(Default)]
struct Table(BTreeMap<Place, Value>);

/// What is wrong with the rows of views.
pub(super) fn check(evidence: &Evidence) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut expected = Table::default();
    for role in Role::ALL {
        let mut waiting: Vec<(&Reading, Option<u64>)> = Vec::new();
        for reading in evidence
            .readings
            .iter()
            .filter(|reading| reading.role == role)
        {
            waiting.push((reading, stands_for(evidence, reading)));
        }
        let read = |(reading, stands_for): &(&Reading, Option<u64>), what: String| {
            let Reading { deed, view, id, .. } = reading;
            let stands_for = stands_for.map_or("nothing".into(), |at| at.to_string());
            let what = format!(
                "deed {deed}: row `{id}` of `{view}` was read with a token for {stands_for}: {what}"
            );
            Broken::new("read your writes", what)
        };
        waiting.retain(|awaited| {
            let reached = awaited.1.is_some_and(|position| awaited.0.at >= position);
            if !reached {
                broken.push(read(
                    awaited,
                    format!("the view said that it showed up to {}", awaited.0.at),
                ));
            }
            reached
        });
        let mut reached = 0;
        for record in &evidence.book(role).records {
            reached = record.at.position.0;
            expected.take(role, record);
            waiting.retain(|(reading, position)| {
                let shown = expected.row(role, reading.view, &reading.id);
                !(position.is_some_and(|position| position <= reached)
                    && reading.row.as_ref() == shown)
            });
        }
        for awaited in waiting {
            let row = awaited
                .0
                .row
                .as_ref()
                .map_or("no row".into(), Value::to_string);
            broken.push(read(
                &awaited,
                format!("it was {row}, which is older, or never was (head {reached})"),
            ));
        }
    }
    for (place, row) in &expected.0 {
        if evidence.rows.get(place) != Some(row) {
            let found = evidence
                .rows
                .get(place)
                .map_or("missing".into(), Value::to_string);
            let (role, view, id) = place;
            let what = format!("row `{id}` of `{view}` in {role} is {found}, and should be {row}");
            broken.push(Broken::new("views", what));
        }
    }
    for place in evidence.rows.keys() {
        if !expected.0.contains_key(place) {
            let (role, view, id) = place;
            broken.push(Broken::new(
                "views",
                format!("row `{id}` of `{view}` in {role} should not be"),
            ));
        }
    }
    broken
}

/// The position in the log of the view's service at which what the token stands for was recorded. The token of
/// another service's command stands for what was imported of it.
fn stands_for(evidence: &Evidence, reading: &Reading) -> Option<u64> {
    if reading.token.is_some() {
        return reading.token;
    }
    let (whole, part) = (deeds::name(reading.deed), deeds::part(reading.deed, 0));
    let imported = |record: &&Record| {
        let story = record.draft.correlation_id.to_string();
        record.draft.kind == RecordKind::Import && (story == whole || story == part)
    };
    let record = evidence.book(reading.role).records.iter().find(imported);
    record.map(|record| record.at.position.0)
}

impl Table {
    fn row(&self, role: Role, view: &str, id: &str) -> Option<&Value> {
        self.0.get(&(role, view.to_string(), id.to_string()))
    }

    fn put(&mut self, role: Role, view: &str, id: &str, row: Value) {
        self.0.insert((role, view.to_string(), id.to_string()), row);
    }

    /// Changes fields of a row, if it is there.
    fn change(&mut self, role: Role, view: &str, id: &str, fields: &[(&str, Value)]) {
        if let Some(row) = self.0.get_mut(&(role, view.to_string(), id.to_string())) {
            for (name, value) in fields {
                row[*name] = value.clone();
            }
        }
    }

    /// Takes a record of a service's log.
    fn take(&mut self, role: Role, record: &Record) {
        let Some(raw) = Raw::of(record) else { return };
        match role {
            Role::Users => {
                let row = json!({
                    "user_id": raw.field("user_id"), "name": raw.field("name"), "email": raw.field("email"),
                });
                self.put(role, "users", raw.id, row);
            }
            Role::Order => self.order(&raw),
            Role::Payment => self.payment(&raw),
            Role::Stock => self.shelf(&raw),
            Role::Notification => {
                let at = record.draft.timestamp;
                let row = json!({
                    "user_id": raw.field("user_id"), "order_id": raw.field("order_id"), "text": raw.field("text"),
                    "sent_at": at.to_string(), "sent_at_micros": at.as_micros(),
                });
                self.put(role, "notifications", raw.text("key"), row);
            }
            // It runs where the services are processes of their own.
            Role::Query => {}
        }
    }

    fn order(&mut self, raw: &Raw<'_>) {
        let role = Role::Order;
        let at = raw.record.draft.timestamp;
        match (raw.category, raw.name) {
            ("shelf", _) => {
                let row = json!({ "sku": raw.field("sku"), "available": raw.field("available") });
                self.put(role, "levels", raw.text("sku"), row);
            }
            ("user", _) => {
                let (name, email) = (raw.field("name"), raw.field("email"));
                self.put(
                    role,
                    "order-users",
                    raw.id,
                    json!({ "name": name, "email": email }),
                );
            }
            (_, "OrderCreated") => {
                let items = raw.field("items");
                let text =
                    |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
                let names = items.as_array().into_iter().flatten();
                let names =
                    names.map(|item| format!("{} {}", text(item, "name"), text(item, "sku")));
                let names = names.collect::<Vec<_>>().join(", ");
                let row = json!({
                    "order_id": raw.id, "user_id": raw.field("user_id"), "status": "created", "items": items,
                    "item_names": names,
                    "total_amount": raw.field("total_amount"), "currency": raw.field("currency"),
                    "payment": raw.field("payment"), "payment_method": null, "tracking": null,
                    "cancel_reason": null, "created_at": at.to_string(), "updated_at": at.to_string(),
                    "created_at_micros": at.as_micros(),
                });
                self.put(role, "orders", raw.id, row);
            }
            (_, name) => {
                let mut fields = vec![("updated_at", json!(at.to_string()))];
                match name {
                    "OrderPaid" => {
                        fields.push(("status", json!("paid")));
                        fields.push(("payment_method", raw.field("payment_method")));
                    }
                    "OrderConfirmed" => fields.push(("status", json!("confirmed"))),
                    "OrderShipped" => {
                        fields.push(("status", json!("shipped")));
                        fields.push(("tracking", raw.field("tracking")));
                    }
                    "OrderCancelled" => {
                        fields.push(("status", json!("cancelled")));
                        fields.push(("cancel_reason", raw.field("reason")));
                    }
                    _ => {}
                }
                self.change(role, "orders", raw.id, &fields);
            }
        }
    }

    fn payment(&mut self, raw: &Raw<'_>) {
        let role = Role::Payment;
        let status = match raw.name {
            "PaymentCompleted" => "completed",
            "PaymentFailed" => "failed",
            "PaymentVoided" => "voided",
            "RefundRequested" => "refunding",
            _ => "refunded",
        };
        if self.row(role, "payments", raw.id).is_none() {
            let row = json!({
                "order_id": raw.id, "status": "", "amount": 0, "currency": "KRW", "reason": null,
            });
            self.put(role, "payments", raw.id, row);
        }
        let mut fields = vec![("status", json!(status))];
        if matches!(raw.name, "PaymentCompleted" | "RefundRequested") {
            fields.push(("amount", raw.field("amount")));
            fields.push(("currency", raw.field("currency")));
        }
        if !raw.field("reason").is_null() {
            fields.push(("reason", raw.field("reason")));
        }
        self.change(role, "payments", raw.id, &fields);
    }

    fn shelf(&mut self, raw: &Raw<'_>) {
        if raw.category != "shelf" {
            return;
        }
        let role = Role::Stock;
        let before = self.row(role, "shelves", raw.id);
        let number = |name: &str| before.and_then(|row| row[name].as_u64()).unwrap_or(0);
        let (mut on_hand, mut reserved, qty) =
            (number("on_hand"), number("reserved"), raw.number("qty"));
        match raw.name {
            "ItemReceived" => on_hand += qty,
            "ItemReserved" => reserved += qty,
            "ItemReleased" => reserved = reserved.saturating_sub(qty),
            _ => {
                on_hand = on_hand.saturating_sub(qty);
                reserved = reserved.saturating_sub(qty);
            }
        }
        let row = json!({
            "sku": raw.id, "on_hand": on_hand, "reserved": reserved, "available": on_hand.saturating_sub(reserved),
        });
        self.put(role, "shelves", raw.id, row);
    }
}
