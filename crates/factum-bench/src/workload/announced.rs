//! The workload that goes to a topic: orders that are announced, and what whoever hears of them does.

use factum::{Aggregate, Decision, Event, Failure, Reaction, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Never;

/// The topic, as services call it.
pub(crate) const TOPIC: &str = "orders";

/// An order, as others hear of it: about 200 bytes.
#[derive(Event, Clone, Debug, PartialEq)]
#[event(name = "OrderAnnounced", version = 1, topic = "orders")]
pub(crate) struct Announced {
    customer: String,
    currency: String,
    total: u64,
    address: String,
    note: String,
}

/// What is announced of one order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Announcing {
    times: u64,
}

impl Aggregate for Announcing {
    const CATEGORY: &'static str = "announcing";
    type Id = String;
    type Command = u64;
    type Event = Announced;
    type Error = Never;

    fn handle(&self, number: u64, _: &Decision) -> Result<Vec<Announced>, Never> {
        Ok(vec![Announced {
            customer: format!("customer-{:06}", number % 100_000),
            currency: "KRW".into(),
            total: 12_500 + number % 1_000,
            address: "17 Gwanghwamun-ro, Jongno-gu, Seoul, third floor, ring twice".into(),
            note: "please leave it at the door if nobody answers".into(),
        }])
    }

    fn apply(&mut self, _: &Announced) {
        self.times += 1;
    }
}

/// What whoever heard of an order notes in a log of its own.
#[derive(Event, Clone, Debug, PartialEq)]
#[event(name = "OrderNoted", version = 1)]
pub(crate) struct Noted {
    customer: String,
    total: u64,
}

/// What was noted of one order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Noting {
    total: u64,
}

impl Aggregate for Noting {
    const CATEGORY: &'static str = "noting";
    type Id = String;
    type Command = Noted;
    type Event = Noted;
    type Error = Never;

    fn handle(&self, noted: Noted, _: &Decision) -> Result<Vec<Noted>, Never> {
        Ok(vec![noted])
    }

    fn apply(&mut self, noted: &Noted) {
        self.total += noted.total;
    }
}

fn noted(event: &Recorded<Announced>) -> Noted {
    Noted {
        customer: event.data.customer.clone(),
        total: event.data.total,
    }
}

/// Appends one event to the own log, without asking an aggregate.
pub(crate) fn import(event: &Recorded<Announced>, cx: &mut Reaction) -> Result<(), Failure> {
    cx.import(
        "noted",
        event.aggregate_id()?,
        &noted(event),
        event.timestamp,
    )
}

/// Lets an aggregate decide on one event.
pub(crate) fn command(event: &Recorded<Announced>, cx: &mut Reaction) -> Result<(), Failure> {
    cx.execute::<Noting>(event.aggregate_id()?, noted(event))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_about_200_bytes() {
        let decision = Decision::new(
            &factum::system_env(),
            factum::Version::ZERO,
            std::sync::Arc::default(),
        );
        let announced = Announcing::default().handle(7, &decision).unwrap();
        let bytes = announced[0].encode().unwrap().len();
        assert!((160..=240).contains(&bytes), "{bytes}");
    }
}
