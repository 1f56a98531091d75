//! Upcasts, renames, splits and drops, written wrongly.

extern crate factum_core as factum;

use factum_macros::Event;

#[derive(Event, Clone, Debug)]
enum Upcasts {
    #[event(name = "A", version = 2, upcast(same))]
    A,
    #[event(name = "B", version = 2, upcast = same)]
    B,
    #[event(name = "C", version = 2, upcast(1 -> same))]
    C,
    #[event(name = "D", version = 2, upcast(0 => same))]
    D,
    #[event(name = "E", version = 2, upcast())]
    E,
    #[event(name = "F", version = 2, upcast(1 => |old| old))]
    F,
}

#[derive(Event, Clone, Debug)]
enum Renames {
    #[event(name = "A", version = 1, renamed_from("Old"))]
    A,
    #[event(name = "B", version = 1, renamed_from("Old", 1))]
    B,
    #[event(name = "C", version = 1, renamed_from("Old", 1 => 1, same))]
    C,
    #[event(name = "D", version = 1, renamed_from("Old", 1 => 1, with = same, 2))]
    D,
}

#[derive(Event, Clone, Debug)]
#[event(split("Old", 1 => split))]
enum Split {
    #[event(name = "A", version = 1)]
    A,
}

#[derive(Event, Clone, Debug)]
#[event(split("Old", 1 => ["A"], with = split))]
enum SplitInto {
    #[event(name = "A", version = 1)]
    A,
}

#[derive(Event, Clone, Debug)]
#[event(drop("Old"))]
enum Drop {
    #[event(name = "A", version = 1)]
    A,
}

fn main() {}
