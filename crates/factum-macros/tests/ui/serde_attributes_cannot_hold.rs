//! Attributes of serde that would make data something else than the fields.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
#[serde(deny_unknown_fields)]
enum Denies {
    #[event(name = "Denied", version = 1)]
    Denied,
}

#[derive(Event, Clone, Debug)]
enum Replaces {
    #[event(name = "Replaced", version = 1)]
    #[serde(with = "replaced")]
    Replaced { number: u8 },
}

#[derive(Event, Clone, Debug)]
#[event(name = "Converted", version = 1)]
#[serde(into = "u8")]
struct Converts(u8);

#[derive(Event, Clone, Debug)]
#[event(name = "Tagged", version = 1)]
#[serde(tag = "type")]
struct Tagged {
    number: u8,
}

fn main() {}
