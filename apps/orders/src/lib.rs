//! The order platform: the reference application of Factum.
//!
//! Five services, in one process or in many, each the owner of its store, which speak to each other through topics alone:
//! [`users`] registers users, [`order`] takes orders, [`payment`] charges cards, [`stock`] puts things aside,
//! [`notification`] tells users what became of it. Where they are processes of their own, [`query`] answers what users
//! ask. What they share is in [`contracts`], and nothing else. The firms outside are in [`outside`]. [`platform`] wires
//! them; [`invariants`] says what no run may break.

pub mod contracts;
pub mod http;
pub mod invariants;
pub mod notification;
pub mod order;
pub mod outside;
pub mod payment;
pub mod peers;
pub mod platform;
pub mod prefixed;
pub mod query;
pub mod stock;
pub mod users;
