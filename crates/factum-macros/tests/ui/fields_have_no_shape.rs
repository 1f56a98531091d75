//! A field whose shape isn't known, and one that isn't an event.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
enum OrderEvent {
    #[event(name = "OrderCreated", version = 1)]
    Created { weight: Weight },
    #[event(family)]
    Other(Weight),
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Weight(u32);

fn main() {}
