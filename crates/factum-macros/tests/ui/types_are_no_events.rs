//! A type that isn't an event at all, and one that lacks what every event has.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Clone, Debug)]
struct Forgotten;

#[derive(Event)]
#[event(name = "Bare", version = 1)]
struct Bare;

fn is_an_event<E: factum::Event>() {}

fn main() {
    is_an_event::<Forgotten>();
    is_an_event::<Bare>();
}
