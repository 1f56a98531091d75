//! The page for other languages says what the code says.

use factum::{Catalog, Event, EventType, Headers, Message, Timestamp, Topic, wire};

use super::*;

const PAGE: &str = include_str!("../../../../docs/guide/wire.md");

fn types() -> impl Iterator<Item = EventType> {
    [
        UserRegistered::types(),
        OrderEvent::types(),
        PaymentEvent::types(),
        StockEvent::types(),
        ShelfEvent::types(),
    ]
    .into_iter()
    .flatten()
}

/// The row of an event in the page's table.
fn row(event: &EventType) -> String {
    let shape = (event.shape)().to_value();
    let required = |field: &&String| {
        let required = shape["required"].as_array();
        required.is_some_and(|all| all.iter().any(|name| name == field.as_str()))
    };
    let fields = shape["properties"].as_object().expect("it is an object");
    let (must, may): (Vec<_>, Vec<_>) = fields.keys().partition(required);
    let list = |fields: Vec<&String>| {
        let quoted: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
        quoted.join(", ")
    };
    format!(
        "| `{}` | {} | `{}` | {} | {} |\n",
        event.name,
        event.version,
        event.topic.expect("it is published"),
        list(must),
        list(may),
    )
}

#[test]
fn the_page_lists_every_event_as_it_is() {
    let rows: String = types().map(|event| row(&event)).collect();
    let (_, table) = PAGE
        .rsplit_once("|---|---|---|---|---|\n")
        .expect("it has a table");
    assert_eq!(table, rows);
}

#[test]
fn every_message_on_the_page_is_read() {
    let orders = Catalog::<OrderEvent>::new().unwrap();
    let blocks = PAGE.split("```json\n").skip(1);
    let mut names = Vec::new();
    for block in blocks {
        let (value, _) = block.split_once("```").expect("a block ends");
        let message = Message {
            topic: Topic::of("orders"),
            partition: 0,
            offset: 0,
            timestamp: Timestamp::from_micros(0),
            key: None,
            headers: Headers::new(),
            value: Some(value.to_owned().into()),
        };
        let incoming = wire::read(&message).unwrap();
        orders
            .read(&incoming.event_type, incoming.data.as_str().as_bytes())
            .unwrap();
        assert!(
            incoming
                .metadata
                .keys()
                .all(|name| ["actor", "source"].contains(&&**name)),
            "{incoming:?}"
        );
        names.push(incoming.event_type.to_string());
    }
    assert_eq!(
        names,
        ["OrderCreated v1", "OrderCreated v2", "OrderPaid v1"]
    );
}
