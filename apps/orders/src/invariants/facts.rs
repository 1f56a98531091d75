//! Facts: what happened, as the services and the firms outside have it in their books.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use factum::{
    At, Broker, Catalog, Error, Event, LogFilter, Message, Read, RecordKind, Store, Topic,
    TopicPartition, wire,
};
use serde::{Deserialize, Serialize};

use crate::{
    contracts::{
        Currency, OrderCreated, OrderEvent, OrderId, PaymentEvent, PaymentMode, ShelfEvent, Sku,
        StockEvent, quantities,
    },
    notification::NotificationSent,
    outside::{Books, Charged},
};

/// How many records are read at a time.
const PAGE_RECORDS: usize = 1_000;
/// How many messages are read at a time: with the largest of them 50 MiB.
const PAGE_MESSAGES: usize = 50;

/// What happened. Plain data: it can be read over HTTP as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Orders that our order service took.
    pub orders: BTreeMap<OrderId, OrderFacts>,
    /// Payments, of foreign orders too.
    pub payments: BTreeMap<OrderId, PaymentFacts>,
    /// Reservations, of foreign orders too.
    pub reservations: BTreeMap<OrderId, ReservationFacts>,
    /// What each reservation put aside.
    pub wanted: BTreeMap<OrderId, BTreeMap<Sku, u64>>,
    /// Shelves.
    pub shelves: BTreeMap<Sku, ShelfFacts>,
    /// What the gateway took, for each order.
    pub charged: BTreeMap<OrderId, Vec<Money>>,
    /// What the gateway gave back, for each order.
    pub refunded: BTreeMap<OrderId, Vec<Money>>,
    /// How often the notifier told something, by key.
    pub told: BTreeMap<String, u32>,
    /// How often the notification service recorded that something was told, by key.
    pub recorded: BTreeMap<String, u32>,
    /// The same by order.
    pub recorded_for: BTreeMap<OrderId, u32>,
    /// Where orders that are to be paid at once were placed on the topic, `<topic>:<partition>:<offset>`, by whomever.
    pub placed: BTreeMap<OrderId, Vec<String>>,
    /// What was given up by people or left out by handlers, `<group>:<topic>:<partition>:<offset>`.
    pub given_up: BTreeSet<String>,
}

/// An amount in a currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Money {
    /// In minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

/// What happened to an order, how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderFacts {
    /// What it costs.
    pub money: Money,
    /// Whether it is to be paid when the user asks for it, who has not asked.
    pub waits_for_user: bool,
    /// How often it was created.
    pub created: u32,
    /// How often it was paid.
    pub paid: u32,
    /// How often it was confirmed.
    pub confirmed: u32,
    /// How often it was shipped.
    pub shipped: u32,
    /// How often it was cancelled.
    pub cancelled: u32,
}

/// What happened to a payment, how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentFacts {
    /// How much it is.
    pub money: Money,
    /// How often it was completed.
    pub completed: u32,
    /// How often it failed.
    pub failed: u32,
    /// How often it was promised back.
    pub refund_requested: u32,
    /// How often it was given back.
    pub refunded: u32,
}

/// What happened to a reservation, how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationFacts {
    /// How often it was made.
    pub reserved: u32,
    /// How often it was refused.
    pub rejected: u32,
    /// How often it was given back.
    pub released: u32,
    /// How often its goods left the house.
    pub taken: u32,
}

/// What happened on a shelf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShelfFacts {
    /// How many can be reserved, counted from what came and went.
    pub available: i128,
    /// The lowest that this ever was.
    pub lowest: i128,
    /// Whether the shelf itself always said so.
    pub adds_up: bool,
    /// What is put aside, for which orders.
    pub held: BTreeMap<OrderId, u64>,
    /// Orders for which something was put aside again while it was.
    pub twice: Vec<OrderId>,
}

impl Default for ShelfFacts {
    fn default() -> Self {
        Self {
            available: 0,
            lowest: 0,
            adds_up: true,
            held: BTreeMap::new(),
            twice: Vec::new(),
        }
    }
}

impl ShelfFacts {
    fn changed(&mut self, by: i128, said: u64) {
        self.available += by;
        self.lowest = self.lowest.min(self.available);
        self.adds_up &= self.available == i128::from(said);
    }
}

