//! What derived code reaches for, so that a user's crate needs no dependencies of its own for it.
//!
//! Not part of the public interface: it changes together with `factum-macros`, without notice.

pub use schemars;
pub use serde;
pub use serde_json;

pub use crate::upcast::{ManyUpcasted, OneUpcasted, Upcasted, older, shape};
pub use crate::{Event, EventType, Upcast, UpcastError, UpcastStep};
