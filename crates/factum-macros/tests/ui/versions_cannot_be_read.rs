//! Every stored version leads to the present one.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
enum Unread {
    #[event(name = "OrderCreated", version = 3, upcast(2 => same))]
    Created,
    #[event(name = "OrderPaid", version = 3)]
    Paid,
}

#[derive(Event, Clone, Debug)]
enum Present {
    #[event(name = "OrderCreated", version = 2, upcast(1 => same, 2 => same))]
    Created,
}

#[derive(Event, Clone, Debug)]
#[event(drop("OrderNoted", 1), drop("OrderNoted", 1))]
enum Twice {
    #[event(name = "OrderCreated", version = 2, upcast(1 => same, 1 => same))]
    Created,
}

#[derive(Event, Clone, Debug)]
#[event(split("OrderPlaced", 1 => [("OrderCreated", 1), ("OrderPayed", 1)], with = parts))]
enum Nowhere {
    #[event(name = "OrderCreated", version = 1, renamed_from("OrderMade", 1 => 2))]
    Created,
}

fn same(old: serde_json::Value) -> serde_json::Value {
    old
}

fn parts(_: serde_json::Value) -> Vec<(&'static str, serde_json::Value)> {
    Vec::new()
}

fn main() {}
