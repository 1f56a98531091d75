//! Upcasters make what serde can serialise, and fail with what can be displayed.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
#[event(split("Both", 1 => [("A", 2), ("B", 2)], with = makes_unknown))]
enum OrderEvent {
    #[event(name = "A", version = 2, upcast(1 => makes_unknown))]
    A,
    #[event(name = "B", version = 2, upcast(1 => fails_unshowably))]
    B,
    #[event(name = "C", version = 2, upcast(1 => missing))]
    C,
}

struct Unknown;

fn makes_unknown(_: u8) -> Unknown {
    Unknown
}

fn fails_unshowably(_: u8) -> Result<u8, Unknown> {
    Err(Unknown)
}

fn main() {}
