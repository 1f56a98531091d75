//! Only known words, each in its place.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
#[event(topics = "orders")]
enum Unknown {
    #[event(nam = "OrderCreated", version = 1)]
    Created,
    #[event(name = "OrderPaid", version = 1, upcasts(1 => same))]
    Paid,
}

#[derive(Event, Clone, Debug)]
#[event(name = "OrderEvent", version = 1)]
enum OnTheEnum {
    #[event(name = "OrderCreated", version = 1)]
    Created,
}

#[derive(Event, Clone, Debug)]
enum OnTheVariant {
    #[event(name = "OrderCreated", version = 1, topic = "orders")]
    Created,
}

#[derive(Event, Clone, Debug)]
#[event(family)]
struct OnTheStruct;

#[derive(Event, Clone, Debug)]
#[event(nmae = "OrderNoted", version = 1)]
struct UnknownOnTheStruct;

fn main() {}
