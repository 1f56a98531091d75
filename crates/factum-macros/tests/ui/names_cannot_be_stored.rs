//! Stored names and topics are short and plain.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
#[event(topic = "orders/new")]
enum Spaced {
    #[event(name = "Order Created", version = 1)]
    Created,
    #[event(name = "", version = 1)]
    Empty,
    #[event(name = "주문", version = 1)]
    Korean,
    #[event(name = Created, version = 1)]
    Bare,
}

#[derive(Event, Clone, Debug)]
enum Twice {
    #[event(name = "OrderCreated", version = 1)]
    Created,
    #[event(name = "OrderCreated", version = 2, upcast(1 => same))]
    CreatedAgain,
}

fn same(old: serde_json::Value) -> serde_json::Value {
    old
}

fn main() {}
