//! Simulation: a whole application on one thread, in virtual time, crashed again and again.
//!
//! A *life* is one run of the application, from its start to its end or crash, on an executor of its own. What
//! survives a life is what its adapters keep on their disks. Everything that the application does outwards passes a
//! *point*, where a life may end: before and after every commit, publication, call and answer. A *story* is a
//! sequence of lives on the same disks, ended by one that runs until all is quiet; its owner then checks what must
//! hold.
//!
//! What must hold is checked from outside: a [`Witness`] takes note of each commit, and [`checks`] looks at the whole
//! [`History`] with rules of its own. A story that fails is [shrunk](shrink()) before a person reads it.
//!
//! All chance comes from the story's seed, so the same seed gives the same story: a failure is repeated by its seed.
//! What that asks of the application: no threads, no ambient time or randomness, `biased` in every `select!`, and no
//! map without an order where order could be seen.

mod clock;
pub use clock::SimClock;
pub mod explore;
mod points;
pub use points::{Kind, Points};
mod story;
pub use story::{Ended, Story};
mod history;
pub use history::{Book, Chronicle, Done, History, Step, What};
mod witness;
pub use witness::{Meddler, Witness};
mod unguarded;
pub use unguarded::unguarded;
pub mod checks;
mod shrink;
pub use shrink::shrink;
