//! Versions count from 1.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
enum Versions {
    #[event(name = "Zero", version = 0)]
    Zero,
    #[event(name = "Text", version = "1")]
    Text,
    #[event(name = "Half", version = 1.5)]
    Half,
    #[event(name = "Huge", version = 4294967296)]
    Huge,
    #[event(name = "Missing", version)]
    Missing,
    #[event(name = "Two", version = 1, version = 2)]
    Two,
}

fn main() {}
