//! Faults on demand: stores and brokers that fail, wait, repeat and forget exactly where a test says.
//!
//! [`Faults`] is the plan of one simulated world; [`FaultyStore`] and [`FaultyBroker`] pass every call on to what
//! they wrap, and ask the plan first. Each wrapper belongs to a node, which stands for a process: two of them over
//! one store are two processes, of which one may be paused while the other goes on.
//!
//! * A [`Rule`] lets the n-th call of a kind fail, wait for a [`Gate`], lose its answer, happen twice, or change
//!   places with the next.
//! * [`Faults::pause`] holds a whole node, as a stopped virtual machine is held: what it sent is on its way, and it
//!   goes on later as if nothing had happened.
//! * [`Faults::on_write`] calls a hook before and after every write. A hook that never answers is a crash at that
//!   very point.
//! * [`Faults::log`] is what was written, in order, and what became of it.
//!
//! There is no chance and no clock here: the same plan and the same calls give the same run. Whoever wants random
//! faults draws them from a seed and writes them into the plan.
//!
//! What the wrappers do is within the ports' contracts, so that code which keeps to these must cope with all of
//! it: commits are decided in the order in which they were first polled; one that stands on a commit which failed
//! here fails too; a producer that reported a failure is dead; messages of a partition keep their order.

mod broker;
mod consumer;
mod gate;
mod operation;
mod plan;
mod producer;
mod rule;
mod store;
mod views;

pub use broker::FaultyBroker;
pub use gate::Gate;
pub use operation::{Call, Entry, Moment, Operation};
pub use plan::{Faults, HookFuture};
pub use rule::Rule;
pub use store::FaultyStore;

#[cfg(test)]
mod tests;
