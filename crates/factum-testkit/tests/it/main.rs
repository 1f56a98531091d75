//! The memory adapters against the ports' conformance suites.

mod broker;
mod disk;
mod faults;
mod planted;
mod store;
mod views;
