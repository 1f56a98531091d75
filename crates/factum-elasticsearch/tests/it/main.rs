//! Views on a search cluster under the port's suite, and what only they have to keep: steps of a write that end anywhere,
//! indexes that are lost, queries that show late what was written.

mod busy;
mod front;
mod losses;
mod secured;
mod shelf;
mod showing;
mod steps;
mod suites;
mod support;
