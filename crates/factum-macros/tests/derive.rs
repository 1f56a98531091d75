//! What `#[derive(Event)]` makes, against the core's own catalog: the names, data and shapes that are stored.

mod derive {
    mod data;
    mod enums;
    mod families;
    mod shapes;
    mod structs;
    mod support;
    mod upcasts;
}
