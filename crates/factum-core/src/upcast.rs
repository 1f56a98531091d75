//! What the code that `#[derive(Event)]` writes stands on: users' functions as upcasters, and shapes of stored types.
//!
//! An upcaster is an ordinary function between types that serde knows, with or without a `Result`. Here it
//! becomes a function between JSON values. Nothing in this file is meant to be called by hand; the derive
//! reaches it as `__private`.

use std::fmt::Display;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::UpcastError;

/// Older data as the argument of an upcaster.
pub fn older<T: DeserializeOwned>(data: Value) -> Result<T, UpcastError> {
    serde_json::from_value(data).map_err(|error| error.to_string())
}

/// What an upcaster returned.
///
/// A `Result` can itself be serialised, so no trait could tell the two kinds of upcasters apart by their
/// bounds. Method lookup can: what belongs to a type itself is found before what a trait gives it.
#[derive(Debug)]
pub struct Upcasted<T>(pub T);

impl<T: Serialize, E: Display> Upcasted<Result<T, E>> {
    /// The data, unless the upcaster refused.
    pub fn into_data(self) -> Result<Value, UpcastError> {
        self.0.map_err(refusal).and_then(data)
    }
}

impl<I, T, E> Upcasted<Result<I, E>>
where
    I: IntoIterator<Item = (&'static str, T)>,
    T: Serialize,
    E: Display,
{
    /// The parts, unless the upcaster refused.
    pub fn into_parts(self) -> Result<Vec<(&'static str, Value)>, UpcastError> {
        self.0.map_err(refusal).and_then(parts)
    }
}

/// An upcaster that makes one event and can't fail.
pub trait OneUpcasted {
    /// The data.
    fn into_data(self) -> Result<Value, UpcastError>;
}

impl<T: Serialize> OneUpcasted for Upcasted<T> {
    fn into_data(self) -> Result<Value, UpcastError> {
        data(self.0)
    }
}

/// An upcaster that makes several events and can't fail.
pub trait ManyUpcasted {
    /// The parts, each with its stored name.
    fn into_parts(self) -> Result<Vec<(&'static str, Value)>, UpcastError>;
}

impl<I, T> ManyUpcasted for Upcasted<I>
where
    I: IntoIterator<Item = (&'static str, T)>,
    T: Serialize,
{
    fn into_parts(self) -> Result<Vec<(&'static str, Value)>, UpcastError> {
        parts(self.0)
    }
}

/// The shape of `T`, which is stored as `name`.
pub fn shape<T: JsonSchema>(name: &'static str) -> Schema {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>();
    schema.insert("title".into(), name.into());
    schema
}

// The alternate form shows the causes too, where an error type (such as anyhow's) keeps them apart.
fn refusal(error: impl Display) -> UpcastError {
    format!("{error:#}")
}

fn data(made: impl Serialize) -> Result<Value, UpcastError> {
    serde_json::to_value(made).map_err(|error| error.to_string())
}

fn parts<T: Serialize>(
    made: impl IntoIterator<Item = (&'static str, T)>,
) -> Result<Vec<(&'static str, Value)>, UpcastError> {
    made.into_iter()
        .map(|(name, made)| Ok((name, data(made)?)))
        .collect()
}
