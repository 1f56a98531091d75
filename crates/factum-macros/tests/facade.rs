//! Derived code in a crate that knows only the facade, and that is stricter with warnings than we are.

#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    non_ascii_idents,
    rust_2018_idioms,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unreachable_pub,
    unused,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

// All that derived code needs of the facade is `factum::__private`, which it has from the core.
extern crate factum_core as factum;

use factum::Event as _;
use factum_macros::Event;

/// A family with one of everything.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
#[event(
    topic = "everything",
    split("Both", 1 => [("Named", 2), ("Unit", 1)], with = both),
    split("Either", 1 => [("Unit", 1)], with = either),
    drop("Nothing", 1)
)]
pub enum Everything {
    /// With fields.
    #[event(name = "Named", version = 2, upcast(1 => again), renamed_from("Called", 1 => 2, with = checked))]
    Named {
        /// A number.
        number: u8,
    },
    /// Without.
    #[event(name = "Unit", version = 1)]
    Unit,
    /// As another type.
    #[event(name = "Newtype", version = 1, renamed_from("OldType", 1 => 1))]
    Newtype(Vec<u8>),
    /// Of another family.
    #[event(family)]
    Other(Lone),
}

/// A struct.
#[derive(Event, Clone, Debug, PartialEq, Eq, Default)]
#[event(name = "Lone", version = 1)]
#[serde(default)]
pub struct Lone {
    /// A text.
    pub text: String,
}

fn again(old: serde_json::Value) -> serde_json::Value {
    old
}

fn checked(old: serde_json::Value) -> Result<serde_json::Value, &'static str> {
    if old.is_object() {
        Ok(old)
    } else {
        Err("it had fields")
    }
}

fn both(old: serde_json::Value) -> Vec<(&'static str, serde_json::Value)> {
    vec![(Everything::NAMED, old.clone()), (Everything::UNIT, old)]
}

fn either(
    old: serde_json::Value,
) -> Result<Option<(&'static str, serde_json::Value)>, &'static str> {
    checked(old).map(|old| Some((Everything::UNIT, old)))
}

#[test]
fn derived_code_finds_the_facade_and_raises_no_warning_of_its_own() {
    assert_eq!(Everything::Unit.stored_type(), ("Unit", 1));
    assert_eq!(
        Everything::Other(Lone::default()).stored_type(),
        (Lone::NAME, 1)
    );
    assert!(factum::Catalog::<Everything>::new().is_ok());
}