/// All that is looked at in the logs of the services.
#[derive(Event, Clone, Debug)]
enum Fact {
    #[event(family)]
    Order(OrderEvent),
    #[event(family)]
    Payment(PaymentEvent),
    #[event(family)]
    Stock(StockEvent),
    #[event(family)]
    Shelf(ShelfEvent),
    #[event(family)]
    Notification(NotificationSent),
}

impl Facts {
    /// Adds what is in the books of the firms outside: of the gateway, of the notifier.
    pub fn take_books(&mut self, books: Books, gateway: bool, notifier: bool) {
        let Books {
            charges,
            refunds,
            told,
        } = books;
        if gateway {
            let approved = charges
                .into_iter()
                .filter(|charge| charge.outcome == Charged::Approved);
            for charge in approved {
                let (amount, currency) = (charge.amount, charge.currency);
                let charged = self.charged.entry(charge.order_id).or_default();
                charged.push(Money { amount, currency });
            }
            for refund in refunds {
                let (amount, currency) = (refund.amount, refund.currency);
                let refunded = self.refunded.entry(refund.order_id).or_default();
                refunded.push(Money { amount, currency });
            }
        }
        if notifier {
            for notice in told {
                *self.told.entry(notice.key).or_default() += 1;
            }
        }
    }

    /// Adds the facts of another part of the platform.
    pub fn add(&mut self, part: Self) {
        // Each is told by one service, or by the firm that one service speaks to.
        self.orders.extend(part.orders);
        self.payments.extend(part.payments);
        self.reservations.extend(part.reservations);
        self.wanted.extend(part.wanted);
        self.shelves.extend(part.shelves);
        self.charged.extend(part.charged);
        self.refunded.extend(part.refunded);
        self.told.extend(part.told);
        self.recorded.extend(part.recorded);
        self.recorded_for.extend(part.recorded_for);
        self.placed.extend(part.placed);
        self.given_up.extend(part.given_up);
    }

