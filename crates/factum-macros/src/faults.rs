//! Several mistakes in one type, so that the compiler reports them together.

use proc_macro2::Span;
use syn::{Error, Result};

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Faults(Option<Error>);

impl Faults {
    /// Adds one.
    pub(crate) fn add(&mut self, span: Span, text: impl std::fmt::Display) {
        self.combine(Error::new(span, text));
    }

    /// The value, or nothing and one mistake more.
    pub(crate) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.combine(error)).ok()
    }

    /// `value` if no mistake was found.
    pub(crate) fn or<T>(self, value: T) -> Result<T> {
        self.0.map_or(Ok(value), Err)
    }

    fn combine(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }
}
