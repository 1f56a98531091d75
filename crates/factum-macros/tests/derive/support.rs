//! Checks that several tests share.

use std::fmt::Debug;

use factum_core::{Catalog, Event, Part, Read, TypeName};
use serde_json::{Value, json};

/// What `event` is stored as, after it was read back and found the same.
#[track_caller]
pub(crate) fn stored<E: Event + PartialEq + Debug>(event: &E) -> Value {
    let (name, version) = event.stored_type();
    let data = event.encode().expect("it can be JSON");
    let read = catalog::<E>()
        .read(&TypeName::new(name, version), &data)
        .expect("it was just written");
    assert_eq!(read, Read::Events(vec![(event.clone(), Part::WHOLE)]));
    serde_json::from_slice(&data).expect("it is JSON")
}

/// The events that stored data of this name and version becomes.
#[track_caller]
pub(crate) fn read<E: Event>(name: &str, version: u32, data: &Value) -> Vec<E> {
    match catalog().read(&TypeName::new(name, version), data.to_string().as_bytes()) {
        Ok(Read::Events(events)) => events.into_iter().map(|(event, _)| event).collect(),
        Ok(Read::Foreign) => panic!("`{name}` is foreign"),
        Ok(Read::UnknownVersion) => panic!("version {version} of `{name}` is unknown"),
        Err(error) => panic!("{error}"),
    }
}

/// The shape of the stored type `name`.
#[track_caller]
pub(crate) fn shape<E: Event>(name: &str) -> Value {
    let stored = E::types()
        .into_iter()
        .find(|stored| stored.name == name)
        .expect("the family has such a type");
    json!((stored.shape)())
}

#[track_caller]
fn catalog<E: Event>() -> Catalog<E> {
    Catalog::new().expect("the family can be read")
}
