//! What has no one shape under one name.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
enum Empty {}

#[derive(Event, Clone, Debug)]
enum Generic<T> {
    #[event(name = "Generic", version = 1)]
    Of(T),
}

#[derive(Event, Clone, Debug)]
#[event(name = "Borrowed", version = 1)]
struct Borrowed<'a> {
    text: &'a str,
}

#[derive(Event, Clone, Copy)]
union Either {
    number: u8,
}

#[derive(Event, Clone, Debug)]
enum Tuples {
    #[event(name = "Pair", version = 1)]
    Pair(u8, u8),
    #[event(name = "Nothing", version = 1)]
    Nothing(),
}

#[derive(Event, Clone, Debug)]
enum Families {
    #[event(family)]
    Unit,
    #[event(family, name = "Named", version = 1)]
    Named(Tuples),
}

fn main() {}