    /// Adds the orders that anybody placed on the topic of orders, as far as it keeps them.
    ///
    /// # Errors
    ///
    /// When the topic can't be read.
    pub async fn read_topic(&mut self, broker: &dyn Broker) -> Result<(), Error> {
        let catalog = Catalog::<OrderCreated>::new()?;
        let topic = OrderEvent::TOPIC.map(Topic::of);
        let specs = broker.topics().await?;
        for spec in specs
            .iter()
            .filter(|spec| Some(&spec.topic) == topic.as_ref())
        {
            for partition in 0..spec.partitions {
                let place = TopicPartition::new(spec.topic.clone(), partition);
                let mut from = broker.watermarks(&place).await?.first;
                loop {
                    let messages = broker.read(&place, from, PAGE_MESSAGES).await?;
                    for message in &messages {
                        self.message(&catalog, &place, message);
                    }
                    match messages.last() {
                        Some(last) => from = last.offset + 1,
                        None => break,
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a message of the topic of orders, if it places one. What can't be read is a dead letter, and told as that.
    fn message(
        &mut self,
        catalog: &Catalog<OrderCreated>,
        place: &TopicPartition,
        message: &Message,
    ) {
        let Ok(incoming) = wire::read(message) else {
            return;
        };
        let read = catalog.read(&incoming.event_type, incoming.data.as_str().as_bytes());
        let Ok(Read::Events(events)) = read else {
            return;
        };
        for (created, _) in events {
            let enveloped = || OrderId::try_from(incoming.aggregate_id.as_ref()?.to_string()).ok();
            let order_id = created.order_id.clone().or_else(enveloped);
            if let Some(order_id) = order_id.filter(|_| created.payment == PaymentMode::Auto) {
                let (topic, partition) = (&place.topic, place.partition);
                let at = format!("{topic}:{partition}:{}", message.offset);
                self.placed.entry(order_id).or_default().push(at);
            }
        }
    }

    /// Adds what is in the log of a service. What it imported is another service's to tell.
    ///
    /// # Errors
    ///
    /// When the log can't be read.
    pub async fn read(&mut self, store: &dyn Store) -> Result<(), Error> {
        let mut before = None;
        loop {
            let entries = store.audit(before, PAGE_RECORDS).await?;
            before = entries.last().map(|oldest| oldest.number);
            if before.is_none() {
                break;
            }
            let entries = entries.into_iter().map(|audited| audited.entry);
            let given_up = entries.filter(|entry| matches!(&*entry.action, "discard" | "skip"));
            self.given_up.extend(given_up.map(|entry| entry.subject));
        }
        let catalog = Catalog::<Fact>::new()?;
        let mut after = At::new(store.head().await?.epoch.0, 0);
        loop {
            let page = store
                .read_log(after, &LogFilter::default(), PAGE_RECORDS)
                .await?;
            for record in &page.records {
                let draft = &record.draft;
                let Some(stream) = draft
                    .stream
                    .as_ref()
                    .filter(|_| draft.kind == RecordKind::Event)
                else {
                    continue;
                };
                if let Read::Events(events) = catalog.read(&draft.event_type, &draft.data)? {
                    for (fact, _) in &events {
                        self.take(stream.id(), fact);
                    }
                }
            }
            if page.next == after {
                return Ok(());
            }
            after = page.next;
        }
    }

    /// Takes one fact, which happened to the aggregate `id`.
    fn take(&mut self, id: &str, fact: &Fact) {
        match fact {
            Fact::Order(event) => self.order(OrderId::of(id), event),
            Fact::Payment(event) => self.payment(OrderId::of(id), event),
            Fact::Stock(event) => self.stock(OrderId::of(id), event),
            Fact::Shelf(event) => self.shelf(event),
            Fact::Notification(sent) => {
                *self.recorded.entry(sent.key.clone()).or_default() += 1;
                *self.recorded_for.entry(sent.order_id.clone()).or_default() += 1;
            }
        }
    }

    /// Takes what happened to an order.
    pub fn order(&mut self, order_id: OrderId, event: &OrderEvent) {
        let order = self.orders.entry(order_id).or_default();
        match event {
            OrderEvent::Created(created) => {
                order.created += 1;
                order.money = Money {
                    amount: created.total_amount,
                    currency: created.currency.clone(),
                };
                order.waits_for_user = created.payment == PaymentMode::Manual;
            }
            OrderEvent::PaymentRequested(_) => order.waits_for_user = false,
            OrderEvent::Paid(_) => order.paid += 1,
            OrderEvent::Confirmed(_) => order.confirmed += 1,
            OrderEvent::Shipped(_) => order.shipped += 1,
            OrderEvent::Cancelled(_) => order.cancelled += 1,
        }
    }

    /// Takes what happened to a payment.
    pub fn payment(&mut self, order_id: OrderId, event: &PaymentEvent) {
        let payment = self.payments.entry(order_id).or_default();
        match event {
            PaymentEvent::Completed(completed) => {
                payment.completed += 1;
                payment.money = Money {
                    amount: completed.amount,
                    currency: completed.currency.clone(),
                };
            }
            PaymentEvent::Failed(_) => payment.failed += 1,
            PaymentEvent::Voided(_) => {}
            PaymentEvent::RefundRequested(_) => payment.refund_requested += 1,
            PaymentEvent::Refunded(_) => payment.refunded += 1,
        }
    }

    /// Takes what happened to a reservation.
    pub fn stock(&mut self, order_id: OrderId, event: &StockEvent) {
        if let StockEvent::Reserved(reserved) = event {
            self.wanted
                .insert(order_id.clone(), quantities(&reserved.items));
        }
        let reservation = self.reservations.entry(order_id).or_default();
        match event {
            StockEvent::Reserved(_) => reservation.reserved += 1,
            StockEvent::Rejected(_) => reservation.rejected += 1,
            StockEvent::Released(_) => reservation.released += 1,
            StockEvent::Taken(_) => reservation.taken += 1,
        }
    }

    /// Takes what happened on a shelf.
    pub fn shelf(&mut self, event: &ShelfEvent) {
        match event {
            ShelfEvent::Received(event) => {
                self.shelves
                    .entry(event.sku.clone())
                    .or_default()
                    .changed(event.qty.into(), event.available);
            }
            ShelfEvent::Reserved(event) => {
                let shelf = self.shelves.entry(event.sku.clone()).or_default();
                shelf.changed(-i128::from(event.qty), event.available);
                if shelf
                    .held
                    .insert(event.order_id.clone(), event.qty)
                    .is_some()
                {
                    shelf.twice.push(event.order_id.clone());
                }
            }
            ShelfEvent::Released(event) => {
                let shelf = self.shelves.entry(event.sku.clone()).or_default();
                shelf.changed(event.qty.into(), event.available);
                shelf.held.remove(&event.order_id);
            }
            ShelfEvent::Taken(event) => {
                let shelf = self.shelves.entry(event.sku.clone()).or_default();
                shelf.changed(0, event.available);
                shelf.held.remove(&event.order_id);
            }
        }
    }
}
