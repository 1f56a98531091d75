//! A stored type has a name and a version, always written out.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
enum OrderEvent {
    Created { order_id: String },
    #[event(name = "OrderPaid")]
    Paid,
    #[event(version = 2)]
    Shipped,
    #[event(name = "OrderClosed", version = 1)]
    Closed,
}

#[derive(Event, Clone, Debug)]
struct StockReceived {
    sku: String,
}

// A refused family is no further reason to complain.
fn is_an_event<E: factum::Event>() {}

fn main() {
    is_an_event::<OrderEvent>();
    is_an_event::<StockReceived>();
    assert_eq!(OrderEvent::CREATED, StockReceived::NAME);
}
