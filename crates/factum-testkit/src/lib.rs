//! What tests of Factum stand on: the ports in memory, time and chance under control, and the ports'
//! contracts as tests that every adapter runs.
//!
//! * [`MemoryStore`] is the reference adapter of the store port and of views within it. Its state lives in
//!   a [`MemoryDisk`] that survives the store, so that restarts, second processes and restores can be played.
//! * [`MemoryViewsEngine`] keeps views outside of stores, and can lose what it has taken.
//! * [`TestEnv`] is a clock that moves only when told, and randomness that follows from a seed.
//! * [`given()`], [`when_event`] and [`project`] begin tests of aggregates, reactors and projections.
//! * [`faults`] has stores and brokers that fail, wait and repeat exactly where a test says.
//! * [`StoreLayer`] makes a store that does some calls in its own way, such as wrong.
//! * [`Quiet`] waits until all that was started has come to its end.
//! * `Authority`, with the feature `certificates`, signs certificates for tests of TLS.
//! * [`engines`] finds the real servers that tests want, and says which were skipped without one.
//! * [`conformance`] has one suite for each port. Whoever writes an adapter runs it against their own.
//!
//! It stands on the core alone, so that the runtime's own tests can use it.

pub use factum_core::{Layered, StoreLayer};

pub mod broker;
pub use broker::{MemoryBroker, MemoryTopicsDisk};
#[cfg(feature = "certificates")]
mod certificates;
#[cfg(feature = "certificates")]
pub use certificates::Authority;
pub mod conformance;
pub mod engines;
mod env;
pub use env::{ManualClock, TestEnv};
pub mod faults;
pub use faults::{Faults, FaultyBroker, FaultyStore, Gate};
mod given;
pub use given::{
    Decided, Given, GivenEvent, Projected, Reacted, given, given_event, given_stored,
    given_stored_event, project, when_event,
};
mod quiet;
pub use quiet::{NotQuiet, Quiet};
mod store;
pub use store::{MemoryDisk, MemoryStore, MemoryViewsBackup, MemoryViewsEngine, StoreValue};
